//! A platform for the webhook runtime: its sandboxes are all the upstream of the benchmark, and a resume takes a while.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// The time that a start or a resume takes: long enough for a thousand requests to arrive in the meantime.
const START: Duration = Duration::from_secs(1);

pub(crate) struct Webhook {
    address: SocketAddr,
    running_since: Arc<Mutex<Option<Instant>>>,
}

impl Webhook {
    pub(crate) async fn start(upstream: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let running_since = Arc::new(Mutex::new(None));
        let since = Arc::clone(&running_since);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, upstream, Arc::clone(&since)));
            }
        });
        Ok(Self { address, running_since })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The moment at which the last sandbox was reported as running.
    pub(crate) fn running_since(&self) -> Option<Instant> {
        self.running_since.lock().ok().and_then(|since| *since)
    }
}

async fn answer(
    mut stream: TcpStream,
    upstream: IpAddr,
    since: Arc<Mutex<Option<Instant>>>,
) -> Result<()> {
    let mut received = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&received).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length")
                .then(|| value.trim().parse::<usize>().ok())?
        });
        if body.len() < length.unwrap_or_default() {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        }
        let answer = if body.contains("\"action\":\"suspend\"") {
            r#"{"state":"suspended"}"#.to_owned()
        } else if body.contains("\"action\":\"stop\"") {
            r#"{"state":"terminated"}"#.to_owned()
        } else {
            tokio::time::sleep(START).await;
            if let Ok(mut since) = since.lock() {
                *since = Some(Instant::now());
            }
            format!(r#"{{"state":"running","address":"{upstream}"}}"#)
        };
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length";
        stream.write_all(format!("{head}: {}\r\n\r\n{answer}", answer.len()).as_bytes()).await?;
        received.clear();
    }
}
