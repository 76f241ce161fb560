//! Explains the decision about a request to a sandbox: the lookups of the ingress filter, in the store, and its decision.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use sandgate_policy::gateway_api::{CredentialKind, Identity};
use sandgate_policy::header::Field;
use sandgate_policy::ingress::concurrency::InFlight;
use sandgate_policy::ingress::config::IngressConfig;
use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::{
    Decision, KnownSandbox, Request as Parsed, RequestFacts, Resolved, SandboxRequest, decide,
    message,
};
use serde_json::json;

use super::{Answer, Explanation};
use crate::model::{CredentialQuery, Timestamp};
use crate::random::SecretHash;
use crate::store::Store;

/// A request, as a client would send it.
pub(super) struct Request<'a> {
    pub(super) url: &'a str,
    pub(super) credential: Option<String>,
    pub(super) organization: Option<String>,
    pub(super) project: Option<String>,
}

pub(super) fn explain(
    store: &dyn Store,
    request: &Request<'_>,
    filter: Option<&Path>,
) -> anyhow::Result<Explanation> {
    let (authority, path) = split(request.url)?;
    let config = match filter {
        Some(file) => {
            let json = std::fs::read(file);
            let json =
                json.with_context(|| format!("--filter {} can't be read", file.display()))?;
            IngressConfig::from_json(&json)
                .with_context(|| format!("--filter {} is not valid", file.display()))?
        }
        None => default_config(authority)?,
    };
    let authorization = request.credential.as_ref().map(|secret| format!("Bearer {secret}"));
    let optional = [
        ("authorization", authorization.as_ref()),
        ("x-forwarded-organization-id", request.organization.as_ref()),
        ("x-forwarded-project-id", request.project.as_ref()),
    ];
    let required =
        [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)];
    let required = required.iter().map(|(name, value)| (*name, value.as_bytes()));
    let optional =
        optional.iter().filter_map(|(name, value)| Some((*name, value.as_ref()?.as_bytes())));
    let fields: Vec<Field<'_>> = required.chain(optional).collect();
    let head = Head::new(&fields);
    let mut steps = vec![("host", authority.to_owned())];
    let checked = message::check(head, || false).and_then(|()| Parsed::parse(head, &config));
    let request = match checked {
        Ok(Parsed::Sandbox(request)) => request,
        Ok(Parsed::Api) => {
            let rule = "the host is one of the public API, which authorizes its requests itself"
                .to_owned();
            return Ok(Explanation {
                answer: Answer::Allow,
                decision: "forward".to_owned(),
                rule,
                steps,
            });
        }
        Err(denial) => return Ok(denied(denial, steps)),
    };
    steps.push((
        "target",
        format!("port {} of `{}`", request.port().get(), request.sandbox().as_str()),
    ));
    let now = Timestamp::now();
    let sandbox = find_sandbox(store, &request, &mut steps)?;
    let caller = find_caller(store, &request, &sandbox, now, &mut steps)?;
    let in_flight = InFlight::default();
    let facts = RequestFacts { sandbox: &sandbox, caller: &caller, now: now.seconds(), in_flight };
    let allow = |rule: String, steps| Explanation {
        answer: Answer::Allow,
        decision: "allow".to_owned(),
        rule,
        steps,
    };
    Ok(match decide(&request, &facts, &config) {
        Decision::Permit(permit) => allow(format!("forward to {}", permit.upstream()), steps),
        Decision::Resume(_) => allow("resume the sandbox, then forward".to_owned(), steps),
        Decision::Deny(denial) => denied(denial, steps),
        // Nothing is in flight here, and the request is no preflight.
        Decision::Evict(_) | Decision::AnswerPreflight { .. } => {
            bail!("the decision has no explanation; this is a bug")
        }
    })
}

/// The authority, and the path without the fragment.
fn split(url: &str) -> anyhow::Result<(&str, &str)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let rest = rest.context("the URL must begin with `https://` or `http://`")?;
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    ensure!(
        !authority.contains('@'),
        "leave the user and the password out of the URL; pass a credential separately"
    );
    let path = path.split_once('?').map_or(path, |(before, _)| before);
    Ok((authority, if path.is_empty() { "/" } else { path }))
}

/// A configuration whose domain is the host without its first label, and that restricts no addresses.
fn default_config(authority: &str) -> anyhow::Result<IngressConfig> {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    let domain = host.split_once('.').map(|(_, domain)| domain);
    let domain = domain.with_context(|| {
        format!(
            "`{host}` is not the host of a sandbox, which has the form `<port>-<sandbox>.<domain>`"
        )
    })?;
    let json = json!({
        "version": 1, "domains": [domain], "control_plane": { "cluster": "unused" },
        "sandbox_cidrs": ["0.0.0.0/0", "::/0"],
    });
    IngressConfig::from_json(json.to_string().as_bytes())
        .with_context(|| format!("`{domain}` can't be the domain of sandboxes; use --filter"))
}

fn find_sandbox(
    store: &dyn Store,
    request: &SandboxRequest,
    steps: &mut Vec<(&'static str, String)>,
) -> anyhow::Result<Resolved<Arc<KnownSandbox>>> {
    if !request.needs_sandbox() {
        steps.push(("sandbox", "not looked up: the decision does not depend on it".to_owned()));
        return Ok(Resolved::NotFound);
    }
    let found = store.gateway_sandbox(request.sandbox())?;
    let shown = found.as_ref().map_or_else(
        || "does not exist".to_owned(),
        |sandbox| {
            let access = if sandbox.allow_unauthenticated_access { "without" } else { "with" };
            let ports: Vec<_> = sandbox.exposed_ports.iter().map(ToString::to_string).collect();
            let ports = if ports.is_empty() { "none".to_owned() } else { ports.join(", ") };
            let state = sandbox.state.as_str();
            format!(
                "{} of project {}, {state}; exposed ports: {ports}, {access} a credential",
                sandbox.id, sandbox.project_id
            )
        },
    );
    steps.push(("sandbox", shown));
    Ok(found.map(|sandbox| Arc::new(KnownSandbox::from(sandbox))).into())
}

fn find_caller(
    store: &dyn Store,
    request: &SandboxRequest,
    sandbox: &Resolved<Arc<KnownSandbox>>,
    now: Timestamp,
    steps: &mut Vec<(&'static str, String)>,
) -> anyhow::Result<Resolved<Arc<Identity>>> {
    let Some(credential) = request.credential().filter(|_| request.needs_caller(Some(sandbox)))
    else {
        let reason = match request.credential() {
            Some(_) => "not looked up: the decision does not depend on it",
            None => "none",
        };
        steps.push(("credential", reason.to_owned()));
        return Ok(Resolved::NotFound);
    };
    let asked = credential.introspect_request();
    let query = CredentialQuery {
        kind: asked.kind,
        hash: SecretHash::of(&asked.secret),
        organization_id: asked.organization_id,
        project_id: asked.project_id,
    };
    let kind = match asked.kind {
        CredentialKind::ApiKey => "an API key",
        CredentialKind::PersonalAccessToken => "a personal access token",
        CredentialKind::Session => "a session",
    };
    let found = store.identify(&query, now)?;
    let shown = found.as_ref().map_or_else(
        || format!("{kind} that is unknown, revoked or expired"),
        |identity| {
            let projects: Vec<_> = identity.project_ids.iter().map(ToString::to_string).collect();
            format!("{kind} of {} for {}", identity.principal, projects.join(", "))
        },
    );
    steps.push(("credential", shown));
    Ok(found.map(Arc::new).into())
}

fn denied(denial: Denial, mut steps: Vec<(&'static str, String)>) -> Explanation {
    steps.push(("message", denial.message()));
    let decision = format!("deny with status {}", denial.status());
    Explanation { answer: Answer::Deny, decision, rule: denial.code().to_owned(), steps }
}
