//! `sandgate explain`: the decision about a request to a sandbox, or about a connection out of one, with the path to it. The
//! functions that decide are those of the enforcers.

mod inbound;
mod outbound;

use std::io::Read as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::json;

use super::management::ManagementOptions;
use super::output::Output;

/// The exit status if the answer is a denial.
const DENIED: u8 = 3;
/// The exit status if the answer depends on an address that was not given.
const DEPENDS: u8 = 4;
/// The maximum number of bytes of a credential.
const MAX_CREDENTIAL: u64 = 8_192;

/// The options of `sandgate explain`.
#[derive(Args)]
pub(super) struct Explain {
    /// URL of a request to a sandbox; or the id or the name of a sandbox
    #[arg(value_name = "URL|SANDBOX")]
    about: String,
    /// With a URL: the API key or personal access token of the request; `-` reads it from standard input, where other users of
    /// this machine can't see it. With a sandbox: the destination, as in `sandgate policy check`
    #[arg(value_name = "CREDENTIAL|DESTINATION")]
    with: Option<String>,
    /// Configuration of the ingress filter as JSON. Default: the domain is what follows the first label of the URL's host, and all
    /// other settings have their defaults
    #[arg(long, value_name = "FILE")]
    filter: Option<PathBuf>,
    /// Settings of the operator for network policies, as in `sandgate policy check`
    #[arg(long, value_name = "FILE")]
    operator: Option<PathBuf>,
    /// Organization of a request with a personal access token (`X-Forwarded-Organization-Id`)
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// Project of a request with a personal access token (`X-Forwarded-Project-Id`)
    #[arg(long, value_name = "ID")]
    project: Option<String>,
    #[command(flatten)]
    options: ManagementOptions,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Answer {
    Allow,
    Deny,
    /// The connection is allowed or denied by an address that was not given.
    DependsOnAddress,
}

/// A decision, and what led to it.
struct Explanation {
    answer: Answer,
    /// The decision, and the rule or the code that is the reason.
    decision: String,
    rule: String,
    /// What was found on the way, in order.
    steps: Vec<(&'static str, String)>,
}

impl Explain {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let store = self.options.open_store()?;
        let output = Output::new(self.options.json);
        let explanation = if self.about.contains("://") {
            let credential = self.with.map(read_credential).transpose()?;
            let request = inbound::Request {
                url: &self.about,
                credential,
                organization: self.organization,
                project: self.project,
            };
            inbound::explain(store.as_ref(), &request, self.filter.as_deref())?
        } else {
            let destination = self.with.context(
                "name a destination after the sandbox, such as `example.com:443`; a URL needs its scheme (`https://…`)",
            )?;
            outbound::explain(store.as_ref(), &self.about, &destination, self.operator.as_deref())?
        };
        explanation.print(&output)?;
        Ok(match explanation.answer {
            Answer::Allow => ExitCode::SUCCESS,
            Answer::Deny => ExitCode::from(DENIED),
            Answer::DependsOnAddress => ExitCode::from(DEPENDS),
        })
    }
}

/// The credential, which no output repeats.
fn read_credential(text: String) -> anyhow::Result<String> {
    if text != "-" {
        return Ok(text);
    }
    let mut credential = String::new();
    let read = std::io::stdin().lock().take(MAX_CREDENTIAL).read_to_string(&mut credential);
    read.context("the credential can't be read from standard input")?;
    Ok(credential.trim().to_owned())
}

impl Explanation {
    fn print(&self, output: &Output) -> anyhow::Result<()> {
        if output.is_json() {
            let steps: Vec<_> = self
                .steps
                .iter()
                .map(|(what, found)| json!({ "step": what, "found": found }))
                .collect();
            return output.one(&json!({
                "allowed": match self.answer {
                    Answer::Allow => Some(true),
                    Answer::Deny => Some(false),
                    Answer::DependsOnAddress => None,
                },
                "decision": self.decision,
                "rule": self.rule,
                "steps": steps,
            }));
        }
        let ends = [("decision", self.decision.clone()), ("rule", self.rule.clone())];
        let lines = self.steps.iter().chain(&ends);
        Output::plain(
            &lines.map(|(what, found)| format!("{what:11}  {found}\n")).collect::<String>(),
        )
    }
}
