//! The desired state: one typed file, from which the resources of all edges are made.

mod follow;
mod settings;

use std::fmt::Write as _;
use std::path::Path;

use sandgate_envoy_config::{EDGE_LOG, RenderError};
use serde_json::{Value, json};

pub use self::follow::{follow, load, load_next};
pub use self::settings::{EdgeSettings, StateError, parse};
use crate::kind::Kind;
use crate::resources::{self, Cut, CutError};
use crate::snapshot::Snapshot;
use crate::token_file::{self, InvalidTokens};
use crate::yaml::{YamlError, parse_yaml};

/// The name of the edge's certificate in `edge.yaml`.
const CERTIFICATE: &str = "edge_certificate";

/// What is wrong with a state. The configuration that was active before stays active.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the template can't be rendered: {0}")]
    Render(#[from] RenderError),
    #[error("the rendered template is not YAML: {0}")]
    Yaml(#[from] YamlError),
    #[error(transparent)]
    Cut(#[from] CutError),
    #[error(transparent)]
    Tokens(#[from] InvalidTokens),
    #[error("`{path}` can't be read: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("nothing would serve: {0}")]
    Empty(String),
}

/// The resources of an edge, and what is left out of them.
#[derive(Debug)]
pub struct Built {
    pub snapshot: Snapshot,
    /// One sentence for each resource that is left out.
    pub warnings: Vec<String>,
}

/// What happens if the certificate can't be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unreadable {
    /// The listener that needs it is left out, and the others serve.
    LeaveOut,
    /// The state is refused.
    Refuse,
}

/// Makes the resources. Reads the gateway token, and the certificate if the state names one. If the certificate can't be
/// read, its listener is left out.
///
/// # Errors
///
/// If the state is not valid, or the token can't be read.
pub fn build(settings: &EdgeSettings) -> Result<Built, BuildError> {
    build_with(settings, Unreadable::LeaveOut)
}

fn build_with(settings: &EdgeSettings, unreadable: Unreadable) -> Result<Built, BuildError> {
    let Cut { resources: mut snapshot, invalid, .. } = cut(settings)?;
    let mut warnings: Vec<String> = invalid.iter().map(ToString::to_string).collect();

    let token = token_file::read(&settings.gateway_token_file)?.first;
    let secret = json!({
        "name": "gateway_token",
        "generic_secret": { "secret": { "inline_string": token } },
    });
    resources::add(&mut snapshot, Kind::Secret, "gateway_token", &secret)?;
    match settings.certificate.as_deref().map(certificate) {
        Some(Ok(secret)) => resources::add(&mut snapshot, Kind::Secret, CERTIFICATE, &secret)?,
        Some(Err(error)) if unreadable == Unreadable::Refuse => return Err(error),
        Some(Err(error)) => warnings.push(error.to_string()),
        None => snapshot.remove_referrers(Kind::Secret, CERTIFICATE),
    }
    let rate = settings.log_rate.clone().map_or_else(default_log_rate, Ok)?;
    resources::add(&mut snapshot, Kind::TokenBucket, "access_log", &rate)?;

    warnings.extend(snapshot.remove_dangling().iter().map(ToString::to_string));
    if snapshot.of_kind(Kind::Listener).next().is_none() {
        return Err(BuildError::Empty(warnings.join("; ")));
    }
    Ok(Built { snapshot, warnings })
}

/// The configuration of an edge in two parts, without the secrets.
pub(crate) fn cut(settings: &EdgeSettings) -> Result<Cut, BuildError> {
    let rendered = settings.edge()?.render()?;
    Ok(resources::cut(parse_yaml(&rendered)?)?)
}

/// The rate in `envoy/edge-log.yaml`.
fn default_log_rate() -> Result<Value, BuildError> {
    let file = parse_yaml(EDGE_LOG)?;
    let mut rate = file.pointer("/resources/0/resource").cloned().unwrap_or_default();
    if let Some(rate) = rate.as_object_mut() {
        rate.remove("@type");
    }
    Ok(rate)
}

fn certificate(folder: &Path) -> Result<Value, BuildError> {
    let (chain, key) = (read(&folder.join("tls.crt"))?, read(&folder.join("tls.key"))?);
    Ok(json!({
        "name": CERTIFICATE,
        "tls_certificate": {
            "certificate_chain": { "inline_string": chain },
            "private_key": { "inline_string": key },
        },
    }))
}

fn read(path: &Path) -> Result<String, BuildError> {
    std::fs::read_to_string(path)
        .map_err(|source| BuildError::Unreadable { path: path.display().to_string(), source })
}

/// A list of resources with their versions, for logs and tests.
#[must_use]
pub fn summary(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for kind in Kind::ALL {
        for (name, resource) in snapshot.of_kind(kind) {
            // Writing to a string can't fail.
            let _: std::fmt::Result = writeln!(text, "{kind} {name} {}", resource.version.0);
        }
    }
    text
}
