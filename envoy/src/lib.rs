//! Envoy's configuration: the templates in this folder, and the typed values that complete them.
//!
//! A template is a YAML file with `${NAME}` where a value belongs. Each template has a type with one field for each of
//! its names, such as [`Edge`] for `edge.yaml`. Its `render` method returns the YAML that Envoy reads. A value can't
//! change the structure of the file: [`Value`] refuses text that would end the scalar that contains it. Where two settings
//! need different text, the template names a part, and each setting has a file of parts: [`insert`].

mod control_plane_tls;
mod edge;
mod environment;
mod filters;
mod parts;
mod secrets;
mod setting;
mod sidecar;
mod template;
mod upstream;
mod value;

pub use control_plane_tls::{Authorities, ControlPlaneTls, control_plane_parts};
pub use edge::{EDGE_LOG, EDGE_TEMPLATE, Edge};
pub use environment::EnvironmentError;
pub use filters::{Filters, INGRESS_CONFIGURATION};
pub use parts::insert;
pub use secrets::{GATEWAY_TOKEN_TEMPLATE, GatewayToken, TLS_CERTIFICATE_TEMPLATE, TlsCertificate};
pub use setting::UnknownName;
pub use sidecar::{EGRESS_LOG, EgressFilter, SIDECAR_TEMPLATE, Sidecar};
pub use template::{RenderError, Values, render};
pub use upstream::Upstream;
pub use value::{Value, ValueError, endpoints};

#[cfg(test)]
mod tests {
    use crate::template::tests_support::names;
    use crate::{Edge, Filters, SIDECAR_TEMPLATE, Upstream, environment, sidecar};

    #[test]
    fn every_name_of_the_templates_is_documented() {
        let page = include_str!("../../docs/configuration.md");
        let edge = |filters: Filters, upstream: Upstream| {
            let edge = environment::tests_support::edge_with_tls();
            Edge { filters, upstream, ..edge }.template().unwrap()
        };
        for template in [
            &edge(Filters::Wasm, Upstream::DynamicForwardProxy),
            &edge(Filters::Native, Upstream::OriginalDst),
            &Filters::Wasm.egress_template(SIDECAR_TEMPLATE).unwrap(),
            &Filters::Native.egress_template(SIDECAR_TEMPLATE).unwrap(),
            &Filters::Wasm.egress_template(sidecar::EGRESS_TCP_TEMPLATE).unwrap(),
            &Filters::Native.egress_template(sidecar::EGRESS_HTTP_TEMPLATE).unwrap(),
        ] {
            let names = names(template);
            assert!(!names.is_empty());
            for name in names {
                assert!(page.contains(&format!("`{name}`")), "`{name}` is missing");
            }
        }
    }
}
