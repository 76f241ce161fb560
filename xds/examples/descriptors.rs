//! Makes `xds/descriptors.bin`, the descriptions of Envoy's messages.
//!
//! usage: cargo run -p sandgate-xds --example descriptors -- SET > xds/descriptors.bin
//!
//! SET is a set of all descriptions, such as `src/generated/types.bin` of the crate `envoy-types` (`cargo info
//! envoy-types@0.7.7` puts it into cargo's registry). The result has the files that define the messages below, those that
//! these files import, and no comments or options.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use prost::Message as _;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// The resources, the messages that they may contain as `Any`, and those of the protocol, for the tests' second client.
const MESSAGES: &[&str] = &[
    "envoy.config.bootstrap.v3.Bootstrap",
    "envoy.config.cluster.v3.Cluster",
    "envoy.config.core.v3.TypedExtensionConfig",
    "envoy.config.endpoint.v3.ClusterLoadAssignment",
    "envoy.config.listener.v3.Listener",
    "envoy.config.overload.v3.ScaleTimersOverloadActionConfig",
    "envoy.config.route.v3.RouteConfiguration",
    "envoy.extensions.access_loggers.filters.process_ratelimit.v3.ProcessRateLimitFilter",
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    "envoy.extensions.bootstrap.dynamic_modules.v3.DynamicModuleBootstrapExtension",
    "envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig",
    "envoy.extensions.filters.http.credential_injector.v3.CredentialInjector",
    "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig",
    "envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter",
    "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    "envoy.extensions.filters.http.rbac.v3.RBAC",
    "envoy.extensions.filters.http.router.v3.Router",
    "envoy.extensions.filters.http.set_filter_state.v3.Config",
    "envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec",
    "envoy.extensions.filters.http.wasm.v3.Wasm",
    "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
    "envoy.extensions.http.injected_credentials.generic.v3.Generic",
    "envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher",
    "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
    "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
    "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
    "envoy.extensions.transport_sockets.tls.v3.Secret",
    "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "envoy.service.discovery.v3.DeltaDiscoveryRequest",
    "envoy.service.discovery.v3.DeltaDiscoveryResponse",
    "envoy.type.v3.TokenBucket",
    "google.protobuf.StringValue",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: descriptors SET")?;
    let set = FileDescriptorSet::decode(std::fs::read(path)?.as_slice())?;
    let files: BTreeMap<&str, &FileDescriptorProto> =
        set.file.iter().map(|file| (file.name(), file)).collect();
    let mut wanted = BTreeSet::new();
    for message in MESSAGES {
        let (package, name) = message.rsplit_once('.').ok_or("a message without a package")?;
        let defines = |file: &&FileDescriptorProto| {
            file.package() == package && file.message_type.iter().any(|it| it.name() == name)
        };
        let file = set.file.iter().find(defines).ok_or(format!("no `{message}`"))?;
        want(file.name(), &files, &mut wanted);
    }
    let mut reduced = FileDescriptorSet::default();
    // In the order of the whole set, in which imports come first.
    for file in set.file.iter().filter(|file| wanted.contains(file.name())) {
        let mut file = file.clone();
        file.source_code_info = None;
        file.options = None;
        file.message_type.iter_mut().for_each(strip);
        file.enum_type.iter_mut().for_each(strip_enum);
        file.service.clear();
        reduced.file.push(file);
    }
    std::io::stdout().write_all(&reduced.encode_to_vec())?;
    Ok(())
}

fn want<'a>(
    name: &'a str,
    files: &BTreeMap<&'a str, &'a FileDescriptorProto>,
    wanted: &mut BTreeSet<&'a str>,
) {
    if !wanted.insert(name) {
        return;
    }
    for import in files.get(name).into_iter().flat_map(|file| &file.dependency) {
        want(import, files, wanted);
    }
}

/// Removes all options except the one that makes a message an entry of a map.
fn strip(message: &mut prost_types::DescriptorProto) {
    let is_entry = message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry);
    message.options = is_entry.then(|| prost_types::MessageOptions {
        map_entry: Some(true),
        ..prost_types::MessageOptions::default()
    });
    message.field.iter_mut().for_each(|field| field.options = None);
    message.oneof_decl.iter_mut().for_each(|oneof| oneof.options = None);
    message.nested_type.iter_mut().for_each(strip);
    message.enum_type.iter_mut().for_each(strip_enum);
}

fn strip_enum(of: &mut prost_types::EnumDescriptorProto) {
    of.options = None;
    of.value.iter_mut().for_each(|value| value.options = None);
}
