//! Local replies: to denied and invalid requests, and to the agent's probe.

use sandgate_engine::egress::FilterKind;
use sandgate_hostcalls::{Result, stream};
use sandgate_policy::egress::Rule;
use sandgate_policy::request_line::InvalidLine;
use serde_json::{Value, json};

use crate::vm;

/// Replies to a denied request. `rule` is the rule that denies it, or `None` if the filter could not
/// decide.
pub(crate) fn deny(rule: Option<&Rule>) -> Result<()> {
    let body = match rule {
        Some(rule) => json!({
            "error": "the network policy of this sandbox does not allow this destination",
            "code": "EGRESS_DENIED",
            "rule": rule.to_string(),
        }),
        None => json!({
            "error": "the gateway of this sandbox could not check the request, and therefore denies it",
            "code": "EGRESS_DENIED",
        }),
    };
    reply(403, &body)
}

/// Replies to a request that is not valid, whatever the policy says.
pub(crate) fn invalid(line: InvalidLine) -> Result<()> {
    reply(400, &json!({ "error": line.advice(), "code": "INVALID_REQUEST" }))
}

/// Replies to the agent's probe: 200 once both filters have a configuration. The body has the policy
/// generation of both and of each filter, and whether live streams are still being re-evaluated.
pub(crate) fn probe() -> Result<()> {
    let state = vm::with(|vm| {
        let engine = &vm.engine;
        let (tcp, http) =
            (engine.generation_of(FilterKind::Tcp), engine.generation_of(FilterKind::Http));
        (engine.generation(), tcp, http, engine.is_reevaluating())
    });
    let (both, tcp, http, judging) = state.unwrap_or_default();
    let status = if both.is_some() { 200 } else { 503 };
    reply(status, &json!({ "generation": both, "tcp": tcp, "http": http, "judging": judging }))
}

fn reply(status: u16, body: &Value) -> Result<()> {
    let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
    stream::reply(status, &headers, body.to_string().as_bytes())
}
