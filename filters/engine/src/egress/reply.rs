//! Local replies: to denied and invalid requests, and to the agent's probe.

use sandgate_policy::egress::Rule;
use sandgate_policy::request_line::InvalidLine;
use serde_json::{Value, json};

use crate::egress::decision::FilterKind;
use crate::egress::engine::Engine;

/// A response that the filter sends itself.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub body: String,
}

impl Reply {
    pub const HEADERS: [(&'static str, &'static str); 2] =
        [("content-type", "application/json"), ("cache-control", "no-store")];

    /// The reply to a denied request. `rule` is the rule that denies it, or `None` if the filter could not
    /// decide.
    #[must_use]
    pub fn denial(rule: Option<&Rule>) -> Self {
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
        Self::new(403, &body)
    }

    /// The reply to a request that is not valid, whatever the policy says.
    #[must_use]
    pub fn invalid(line: InvalidLine) -> Self {
        Self::new(400, &json!({ "error": line.advice(), "code": "INVALID_REQUEST" }))
    }

    /// The reply to the agent's probe: 200 once both filters have a configuration. The body has the policy
    /// generation of both and of each filter, and whether live streams are still being re-evaluated.
    #[must_use]
    pub fn probe(engine: &Engine) -> Self {
        let configurations = engine.configurations();
        let both = configurations.generation();
        let body = json!({
            "generation": both,
            "tcp": configurations.generation_of(FilterKind::Tcp),
            "http": configurations.generation_of(FilterKind::Http),
            "judging": engine.is_reevaluating(),
        });
        Self::new(if both.is_some() { 200 } else { 503 }, &body)
    }

    fn new(status: u16, body: &Value) -> Self {
        Self { status, body: body.to_string() }
    }
}
