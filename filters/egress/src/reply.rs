//! What a refused request reads, and what the agent's probe does.

use sandgate_hostcalls::{Result, stream};
use sandgate_policy::egress::Rule;
use sandgate_policy::request_line::InvalidLine;
use serde_json::{Value, json};

use crate::vm::{self, Protocol};

/// Answers a denial with the rule that decided; without one, the filter could not decide.
pub(crate) fn deny(rule: Option<&Rule>) -> Result<()> {
    let body = match rule {
        Some(rule) => json!({
            "error": "the network policy of this sandbox does not allow this destination",
            "code": "EGRESS_DENIED",
            "rule": rule.to_string(),
        }),
        None => json!({
            "error": "the gateway of this sandbox could not judge the request, and so refuses it",
            "code": "EGRESS_DENIED",
        }),
    };
    answer(403, &body)
}

/// Answers a request that would be sent nowhere, whatever the policy says.
pub(crate) fn invalid(line: InvalidLine) -> Result<()> {
    answer(400, &json!({ "error": line.advice(), "code": "INVALID_REQUEST" }))
}

/// Answers the probe: 200 once both filters have a configuration, with the generation that is in
/// force for both, and whether what is live is still being judged by it.
pub(crate) fn probe() -> Result<()> {
    let generations = vm::with(|vm| {
        let each = (vm.generation_of(Protocol::Tcp), vm.generation_of(Protocol::Http));
        (vm.generation(), each.0, each.1, vm.live.has_suspects())
    });
    let (both, tcp, http, judging) = generations.unwrap_or_default();
    let status = if both.is_some() { 200 } else { 503 };
    answer(status, &json!({ "generation": both, "tcp": tcp, "http": http, "judging": judging }))
}

fn answer(status: u16, body: &Value) -> Result<()> {
    let headers = [("content-type", "application/json"), ("cache-control", "no-store")];
    stream::reply(status, &headers, body.to_string().as_bytes())
}
