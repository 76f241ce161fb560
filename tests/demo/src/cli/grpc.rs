//! `sandgate-demo grpc`.

use anyhow::{anyhow, bail};
use futures_util::stream::{self, StreamExt};
use sandgate_demo::client::grpc::{self, Connection};
use sandgate_demo::proto::{EchoRequest, EchoResponse};
use serde::Serialize;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{connect, input};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Print the names of the services, by reflection
    List(Common),
    /// Echo messages, one call each, and print what the sandbox received
    Echo {
        #[command(flatten)]
        common: Common,
        /// Message to send; may be repeated
        #[arg(long = "message", value_name = "TEXT", required = true)]
        messages: Vec<String>,
    },
    /// Echo messages over one bidirectional stream
    Chat {
        #[command(flatten)]
        common: Common,
        /// Message to send; may be repeated
        #[arg(long = "message", value_name = "TEXT", required_unless_present = "interactive")]
        messages: Vec<String>,
        /// Then send the lines of standard input, until its end
        #[arg(long)]
        interactive: bool,
    },
    /// Print the health of the server
    Health {
        #[command(flatten)]
        common: Common,
        /// Check this service instead of the whole server
        #[arg(long, default_value = "")]
        service: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    #[command(flatten)]
    connect: connect::Options,

    /// URL of the server, such as `http://50051-my-env.sandbox.localhost:9443`
    url: String,
}

impl Common {
    async fn open(&self) -> anyhow::Result<Connection> {
        let target = self.connect.target(&self.url)?;
        Ok(self.connect.wait(grpc::connect(&target)).await??)
    }
}

pub(super) async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::List(common) => {
            let connection = common.open().await?;
            let services = common.connect.wait(connection.list_services()).await?;
            for service in services.map_err(describe)? {
                println!("{service}");
            }
        }
        Command::Echo { common, messages } => {
            let mut client = common.open().await?.echo();
            for message in messages {
                let reply = common.connect.wait(client.echo(EchoRequest { message })).await?;
                let shown = Shown::from(reply.map_err(describe)?.into_inner());
                println!("{}", serde_json::to_string_pretty(&shown)?);
            }
        }
        Command::Chat { common, messages, interactive } => {
            chat(&common, messages, interactive).await?;
        }
        Command::Health { common, service } => {
            let mut client = common.open().await?.health();
            let reply = common.connect.wait(client.check(HealthCheckRequest { service })).await?;
            let status = reply.map_err(describe)?.into_inner().status();
            println!("{}", status.as_str_name());
            if status != ServingStatus::Serving {
                bail!("the service is not serving");
            }
        }
    }
    Ok(())
}

async fn chat(common: &Common, messages: Vec<String>, interactive: bool) -> anyhow::Result<()> {
    let mut client = common.open().await?.echo();
    let mut pending = messages.len();
    let given = stream::iter(messages);
    let requests = if interactive {
        let lines = ReceiverStream::new(input::lines());
        let lines = tokio_stream::StreamExt::map_while(lines, |line| match line {
            Ok(line) => Some(line),
            Err(error) => {
                eprintln!("sandgate-demo: cannot read standard input: {error}");
                None
            }
        });
        given.chain(lines).boxed()
    } else {
        given.boxed()
    };
    let requests = requests.map(|message| EchoRequest { message });
    let replies = common.connect.wait(client.bidi_stream(requests)).await?;
    let mut replies = replies.map_err(describe)?.into_inner();
    loop {
        // In interactive mode there is no timeout, because the user may type at any time.
        let reply = match interactive && pending == 0 {
            true => replies.message().await,
            false => common.connect.wait(replies.message()).await?,
        };
        let Some(reply) = reply.map_err(describe)? else { break };
        println!("{}", reply.message);
        pending = pending.saturating_sub(1);
    }
    if pending > 0 {
        bail!("the stream ended with {pending} messages unanswered");
    }
    Ok(())
}

/// The printed form of an echo.
#[derive(Serialize)]
struct Shown {
    message: String,
    sandbox_id: String,
    sandbox_name: String,
    authority: String,
    peer: String,
    connection: u64,
    metadata: Vec<String>,
}

impl From<EchoResponse> for Shown {
    fn from(response: EchoResponse) -> Self {
        let call = response.call.unwrap_or_default();
        let metadata = call.metadata.into_iter();
        Self {
            message: response.message,
            sandbox_id: call.sandbox_id,
            sandbox_name: call.sandbox_name,
            authority: call.authority,
            peer: call.peer,
            connection: call.connection,
            metadata: metadata.map(|item| format!("{}: {}", item.key, item.value)).collect(),
        }
    }
}

/// `gRPC status 5 NOT_FOUND: …`.
#[expect(clippy::needless_pass_by_value, reason = "what `map_err` gives")]
fn describe(status: Status) -> anyhow::Error {
    let code = status.code();
    anyhow!("gRPC status {} {}: {}", i32::from(code), name(code), status.message())
}

/// The name of a code in the gRPC specification.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names_from_the_specification() {
        assert_eq!(name(Code::Ok), "OK");
        assert_eq!(name(Code::PermissionDenied), "PERMISSION_DENIED");
        assert_eq!(name(Code::FailedPrecondition), "FAILED_PRECONDITION");
    }
}
