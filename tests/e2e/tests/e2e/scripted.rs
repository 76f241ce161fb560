//! Sandboxes whose app responds with fixed bytes.

use anyhow::{Context as _, Result};
use sandgate_e2e::{Protocol, Sandbox, Stack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::support::{public_ports, sandbox_address};

/// The only exposed port.
pub(crate) const PORT: u16 = 7070;
/// The protocols of the clients.
pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::H2c];

/// Creates a public sandbox, and listens on its [`PORT`].
pub(crate) async fn listening(stack: &Stack) -> Result<(Sandbox, TcpListener)> {
    let sandbox = public_ports(stack, &[PORT]).await?;
    let listener = listen(stack, &sandbox).await?;
    Ok((sandbox, listener))
}

/// Listens on [`PORT`] of a sandbox.
pub(crate) async fn listen(stack: &Stack, sandbox: &Sandbox) -> Result<TcpListener> {
    Ok(TcpListener::bind((sandbox_address(stack, sandbox).await?, PORT)).await?)
}

/// Creates a public sandbox whose app responds to each connection with the bytes that `answer` returns for the request
/// head.
pub(crate) async fn scripted(stack: &Stack, answer: fn(&str) -> String) -> Result<Sandbox> {
    let (sandbox, listener) = listening(stack).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let head = read_until(&mut stream, "\r\n\r\n").await?;
                stream.write_all(answer(&head).as_bytes()).await?;
                stream.shutdown().await?;
                // Reads the bytes that a proxy would send through a tunnel: closing with unread bytes causes a reset.
                tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
                anyhow::Ok(())
            });
        }
    });
    Ok(sandbox)
}

/// Responds to one connection with the bytes of `answer` when its client has sent `end`. The task returns the bytes of
/// the client.
pub(crate) fn answer_once(
    listener: TcpListener,
    end: &'static str,
    answer: String,
) -> JoinHandle<Result<String>> {
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let read = read_until(&mut stream, end).await?;
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(read)
    })
}

async fn read_until(stream: &mut TcpStream, end: &str) -> Result<String> {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&read).contains(end) {
        let length = stream.read(&mut buffer).await?;
        read.extend(buffer.get(..length).filter(|it| !it.is_empty()).context("too little")?);
    }
    Ok(String::from_utf8_lossy(&read).into_owned())
}
