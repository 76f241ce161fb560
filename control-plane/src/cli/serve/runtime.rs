//! Options of the runtime that runs the sandboxes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ipnet::{IpNet, Ipv4Net};

use crate::runtime::{LocalSettings, SigningKey, WebhookSettings};

#[derive(Args)]
pub(super) struct LocalArgs {
    /// Program that is a sandbox, for --runtime local
    #[arg(long, value_name = "PATH", required_if_eq("runtime", "local"))]
    local_program: Option<PathBuf>,
    /// Loopback addresses of sandboxes, for --runtime local
    #[arg(long, value_name = "CIDR", default_value = "127.64.0.0/16")]
    local_cidr: Ipv4Net,
}

#[derive(Args)]
pub(super) struct WebhookArgs {
    /// URL that is told to start and stop sandboxes, for --runtime webhook
    #[arg(long, value_name = "URL", required_if_eq("runtime", "webhook"))]
    webhook_url: Option<String>,
    /// File with the secret that signs those calls
    #[arg(long, value_name = "FILE", required_if_eq("runtime", "webhook"))]
    webhook_secret_file: Option<PathBuf>,
    /// File with the certificates (PEM) that the URL's server must be signed by, instead of those
    /// that the system trusts
    #[arg(long, value_name = "FILE")]
    webhook_ca_file: Option<PathBuf>,
    /// How long one of those calls may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    webhook_timeout_ms: u64,
    /// How long one step of a sandbox's life may take, with all its calls, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    webhook_step_timeout_ms: u64,
    /// Addresses that the platform may give sandboxes; the private ranges and --local-cidr if left
    /// out. Can be repeated
    #[arg(long = "sandbox-cidr", value_name = "CIDR")]
    sandbox_cidrs: Vec<IpNet>,
}

/// What sandboxes may have for addresses, unless the operator says otherwise.
const PRIVATE: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

impl LocalArgs {
    pub(super) fn settings(self) -> anyhow::Result<LocalSettings> {
        let program = self.local_program.context("--runtime local needs --local-program")?;
        let program = std::fs::canonicalize(&program)
            .with_context(|| format!("--local-program {} can't be used", program.display()))?;
        Ok(LocalSettings { program, network: self.local_cidr })
    }
}

impl WebhookArgs {
    pub(super) fn settings(self, local: &LocalArgs) -> anyhow::Result<WebhookSettings> {
        let url = self.webhook_url.context("--runtime webhook needs --webhook-url")?;
        // The URL itself is not repeated: it may hold a secret.
        let url: reqwest::Url = url.parse().context("--webhook-url is no URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            anyhow::bail!("--webhook-url must start with http:// or https://");
        }
        let file =
            self.webhook_secret_file.context("--runtime webhook needs --webhook-secret-file")?;
        let mut sandbox_cidrs = self.sandbox_cidrs;
        if sandbox_cidrs.is_empty() {
            sandbox_cidrs = PRIVATE.iter().filter_map(|network| network.parse().ok()).collect();
            sandbox_cidrs.push(IpNet::V4(local.local_cidr));
        }
        Ok(WebhookSettings {
            url,
            key: SigningKey::new(&read("--webhook-secret-file", &file)?)?,
            trusted: self
                .webhook_ca_file
                .as_deref()
                .map(certificates)
                .transpose()?
                .unwrap_or_default(),
            sandbox_cidrs,
            call_timeout: Duration::from_millis(self.webhook_timeout_ms),
            step_timeout: Duration::from_millis(self.webhook_step_timeout_ms),
        })
    }
}

fn read(option: &str, path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path)
        .with_context(|| format!("{option} {} can't be read", path.display()))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<reqwest::Certificate>> {
    let text = read("--webhook-ca-file", path)?;
    let found = reqwest::Certificate::from_pem_bundle(text.as_bytes()).unwrap_or_default();
    if found.is_empty() {
        anyhow::bail!("--webhook-ca-file {} holds no PEM certificate", path.display());
    }
    Ok(found)
}
