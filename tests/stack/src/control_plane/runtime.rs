//! Where the sandboxes of a control plane run.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::artifacts::{egress_filter, filters, program};

/// Where sandboxes run.
#[derive(Clone, Debug)]
pub enum Runtime {
    /// Processes of the control plane, with addresses of this range.
    Local {
        /// Like `127.64.0.0/16`.
        cidr: String,
    },
    /// Network namespaces of this machine.
    Namespaces(Namespaces),
    /// An operator's platform.
    Webhook {
        /// The URL that the control plane calls.
        url: String,
        /// The secret that signs the calls.
        secret: String,
        /// The sandboxes' addresses.
        cidr: String,
    },
}

/// The settings of `--runtime namespaces`.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// Like `10.203.0.0/16`.
    pub cidr: String,
    /// The value of `--namespaces-internet`.
    pub internet: String,
    pub resolvers: Vec<IpAddr>,
    pub operator_file: Option<PathBuf>,
    pub envoy: PathBuf,
    /// The program of a sandbox, instead of the demo sandbox.
    pub program: Option<PathBuf>,
}

impl Runtime {
    /// Whether a sidecar of each sandbox enforces its network policy.
    #[must_use]
    pub fn has_sidecars(&self) -> bool {
        matches!(self, Self::Namespaces(_))
    }

    /// Adds the options of `sandgate serve`.
    pub(super) fn add_options(&self, command: &mut Command, webhook_secret: &Path) -> Result<()> {
        match self {
            Self::Local { cidr } => {
                command.args(["--runtime", "local", "--local-cidr", cidr]);
                command.arg("--local-program").arg(program("sandgate-demo")?);
            }
            Self::Namespaces(namespaces) => namespaces.add_options(command)?,
            Self::Webhook { url, cidr, .. } => {
                command.args(["--runtime", "webhook", "--webhook-url", url]);
                command.arg("--webhook-secret-file").arg(webhook_secret);
                command.args(["--sandbox-cidr", cidr]);
            }
        }
        Ok(())
    }
}

impl Namespaces {
    fn add_options(&self, command: &mut Command) -> Result<()> {
        let form = filters()?;
        let sandbox = self.program.clone().map_or_else(|| program("sandgate-demo"), Ok)?;
        command.args(["--runtime", "namespaces", "--namespaces-cidr", &self.cidr]);
        command.arg("--namespaces-program").arg(sandbox);
        command.args(["--namespaces-internet", &self.internet]);
        for resolver in &self.resolvers {
            command.args(["--namespaces-resolver", &resolver.to_string()]);
        }
        command.arg("--namespaces-sidecar").arg(program("sandgate-sidecar")?);
        command.arg("--namespaces-envoy").arg(&self.envoy);
        command.arg("--namespaces-filter").arg(egress_filter(form)?);
        command.arg(format!("--namespaces-sidecar-option=--filters={}", form.name()));
        if let Some(file) = &self.operator_file {
            let file = file.display();
            command.arg(format!("--namespaces-sidecar-option=--operator-file={file}"));
        }
        Ok(())
    }
}
