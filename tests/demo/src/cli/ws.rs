//! `sandgate-demo ws`.

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use sandgate_demo::client::websocket::{self, Message, Socket};

use super::{connect, input};

/// Sends each message and prints the answer. Refusals are printed with their status and body, and
/// end with exit code 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: connect::Options,

    /// Send this text and wait for the answer; may be given several times
    #[arg(long = "message", value_name = "TEXT", required_unless_present = "interactive")]
    messages: Vec<String>,

    /// Then send the lines of standard input, until its end
    #[arg(long)]
    interactive: bool,

    /// Over HTTP/2 (RFC 8441) instead of HTTP/1.1
    #[arg(long)]
    http2: bool,

    /// Such as `ws://3000-my-env.sandbox.localhost:9443/socket`
    url: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let target = args.connect.target(&args.url)?;
    let mut socket = match args.http2 {
        true => args.connect.answer(websocket::open_over_http2(&target)).await??.socket,
        false => args.connect.answer(websocket::open(&target)).await??.socket,
    };
    for message in &args.messages {
        socket.send(Message::text(message)).await.context("cannot send")?;
        loop {
            let received = args.connect.answer(socket.next()).await?;
            if print(received.context("the server closed before it answered")??)? {
                break;
            }
        }
    }
    if args.interactive {
        converse(&mut socket).await?;
    }
    socket.close(None).await.context("cannot close")?;
    // What is still on its way comes before the server's own close.
    while let Some(received) = args.connect.answer(socket.next()).await? {
        match received? {
            // Whoever has both close frames is done; the connection may end as it likes.
            Message::Close(_) => break,
            message => _ = print(message)?,
        }
    }
    Ok(())
}

/// Sends lines and prints messages as they come, until standard input ends.
async fn converse(socket: &mut Socket) -> anyhow::Result<()> {
    let mut lines = input::lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line {
                Some(line) => {
                    let line = line.context("cannot read standard input")?;
                    socket.send(Message::text(line)).await.context("cannot send")?;
                }
                None => return Ok(()),
            },
            received = socket.next() => {
                print(received.context("the server closed")??)?;
            }
        }
    }
}

/// Prints a message with content; `false` if it had none.
fn print(message: Message) -> anyhow::Result<bool> {
    match message {
        Message::Text(text) => println!("{}", text.trim_end_matches('\n')),
        Message::Binary(bytes) => println!("[{} bytes of binary]", bytes.len()),
        Message::Close(frame) => {
            let reason = frame.map_or_else(|| "no reason given".into(), |it| it.to_string());
            bail!("the server closed: {reason}");
        }
        Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => return Ok(false),
    }
    Ok(true)
}
