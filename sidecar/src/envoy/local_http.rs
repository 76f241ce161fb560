//! One small HTTP request to Envoy on loopback: not worth a client library.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How much of an answer is read.
const MOST: u64 = 1 << 20;

/// Asks `127.0.0.1:port` for `path`: status and body.
///
/// # Errors
///
/// Where there is no whole answer within `limit`.
pub async fn ask(port: u16, path: &str, limit: Duration) -> io::Result<(u16, String)> {
    tokio::time::timeout(limit, exchange(port, path)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn exchange(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: sandgate-agent\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}
