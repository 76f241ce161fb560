//! Options of both clients.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use sandgate_demo::client::Target;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Connect to this address instead of resolving the URL's host
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,

    /// Trust the certificates (PEM) in this file, for `https` and `wss`
    #[arg(long, value_name = "FILE")]
    cacert: Option<PathBuf>,

    /// Send this header; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Fail if a response takes longer than N seconds
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_seconds: u64,
}

/// Shows only the number of headers, because they may contain credentials.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("connect", &self.connect)
            .field("cacert", &self.cacert)
            .field("headers", &self.headers.len())
            .field("timeout_seconds", &self.timeout_seconds)
            .finish()
    }
}

impl Options {
    pub(super) fn target(&self, url: &str) -> anyhow::Result<Target> {
        let mut target = Target::new(url)?;
        if let Some(address) = &self.connect {
            target = target.via(address);
        }
        if let Some(file) = &self.cacert {
            let certificates = std::fs::read(file)
                .with_context(|| format!("--cacert {} can't be read", file.display()))?;
            let trusted = target.trusting(&certificates);
            target = trusted.with_context(|| format!("--cacert {}", file.display()))?;
        }
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .context("--header must be `Name: value`, and one has no colon")?;
            target = target.header(name.trim(), value.trim())?;
        }
        Ok(target)
    }

    /// Waits for a response, at most `--timeout-seconds`.
    pub(super) async fn wait<T>(&self, response: impl Future<Output = T>) -> anyhow::Result<T> {
        let limit = Duration::from_secs(self.timeout_seconds);
        tokio::time::timeout(limit, response).await.with_context(|| {
            format!("no response within {} s (see --timeout-seconds)", self.timeout_seconds)
        })
    }
}
