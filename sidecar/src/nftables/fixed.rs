//! The chains that depend only on the layout: those with a hook, and the chain of Envoy's own packets.

use sandgate_policy::egress::guardrail::{VIRTUAL_V4, VIRTUAL_V6};

use super::layout::{DNS_MARK, ENVOY_MARK, Layout, Mode};
use super::template::fill;

const GATEWAY: &str = include_str!("rules/gateway.nft");
const SHARED: &str = include_str!("rules/shared.nft");
const FROM_ENVOY: &str = include_str!("rules/from_envoy.nft");

/// Renders the chains, indented as members of the table.
pub(super) fn chains(layout: &Layout) -> String {
    let ports = &layout.ports;
    let from_envoy =
        fill(FROM_ENVOY, &[("reset_port", &ports.reset), ("resolver_port", &ports.envoy_dns)]);
    let (template, interface) = match &layout.mode {
        Mode::Gateway { interface } => (GATEWAY, interface.to_string()),
        Mode::Shared => (SHARED, String::new()),
    };
    let masquerade = match layout.masquerade {
        true => format!("    iifname \"{interface}\" masquerade\n"),
        false => String::new(),
    };
    fill(
        template,
        &[
            ("from_envoy", &from_envoy.trim_end()),
            ("masquerade", &masquerade),
            ("interface", &interface),
            ("admin_port", &ports.admin),
            ("plain_port", &ports.plain),
            ("inspected_port", &ports.inspected),
            ("probe_port", &ports.probe),
            ("reset_port", &ports.reset),
            ("refused_port", &ports.refused),
            ("dns_port", &ports.dns),
            ("resolver_port", &ports.envoy_dns),
            ("dns_mark", &DNS_MARK),
            ("envoy_mark", &ENVOY_MARK),
            ("envoy_uid", &layout.envoy_uid),
            ("agent_uid", &layout.agent_uid),
            ("virtual_v4", &VIRTUAL_V4),
            ("virtual_v6", &VIRTUAL_V6),
        ],
    )
}
