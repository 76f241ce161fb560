//! Cuts a rendered configuration of Envoy into resources.
//!
//! The templates in `envoy/` are the only source: the static configuration and the resources are made from the same text. The
//! resources differ from it where a part of a listener is a resource of its own:
//!
//! | in the file | as resources |
//! |---|---|
//! | `route_config` of a connection manager | a route, by `rds` |
//! | the filter `sandgate.ingress` | an extension with the name of its form, by `config_discovery` |
//! | a secret in a file | a secret, by `sds_config` |
//! | the rate of the access log in a file | a token bucket, by `config_source` |

mod references;

use serde_json::{Value, json};

use crate::descriptors::{MessageError, encode, to_any, version};
use crate::kind::Kind;
use crate::snapshot::{Resource, Snapshot};
use references::References;

/// The filter that is a resource of its own, so that its configuration can change without the listener.
const INGRESS_FILTER: &str = "sandgate.ingress";

/// A configuration can't be cut into resources.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CutError {
    #[error("the {kind} `{name}`: {reason}")]
    Invalid { kind: Kind, name: String, reason: MessageError },
    #[error("the bootstrap: {0}")]
    Bootstrap(MessageError),
    #[error("two different {kind}s have the name `{name}`")]
    Ambiguous { kind: Kind, name: String },
    #[error("the configuration has no list `{0}`")]
    Missing(&'static str),
}

/// The parts of a configuration.
#[derive(Debug)]
pub struct Cut {
    pub resources: Snapshot,
    /// The resources that are left out, because they are not valid. The others do not depend on them.
    pub invalid: Vec<CutError>,
    /// The rest of the file: what only Envoy's bootstrap can contain.
    pub bootstrap: Value,
}

/// Cuts `configuration`, a complete bootstrap in JSON.
///
/// # Errors
///
/// If the configuration has no listeners and clusters.
pub fn cut(mut configuration: Value) -> Result<Cut, CutError> {
    let mut cutter = Cutter::default();
    let mut taken = |key: &'static str| {
        let list = configuration.pointer_mut(&format!("/static_resources/{key}"));
        match list.map(Value::take) {
            Some(Value::Array(list)) => Ok(list),
            _ => Err(CutError::Missing(key)),
        }
    };
    let (listeners, clusters) = (taken("listeners")?, taken("clusters")?);
    for cluster in clusters {
        cutter.add(Kind::Cluster, cluster);
    }
    for listener in listeners {
        cutter.add(Kind::Listener, listener);
    }
    if let Some(rest) = configuration.as_object_mut() {
        rest.remove("static_resources");
    }
    Ok(Cut { resources: cutter.snapshot, invalid: cutter.invalid, bootstrap: configuration })
}

/// Adds a resource that the rendered configuration only refers to, such as a secret.
///
/// # Errors
///
/// If `json` is not a resource of this kind.
pub fn add(snapshot: &mut Snapshot, kind: Kind, name: &str, json: &Value) -> Result<(), CutError> {
    let resource = resource(kind, json, Vec::new()).map_err(|reason| CutError::Invalid {
        kind,
        name: name.to_owned(),
        reason,
    })?;
    match snapshot.insert(kind, name, resource.clone()) {
        Some(other) if other.version != resource.version => {
            Err(CutError::Ambiguous { kind, name: name.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Checks a bootstrap.
///
/// # Errors
///
/// If Envoy's bootstrap does not have one of the fields.
pub fn check_bootstrap(bootstrap: &Value) -> Result<(), CutError> {
    encode("envoy.config.bootstrap.v3.Bootstrap", bootstrap).map(drop).map_err(CutError::Bootstrap)
}

/// Where Envoy gets a resource: from the stream that sent the resource which names it. Without a bound on the first answer, a
/// listener waits until it is complete and does not serve without its filter.
fn from_ads() -> Value {
    json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" })
}

fn resource(
    kind: Kind,
    json: &Value,
    references: Vec<(Kind, String)>,
) -> Result<Resource, MessageError> {
    Ok(Resource { version: version(kind, json), body: to_any(kind, json)?, references })
}

#[derive(Default)]
struct Cutter {
    snapshot: Snapshot,
    invalid: Vec<CutError>,
}

impl Cutter {
    /// Adds a cluster or a listener, with the resources that it contains.
    fn add(&mut self, kind: Kind, mut json: Value) {
        let name = json.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let mut references = References::default();
        references.replace(&mut json);
        for (kind, name, inner) in references.contained {
            self.insert(kind, name, &inner, Vec::new());
        }
        self.insert(kind, name, &json, references.names);
    }

    fn insert(&mut self, kind: Kind, name: String, json: &Value, references: Vec<(Kind, String)>) {
        match resource(kind, json, references) {
            Ok(resource) => {
                let other = self.snapshot.insert(kind, &name, resource.clone());
                if other.is_some_and(|other| other.version != resource.version) {
                    self.snapshot.remove(kind, &name);
                    self.invalid.push(CutError::Ambiguous { kind, name });
                }
            }
            Err(reason) => self.invalid.push(CutError::Invalid { kind, name, reason }),
        }
    }
}
