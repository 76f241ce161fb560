//! The values of the two files that Envoy reads as SDS secrets: the gateway token and the edge's certificate.

use std::path::PathBuf;

use crate::template::{RenderError, collect, render};
use crate::value::Value;

/// `gateway-token.yaml`.
pub const GATEWAY_TOKEN_TEMPLATE: &str = include_str!("../gateway-token.yaml");
/// `tls-certificate.yaml`.
pub const TLS_CERTIFICATE_TEMPLATE: &str = include_str!("../tls-certificate.yaml");

/// The gateway's own credential for the gateway API. It has no `Debug`, because it is secret.
pub struct GatewayToken(pub String);

impl GatewayToken {
    /// Returns the file that `Edge::gateway_token_sds` points to.
    ///
    /// # Errors
    ///
    /// If the token contains characters that a token can't have.
    pub fn render(&self) -> Result<String, RenderError> {
        self.render_template(GATEWAY_TOKEN_TEMPLATE)
    }

    /// Renders another template with the same name.
    ///
    /// # Errors
    ///
    /// As [`GatewayToken::render`], and if the template contains another name.
    pub fn render_template(&self, template: &str) -> Result<String, RenderError> {
        render(template, &collect([("SANDGATE_GATEWAY_TOKEN", Value::secret(&self.0))])?)
    }
}

/// The directory that contains the edge's `tls.crt` and `tls.key`.
#[derive(Clone, Debug)]
pub struct TlsCertificate(pub PathBuf);

impl TlsCertificate {
    /// Returns the file that `Edge::tls_sds` points to.
    ///
    /// # Errors
    ///
    /// If the path can't be a value.
    pub fn render(&self) -> Result<String, RenderError> {
        self.render_template(TLS_CERTIFICATE_TEMPLATE)
    }

    /// Renders another template with the same name.
    ///
    /// # Errors
    ///
    /// As [`TlsCertificate::render`], and if the template contains another name.
    pub fn render_template(&self, template: &str) -> Result<String, RenderError> {
        render(template, &collect([("SANDGATE_TLS_DIR", Value::path(&self.0))])?)
    }
}
