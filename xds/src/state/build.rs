//! From the settings of a group to its resources.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sandgate_envoy_config::{EDGE_LOG, RenderError};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::StateError;
use super::settings::{EdgeSettings, Module};
use crate::kind::Kind;
use crate::resources::{self, Cut, CutError};
use crate::snapshot::Snapshot;
use crate::token_file::{self, InvalidTokens};
use crate::yaml::{YamlError, parse_yaml};

/// The name of the edge's certificate in `edge.yaml`.
pub(super) const CERTIFICATE: &str = "edge_certificate";
/// How every wasm module begins.
const WASM_MAGIC: &[u8] = b"\0asm";

/// What is wrong with a state. The configuration that was active before stays active.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("group `{name}`: {reason}")]
    Group { name: String, reason: Box<Self> },
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
    #[error("the module `{path}` {reason}")]
    Module { path: String, reason: String },
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
pub(super) enum Unreadable {
    /// The listener that needs it is left out, and the others serve.
    LeaveOut,
    /// The state is refused.
    Refuse,
}

/// Makes the resources. Reads the gateway token, and the certificate and the module if the settings name them. If the
/// certificate can't be read, its listener is left out.
///
/// # Errors
///
/// If the settings are not valid, or a file can't be read.
pub fn build(settings: &EdgeSettings) -> Result<Built, BuildError> {
    build_with(settings, Unreadable::LeaveOut)
}

pub(super) fn build_with(
    settings: &EdgeSettings,
    unreadable: Unreadable,
) -> Result<Built, BuildError> {
    let mut rendered = render(settings)?;
    if let Some(module) = &settings.module {
        replace_code(&mut rendered, &code(module)?);
    }
    let Cut { resources: mut snapshot, invalid, .. } = resources::cut(rendered)?;
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

/// The part of the configuration that only Envoy's bootstrap can contain.
pub(crate) fn bootstrap(settings: &EdgeSettings) -> Result<Value, BuildError> {
    Ok(resources::cut(render(settings)?)?.bootstrap)
}

fn render(settings: &EdgeSettings) -> Result<Value, BuildError> {
    Ok(parse_yaml(&settings.edge()?.render()?)?)
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

/// The module as a part of the filter's configuration. Envoy can also fetch a module by its hash, but it applies the
/// configuration before it has the module, and denies all requests meanwhile; see
/// `docs/decisions/0028-module-with-the-configuration.md`.
fn code(module: &Module) -> Result<Value, BuildError> {
    let path = module.file.display().to_string();
    let bytes = std::fs::read(&module.file)
        .map_err(|source| BuildError::Unreadable { path: path.clone(), source })?;
    let refused = |reason: String| Err(BuildError::Module { path: path.clone(), reason });
    if !bytes.starts_with(WASM_MAGIC) {
        return refused("is not a wasm module".to_owned());
    }
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    match &module.sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&hash) => {
            refused(format!("has the SHA-256 {hash}, and the state says {expected}"))
        }
        _ => Ok(json!({ "local": { "inline_bytes": BASE64_STANDARD.encode(bytes) } })),
    }
}

/// Replaces the file of each wasm module.
fn replace_code(json: &mut Value, code: &Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(|item| replace_code(item, code)),
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                if key == "code" && value.pointer("/local/filename").is_some() {
                    value.clone_from(code);
                } else {
                    replace_code(value, code);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

pub(super) fn read(path: &Path) -> Result<String, BuildError> {
    std::fs::read_to_string(path)
        .map_err(|source| BuildError::Unreadable { path: path.display().to_string(), source })
}
