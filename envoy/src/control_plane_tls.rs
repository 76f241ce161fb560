//! TLS from the edge to the control plane.

use std::path::PathBuf;

use serde_json::{Value, json};

/// How the edge connects to both APIs of the control plane.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ControlPlaneTls {
    /// The issuers of the control plane's certificate.
    pub authorities: Authorities,
    /// The DNS name that the certificate must have.
    pub name: String,
    /// A folder with `tls.crt` and `tls.key`, which the edge shows to the gateway API.
    pub certificate: Option<PathBuf>,
}

/// Certificates in PEM.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authorities {
    /// A file of the edge, which Envoy reads when it starts.
    File(PathBuf),
    Text(String),
}

/// The parts of `edge.yaml` for plain text or TLS; see [`insert`](crate::insert).
#[must_use]
pub fn control_plane_parts(tls: Option<&ControlPlaneTls>) -> &'static str {
    match tls {
        None => include_str!("../edge-control-plane-plain-text.yaml"),
        Some(_) => include_str!("../edge-control-plane-tls.yaml"),
    }
}

/// The issuers, as Envoy's `DataSource`.
pub(crate) fn authorities(tls: Option<&ControlPlaneTls>) -> Value {
    match tls.map(|tls| &tls.authorities) {
        None => json!({}),
        Some(Authorities::File(path)) => json!({ "filename": path }),
        Some(Authorities::Text(text)) => json!({ "inline_string": text }),
    }
}

/// The edge's own certificates, as a list of Envoy's `TlsCertificate`.
pub(crate) fn certificates(tls: Option<&ControlPlaneTls>) -> Value {
    match tls.and_then(|tls| tls.certificate.as_ref()) {
        None => json!([]),
        Some(folder) => json!([{
            "certificate_chain": { "filename": folder.join("tls.crt") },
            "private_key": { "filename": folder.join("tls.key") },
        }]),
    }
}
