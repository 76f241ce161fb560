//! `sandgate conformance`: checks a server of the gateway API.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use sandgate_policy::gateway_api::CredentialKind;
use sandgate_xds::token_file;

use super::https;
use super::output::{Output, printable};
use crate::conformance::{Checks, Client, Problem, TIMEOUT, Target, run};

/// The exit status if no check failed and some could not run.
const NOT_RUN: u8 = 3;

/// The options of `sandgate conformance`.
#[derive(Args)]
pub(super) struct Conformance {
    /// URL of the gateway API, without `/gateway`: `https://`, or `http://` on this machine
    #[arg(long)]
    url: String,
    /// File with the issuers of the server's certificate; default: the system's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Folder with `tls.crt` and `tls.key`, for a server that demands a certificate
    #[arg(long, value_name = "DIR")]
    certificate: Option<PathBuf>,
    /// File with the gateway token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Id or name of a sandbox that runs; it should have a name
    #[arg(long, value_name = "SANDBOX")]
    sandbox: String,
    /// File with a credential that is valid for the sandbox's project
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Kind of the credential
    #[arg(long, value_enum, default_value_t = Kind::ApiKey)]
    credential_kind: Kind,
    /// Shell command that changes the sandbox so that a lookup shows it, such as a PATCH of its exposed ports; it must end when your
    /// API has acknowledged the change. Its variable NUMBER is another one each time, and can be a port
    #[arg(long, value_name = "COMMAND")]
    change: Option<String>,
    /// Shell command that gives the sandbox another address, or stops and starts it
    #[arg(long, value_name = "COMMAND")]
    relocate: Option<String>,
    /// Shell command that revokes the credential; it runs last
    #[arg(long, value_name = "COMMAND")]
    revoke: Option<String>,
    /// The server has no network policies, because no sandbox has a sidecar
    #[arg(long)]
    without_sidecars: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    ApiKey,
    PersonalAccessToken,
    Session,
}

impl Conformance {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let url = https::url("--url", &self.url)?;
        let http = https::client(self.ca.as_deref(), self.certificate.as_deref(), TIMEOUT)?;
        let token = token_file::read(&self.token_file)?.first;
        let credential = self.credential_file.map(|path| {
            let text = std::fs::read_to_string(&path);
            text.map(|text| text.trim().to_owned())
                .with_context(|| format!("`{}` can't be read", path.display()))
        });
        let target = Target {
            client: Client::new(http, &url, token),
            sandbox: self.sandbox,
            credential: credential.transpose()?,
            credential_kind: match self.credential_kind {
                Kind::ApiKey => CredentialKind::ApiKey,
                Kind::PersonalAccessToken => CredentialKind::PersonalAccessToken,
                Kind::Session => CredentialKind::Session,
            },
            has_policies: !self.without_sidecars,
            change: self.change,
            relocate: self.relocate,
            revoke: self.revoke,
        };
        let mut printed = Ok(());
        let mut report = |sentence: &str, outcome: &Result<(), Problem>| {
            let line = match outcome {
                Ok(()) => format!("ok       {sentence}\n"),
                Err(Problem::Failed(reason)) => {
                    format!("FAILED   {sentence}\n         {}\n", printable(reason))
                }
                Err(Problem::NotRun(reason)) => {
                    format!("not run  {sentence}: {}\n", printable(reason))
                }
            };
            if let Err(error) = Output::plain(&line) {
                printed = Err(error);
            }
        };
        let mut checks = Checks::new(&mut report);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(run(&target, &mut checks));
        let (passed, failed, not_run) = (checks.passed, checks.failed, checks.not_run);
        printed?;
        Output::plain(&format!("{passed} passed, {failed} failed, {not_run} not run\n"))?;
        Ok(match (failed, not_run) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::from(NOT_RUN),
            _ => ExitCode::FAILURE,
        })
    }
}
