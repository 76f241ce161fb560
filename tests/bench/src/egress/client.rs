//! The clients in the sandbox. They run on a thread in the sandbox's network namespace.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::network::{DESTINATION, Network};
use crate::serve::{CHUNK, DOWN};

/// A number of connections or of bytes, and the time that they took.
pub(super) struct Measured {
    pub(super) count: f64,
    pub(super) seconds: f64,
}

/// Connections at the same time.
const PARALLEL: usize = 16;

/// Connects, reads the banner, and closes, again and again.
pub(super) fn connections(network: &Network, port: u16, time: Duration) -> Result<Measured> {
    network.in_sandbox(async move {
        let begun = Instant::now();
        let mut clients = tokio::task::JoinSet::new();
        for _ in 0..PARALLEL {
            clients.spawn(async move {
                let mut count = 0_u32;
                while begun.elapsed() < time {
                    let mut stream = TcpStream::connect((DESTINATION, port)).await?;
                    let mut banner = [0; 9];
                    stream.read_exact(&mut banner).await?;
                    ensure!(&banner == b"220 ready", "a wrong banner");
                    count += 1;
                }
                anyhow::Ok(count)
            });
        }
        let mut count = 0;
        while let Some(one) = clients.join_next().await {
            count += one??;
        }
        Ok(Measured { count: f64::from(count), seconds: begun.elapsed().as_secs_f64() })
    })
}

pub(super) fn upload(network: &Network, port: u16, time: Duration) -> Result<Measured> {
    network.in_sandbox(async move {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(SocketAddr::from((DESTINATION, port))).await?;
        // Neither TLS nor HTTP: of letters alone, each byte could be part of the method of a request.
        let chunk: Vec<u8> = (0..=u8::MAX).cycle().take(CHUNK).collect();
        while begun.elapsed() < time {
            stream.write_all(&chunk).await?;
        }
        stream.shutdown().await?;
        let count = stream.read_u64().await.context("the server did not say what it received")?;
        Ok(Measured { count: count as f64, seconds: begun.elapsed().as_secs_f64() })
    })
}

pub(super) fn download(network: &Network, port: u16, time: Duration) -> Result<Measured> {
    network.in_sandbox(async move {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(SocketAddr::from((DESTINATION, port))).await?;
        stream.write_u8(DOWN).await?;
        let (mut chunk, mut count) = (vec![0; CHUNK], 0_usize);
        while begun.elapsed() < time {
            let read = stream.read(&mut chunk).await?;
            ensure!(read > 0, "the server closed the connection");
            count += read;
        }
        Ok(Measured { count: count as f64, seconds: begun.elapsed().as_secs_f64() })
    })
}
