//! `sandgate-demo ws`.

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use sandgate_demo::client::websocket::{self, Message, Socket};

use super::{connect, input};

/// Sends each message and prints the response. If the upgrade is refused, prints the status and the
/// body, and exits with code 1.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    connect: connect::Options,

    /// Send this text and wait for the response; may be repeated
    #[arg(long = "message", value_name = "TEXT", required_unless_present = "interactive")]
    messages: Vec<String>,

    /// Then send the lines of standard input, until its end
    #[arg(long)]
    interactive: bool,

    /// Use HTTP/2 (RFC 8441) instead of HTTP/1.1
    #[arg(long)]
    http2: bool,

    /// URL of the WebSocket, such as `ws://3000-my-env.sandbox.localhost:9443/socket`
    url: String,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let target = args.connect.target(&args.url)?;
    let mut socket = match args.http2 {
        true => args.connect.wait(websocket::open_over_http2(&target)).await??.socket,
        false => args.connect.wait(websocket::open(&target)).await??.socket,
    };
    for message in &args.messages {
        socket.send(Message::text(message)).await.context("cannot send")?;
        loop {
            let received = args.connect.wait(socket.next()).await?;
            if print(received.context("the server closed before it responded")??)? {
                break;
            }
        }
    }
    if args.interactive {
        converse(&mut socket).await?;
    }
    socket.close(None).await.context("cannot close")?;
    // Messages in flight arrive before the server's Close frame.
    while let Some(received) = args.connect.wait(socket.next()).await? {
        match received? {
            // Both Close frames have been exchanged, so the end of the TCP connection does not
            // matter.
            Message::Close(_) => break,
            message => _ = print(message)?,
        }
    }
    Ok(())
}

/// Sends the lines of standard input and prints messages when they arrive, until standard input
/// ends.
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

/// Prints a message with content. Returns `false` for other messages.
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
