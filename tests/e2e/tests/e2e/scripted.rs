//! Sandboxes whose app answers byte for byte.

use anyhow::{Context as _, Result};
use sandgate_e2e::{Protocol, Sandbox, Stack};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The one port.
pub(crate) const PORT: u16 = 7070;
/// What clients speak to the edge.
pub(crate) const PROTOCOLS: [Protocol; 2] = [Protocol::Http1, Protocol::H2c];

/// A public sandbox, and a listener on its [`PORT`].
pub(crate) async fn listening(stack: &Stack) -> Result<(Sandbox, TcpListener)> {
    let address = stack.network.host(9);
    stack.control_plane.platform()?.pin(address);
    let request = json!({
        "name": "odd", "exposed_ports": [PORT], "allow_unauthenticated_access": true,
    });
    let sandbox = stack.sandbox(request).await?;
    Ok((sandbox, TcpListener::bind((address, PORT)).await?))
}

/// A sandbox whose app answers each connection byte for byte, by the head of its request.
pub(crate) async fn scripted(stack: &Stack, answer: fn(&str) -> String) -> Result<Sandbox> {
    let (sandbox, listener) = listening(stack).await?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut read = Vec::new();
                let mut buffer = [0; 4096];
                while !String::from_utf8_lossy(&read).contains("\r\n\r\n") {
                    let length = stream.read(&mut buffer).await?;
                    read.extend(buffer.get(..length).filter(|it| !it.is_empty()).context("end")?);
                }
                let head = String::from_utf8_lossy(&read).into_owned();
                stream.write_all(answer(&head).as_bytes()).await?;
                stream.shutdown().await?;
                // What a proxy would send through a tunnel is read, so that it is no reset.
                while stream.read(&mut buffer).await? > 0 {}
                anyhow::Ok(())
            });
        }
    });
    Ok(sandbox)
}

/// What a client of HTTP/1.1 reads until the connection ends.
pub(crate) async fn raw(stack: &Stack, host: &str, path: &str, more: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{more}\r\n");
    let received = stack.edge().raw(request.as_bytes()).await?;
    Ok(String::from_utf8_lossy(&received).into_owned())
}
