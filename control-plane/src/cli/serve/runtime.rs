//! The options of the runtimes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use ipnet::{IpNet, Ipv4Net};

use super::namespaces::NamespacesArgs;
use crate::api::EgressEnforcement;
use crate::runtime::{LocalSettings, SigningKey, WebhookSettings};
use crate::serve::RuntimeSettings;

#[derive(Args)]
pub(super) struct RuntimeArgs {
    /// Platform that runs the sandboxes
    #[arg(long, value_enum, default_value_t = RuntimeKind::Local)]
    runtime: RuntimeKind,
    #[command(flatten)]
    local: LocalArgs,
    #[command(flatten)]
    namespaces: NamespacesArgs,
    #[command(flatten)]
    webhook: WebhookArgs,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum RuntimeKind {
    /// Processes on this machine, for evaluation
    Local,
    /// Network namespaces of this machine, each behind a sidecar, for evaluation; needs root and `--egress enforced`
    Namespaces,
    /// Your platform, through `--webhook-url`
    Webhook,
}

impl RuntimeArgs {
    pub(super) fn settings(self, egress: EgressEnforcement) -> anyhow::Result<RuntimeSettings> {
        Ok(match self.runtime {
            RuntimeKind::Local => RuntimeSettings::Local(self.local.settings()?),
            RuntimeKind::Namespaces => {
                anyhow::ensure!(
                    egress == EgressEnforcement::Enforced,
                    "with `--runtime namespaces`, sidecars enforce network policies; add `--egress enforced`"
                );
                RuntimeSettings::Namespaces(Box::new(self.namespaces.settings()?))
            }
            RuntimeKind::Webhook => {
                RuntimeSettings::Webhook(Box::new(self.webhook.settings(&self.local)?))
            }
        })
    }
}

#[derive(Args)]
struct LocalArgs {
    /// Program that runs as a sandbox, for --runtime local
    #[arg(long, value_name = "PATH", required_if_eq("runtime", "local"))]
    local_program: Option<PathBuf>,
    /// Loopback range for the addresses of sandboxes, for --runtime local
    #[arg(long, value_name = "CIDR", default_value = "127.64.0.0/16")]
    local_cidr: Ipv4Net,
}

#[derive(Args)]
struct WebhookArgs {
    /// URL of the platform that starts and stops sandboxes, for --runtime webhook
    #[arg(long, value_name = "URL", required_if_eq("runtime", "webhook"))]
    webhook_url: Option<String>,
    /// File with the secret that signs the calls to the platform
    #[arg(long, value_name = "FILE", required_if_eq("runtime", "webhook"))]
    webhook_secret_file: Option<PathBuf>,
    /// File with the CA certificates (PEM) for the platform; default: the system's certificates
    #[arg(long, value_name = "FILE")]
    webhook_ca_file: Option<PathBuf>,
    /// Timeout of one call to the platform, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 15_000)]
    webhook_timeout_ms: u64,
    /// Timeout of one start, suspension, resume or stop with all its calls, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 120_000)]
    webhook_step_timeout_ms: u64,
    /// Range for the addresses of sandboxes; default: the private ranges and --local-cidr. Can be repeated
    #[arg(long = "sandbox-cidr", value_name = "CIDR")]
    sandbox_cidrs: Vec<IpNet>,
}

/// The default ranges for the addresses of sandboxes.
const PRIVATE_RANGES: [&str; 4] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"];

impl LocalArgs {
    fn settings(self) -> anyhow::Result<LocalSettings> {
        let program = self.local_program.context("--runtime local needs --local-program")?;
        let program = std::fs::canonicalize(&program)
            .with_context(|| format!("--local-program {} can't be used", program.display()))?;
        Ok(LocalSettings { program, network: self.local_cidr })
    }
}

impl WebhookArgs {
    fn settings(self, local: &LocalArgs) -> anyhow::Result<WebhookSettings> {
        let url = self.webhook_url.context("--runtime webhook needs --webhook-url")?;
        // The error does not contain the URL, which may have a secret.
        let url: reqwest::Url = url.parse().context("--webhook-url is not a URL")?;
        if !matches!(url.scheme(), "http" | "https") {
            anyhow::bail!("--webhook-url must start with http:// or https://");
        }
        let file =
            self.webhook_secret_file.context("--runtime webhook needs --webhook-secret-file")?;
        let mut sandbox_cidrs = self.sandbox_cidrs;
        if sandbox_cidrs.is_empty() {
            sandbox_cidrs =
                PRIVATE_RANGES.iter().filter_map(|network| network.parse().ok()).collect();
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
        anyhow::bail!("--webhook-ca-file {} has no PEM certificate", path.display());
    }
    Ok(found)
}
