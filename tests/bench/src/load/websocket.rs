//! A WebSocket: the upgrade, ten messages there and back, and the end.

use anyhow::{Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Load, http1};

pub(crate) const MESSAGES: usize = 10;

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
/// A text frame of five bytes, as a client masks it.
const FRAME: [u8; 11] = [0x81, 0x85, 1, 2, 3, 4, b'h' ^ 1, b'e' ^ 2, b'l' ^ 3, b'l' ^ 4, b'o' ^ 1];

pub(super) async fn converse(load: &Load, number: u64) -> Result<()> {
    let mut stream = load.tcp().await?;
    stream.write_all(&http1::request(load, number, UPGRADE)).await?;
    let mut received = Vec::new();
    let status = http1::read_answer(&mut stream, &mut received).await?;
    ensure!(status == 101, "HTTP status {status}");
    for _ in 0..MESSAGES {
        stream.write_all(&FRAME).await?;
        let mut echo = [0; FRAME.len()];
        stream.read_exact(&mut echo).await?;
        ensure!(echo == FRAME, "another message came back");
    }
    Ok(())
}
