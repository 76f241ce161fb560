//! Options that both clients have.

use std::future::Future;
use std::time::Duration;

use anyhow::Context;
use sandgate_demo::client::Target;

#[derive(clap::Args)]
pub(super) struct Options {
    /// Connect to this address instead of resolving the URL's host
    #[arg(long, value_name = "HOST:PORT")]
    connect: Option<String>,

    /// Send this header; may be given several times
    #[arg(long = "header", value_name = "NAME: VALUE")]
    headers: Vec<String>,

    /// Give up if an answer takes longer
    #[arg(long, value_name = "N", default_value_t = 60)]
    timeout_seconds: u64,
}

/// Headers are counted, not shown: they hold credentials.
impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("connect", &self.connect)
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
        for header in &self.headers {
            let (name, value) = header
                .split_once(':')
                .context("--header must be `Name: value`, and one has no colon")?;
            target = target.header(name.trim(), value.trim())?;
        }
        Ok(target)
    }

    /// Waits for an answer, but not for ever.
    pub(super) async fn answer<T>(&self, answer: impl Future<Output = T>) -> anyhow::Result<T> {
        let limit = Duration::from_secs(self.timeout_seconds);
        tokio::time::timeout(limit, answer).await.with_context(|| {
            format!("no answer within {} s (see --timeout-seconds)", self.timeout_seconds)
        })
    }
}
