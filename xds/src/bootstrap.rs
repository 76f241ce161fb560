//! The bootstrap of an edge: the part of its configuration that does not come by the stream, and where the stream begins.

mod servers;

use std::path::PathBuf;

use serde_json::{Value, json};

pub use self::servers::Servers;
use crate::resources::check_bootstrap;
use crate::state::{self, BuildError, EdgeSettings};

/// The cluster of the control plane's xDS server.
const CLUSTER: &str = "sandgate_xds";
/// The name of the node's token as a secret of the bootstrap.
const TOKEN: &str = "sandgate_xds_token";

/// Where an edge finds the server, and how it authenticates.
pub struct BootstrapSettings {
    /// The edge's name; the token is valid for it alone.
    pub node: String,
    pub token: String,
    pub servers: Servers,
    /// Plain text without it, which is for loopback only.
    pub tls: Option<TlsFiles>,
}

/// Files on the edge's machine.
pub struct TlsFiles {
    /// The name that the certificate of each server has: a DNS name, or an address.
    pub server_name: String,
    /// The issuers of the servers' certificates.
    pub trusted_ca: PathBuf,
    /// The edge's own certificate, which names the node.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Returns the bootstrap as JSON, which Envoy reads like YAML.
///
/// # Errors
///
/// If the settings can't be rendered.
pub fn bootstrap(
    settings: &EdgeSettings,
    connection: &BootstrapSettings,
) -> Result<Value, BuildError> {
    let mut bootstrap = state::bootstrap(settings)?;
    // Until the first answer arrives the edge is not ready, however long that takes.
    let source = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
    if let Some(fields) = bootstrap.as_object_mut() {
        fields.insert("node".to_owned(), json!({ "id": connection.node, "cluster": "sandgate" }));
        fields.insert(
            "dynamic_resources".to_owned(),
            json!({
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "grpc_services": [{ "envoy_grpc": { "cluster_name": CLUSTER } }],
                    "set_node_on_first_message_only": true,
                },
                "cds_config": source,
                "lds_config": source,
            }),
        );
        fields.insert(
            "static_resources".to_owned(),
            json!({
                "clusters": [cluster(connection)],
                "secrets": [{
                    "name": TOKEN,
                    "generic_secret": { "secret": { "inline_string": connection.token } },
                }],
            }),
        );
    }
    check_bootstrap(&bootstrap)?;
    Ok(bootstrap)
}

fn cluster(connection: &BootstrapSettings) -> Value {
    let mut cluster = json!({
        "name": CLUSTER,
        "type": "STRICT_DNS",
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": connection.servers.endpoints,
        },
        // A server that can't be reached, or whose stream is reset, gets no new stream for some seconds: the next one in the order
        // of preference does. If none works, Envoy tries all of them. A server that refuses the stream stays preferred.
        "outlier_detection": {
            "split_external_local_origin_errors": true,
            "consecutive_local_origin_failure": 1,
            "enforcing_consecutive_local_origin_failure": 100,
            "enforcing_local_origin_success_rate": 0,
            "enforcing_consecutive_5xx": 0,
            "enforcing_success_rate": 0,
            "interval": "1s",
            "base_ejection_time": "5s",
            "max_ejection_time": "30s",
            "max_ejection_percent": 100,
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {
                    // Notices within seconds that a server disappeared without closing.
                    "connection_keepalive": { "interval": "5s", "timeout": "3s" },
                } },
                // As a secret of the bootstrap, so that `config_dump` does not show it.
                "http_filters": [
                    {
                        "name": "envoy.filters.http.credential_injector",
                        "typed_config": {
                            "@type": "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
                            "overwrite": true,
                            "allow_request_without_credential": false,
                            "credential": {
                                "name": "envoy.http.injected_credentials.generic",
                                "typed_config": {
                                    "@type": "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic",
                                    "header_value_prefix": "Bearer ",
                                    "credential": { "name": TOKEN },
                                },
                            },
                        },
                    },
                    {
                        "name": "envoy.filters.http.upstream_codec",
                        "typed_config": { "@type": "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec" },
                    },
                ],
            },
        },
    });
    if let (Some(fields), Some(tls)) = (cluster.as_object_mut(), &connection.tls) {
        fields.insert("transport_socket".to_owned(), transport(tls));
    }
    cluster
}

fn transport(tls: &TlsFiles) -> Value {
    let common = json!({
        "tls_params": { "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" },
        "alpn_protocols": ["h2"],
        "tls_certificates": [{
            "certificate_chain": { "filename": tls.certificate },
            "private_key": { "filename": tls.key },
        }],
        "validation_context": {
            "trusted_ca": { "filename": tls.trusted_ca },
            "match_typed_subject_alt_names": [
                { "san_type": san_type(&tls.server_name), "matcher": { "exact": tls.server_name } },
            ],
        },
    });
    let mut context = json!({
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": common,
    });
    // An address is not a server name (RFC 6066, section 3).
    if let Some(context) = context.as_object_mut()
        && !is_address(&tls.server_name)
    {
        context.insert("sni".to_owned(), json!(tls.server_name));
    }
    json!({ "name": "envoy.transport_sockets.tls", "typed_config": context })
}

fn san_type(server: &str) -> &'static str {
    if is_address(server) { "IP_ADDRESS" } else { "DNS" }
}

fn is_address(server: &str) -> bool {
    server.parse::<std::net::IpAddr>().is_ok()
}
