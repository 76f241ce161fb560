//! The calls about a sandbox and about a credential.

use reqwest::Method;
use sandgate_policy::gateway_api::{CredentialKind, Introspection, Sandbox, SandboxState};
use serde_json::json;

use super::{Checks, Outcome, Problem, Target, fail, needed, require};

const INTROSPECT: &str = "/gateway/v1/credentials/introspect";

pub(super) async fn run(target: &Target, checks: &mut Checks<'_>) {
    let sentence = "a sandbox is found by its id and by its name, and is the same";
    checks.check(sentence, found(target)).await;
    let sentence = "the fields of a sandbox have the forms that the filter reads";
    checks.check(sentence, well_formed(target)).await;
    let sentence = "an unknown sandbox gets 404, to look up and to resume";
    checks.check(sentence, unknown_sandbox(target)).await;
    let sentence = "to resume a sandbox that runs returns it";
    checks.check(sentence, resumed(target)).await;
    let sentence = "a valid credential has an identity with the project of the sandbox";
    checks.check(sentence, identified(target)).await;
    let sentence = "an unknown credential gets 200 without an identity";
    checks.check(sentence, unknown_credential(target)).await;
    let sentence = "a credential has no identity under another kind";
    checks.check(sentence, other_kind(target)).await;
    let sentence = "a malformed request gets 400";
    checks.check(sentence, malformed(target)).await;
}

async fn found(target: &Target) -> Outcome {
    let found = target.client.sandbox(&target.sandbox).await?;
    for name in [Some(found.id.to_string()), found.name.clone()].into_iter().flatten() {
        let same = target.client.sandbox(&name).await?;
        require(same == found, || {
            format!("`{name}` is another sandbox than `{}`", target.sandbox)
        })?;
    }
    Ok(())
}

async fn well_formed(target: &Target) -> Outcome {
    let sandbox: Sandbox = target.client.sandbox(&target.sandbox).await?;
    let ports = &sandbox.exposed_ports;
    require(ports.is_sorted_by(|a, b| a < b), || {
        format!("`exposed_ports` must be sorted, without duplicates: {ports:?}")
    })?;
    require(!ports.contains(&9501) && !ports.contains(&0), || {
        format!("`exposed_ports` must not contain 9501 or 0: {ports:?}")
    })?;
    require(sandbox.state == SandboxState::Running, || {
        format!("the checks need a sandbox that runs, and this one is {}", sandbox.state.as_str())
    })?;
    require(sandbox.address.is_some(), || "a sandbox that runs must have an `address`".to_owned())
}

async fn unknown_sandbox(target: &Target) -> Outcome {
    for which in ["no-such-sandbox", "aaaaaaaaaaaaaaaaaaaaa", "NOT-A-NAME"] {
        let path = format!("/gateway/v1/sandboxes/{which}");
        target.client.get(&path).await?.has_status(404)?;
        target.client.post(&format!("{path}/resume"), &json!({})).await?.has_status(404)?;
    }
    Ok(())
}

async fn resumed(target: &Target) -> Outcome {
    let before = target.client.sandbox(&target.sandbox).await?;
    let path = format!("/gateway/v1/sandboxes/{}/resume", before.id);
    let after: Sandbox = target.client.post(&path, &json!({ "wait_ms": 1000 })).await?.ok()?;
    require(after == before, || "the resume of a sandbox that runs has changed it".to_owned())
}

/// What the server says about a credential, in the context of the sandbox's project.
pub(super) async fn introspect(
    target: &Target,
    kind: CredentialKind,
    secret: &str,
) -> Result<Introspection, Problem> {
    let sandbox = target.client.sandbox(&target.sandbox).await?;
    let request = match kind {
        CredentialKind::ApiKey => json!({ "kind": kind, "secret": secret }),
        _ => json!({
            "kind": kind,
            "secret": secret,
            "organization_id": sandbox.organization_id,
            "project_id": sandbox.project_id,
        }),
    };
    target.client.post(INTROSPECT, &request).await?.ok()
}

async fn identified(target: &Target) -> Outcome {
    let secret = needed(target.credential.as_ref(), "--credential-file")?;
    let sandbox = target.client.sandbox(&target.sandbox).await?;
    let Some(identity) = introspect(target, target.credential_kind, secret).await?.identity else {
        return fail("the credential of `--credential-file` has no identity");
    };
    require(identity.organization_id == sandbox.organization_id, || {
        "the identity has another organization than the sandbox".to_owned()
    })?;
    require(identity.project_ids.contains(&sandbox.project_id), || {
        "`project_ids` lacks the project of the sandbox".to_owned()
    })
}

async fn unknown_credential(target: &Target) -> Outcome {
    for kind in
        [CredentialKind::ApiKey, CredentialKind::PersonalAccessToken, CredentialKind::Session]
    {
        let found = introspect(target, kind, "tl_conformance_no_such_credential").await?;
        require(found.identity.is_none(), || {
            format!("a credential of the kind {kind:?} that can't exist has an identity")
        })?;
    }
    Ok(())
}

async fn other_kind(target: &Target) -> Outcome {
    let secret = needed(target.credential.as_ref(), "--credential-file")?;
    for kind in
        [CredentialKind::ApiKey, CredentialKind::PersonalAccessToken, CredentialKind::Session]
    {
        if kind != target.credential_kind {
            let found = introspect(target, kind, secret).await?;
            require(found.identity.is_none(), || {
                format!("the credential also has an identity as {kind:?}")
            })?;
        }
    }
    Ok(())
}

async fn malformed(target: &Target) -> Outcome {
    let client = &target.client;
    for body in ["{", "[]", "{}", r#"{"kind":"passport","secret":"x"}"#, r#"{"kind":"api_key"}"#] {
        let answer = client.send(&[client.bearer()], Method::POST, INTROSPECT, Some(body)).await?;
        answer.has_status(400)?;
    }
    Ok(())
}
