//! HTTP/1.1 over a connection that stays open, in plain text or TLS.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::{Load, Protocol};

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

pub(super) struct Client {
    stream: Box<dyn Stream>,
    /// The request, if all requests are the same.
    same: Option<Vec<u8>>,
    received: Vec<u8>,
}

impl Client {
    pub(super) async fn connect(load: &Load) -> Result<Self> {
        let stream: Box<dyn Stream> = match load.protocol {
            Protocol::Tls => Box::new(load.tls().await?),
            _ => Box::new(load.tcp().await?),
        };
        let same = (load.hosts <= 1).then(|| request(load, load.first, ""));
        Ok(Self { stream, same, received: Vec::with_capacity(4096) })
    }

    pub(super) async fn send(&mut self, load: &Load, number: u64) -> Result<()> {
        match &self.same {
            Some(request) => self.stream.write_all(request).await?,
            None => self.stream.write_all(&request(load, number, "")).await?,
        }
        self.received.clear();
        let status = read_answer(&mut self.stream, &mut self.received).await?;
        // The end of a denial says why.
        let start = self.received.len().saturating_sub(80);
        let end = || String::from_utf8_lossy(self.received.get(start..).unwrap_or_default());
        ensure!(status == 200, "HTTP status {status}, …{}", end());
        Ok(())
    }
}

/// A request, with further header lines at its end.
pub(super) fn request(load: &Load, number: u64, more: &str) -> Vec<u8> {
    let mut text = format!("GET /health HTTP/1.1\r\nhost: {}\r\n", load.authority(number));
    for (name, value) in load.headers(number) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(more);
    text.push_str("\r\n");
    text.into_bytes()
}

/// Reads one answer to its end; returns its status.
pub(super) async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin),
    received: &mut Vec<u8>,
) -> Result<u16> {
    let end = loop {
        if let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(received).await? == 0 {
            bail!("the connection was closed");
        }
    };
    let head = String::from_utf8_lossy(received.get(..end).context("a head")?).into_owned();
    let status = head.split(' ').nth(1).context("a status")?.parse()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = end + 4 + length.unwrap_or_default();
    while received.len() < whole {
        if stream.read_buf(received).await? == 0 {
            bail!("the connection was closed within a body");
        }
    }
    Ok(status)
}
