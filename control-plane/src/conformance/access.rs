//! Who is served, and by what a response is known to be the server's.

use reqwest::Method;

use super::{Checks, Outcome, Target};

/// Every call, with a body where it has one.
const CALLS: [(Method, &str, Option<&str>); 5] = [
    (Method::GET, "/gateway/v1/changes", None),
    (Method::GET, "/gateway/v1/sandboxes/no-such-sandbox", None),
    (Method::GET, "/gateway/v1/sandboxes/no-such-sandbox/network-policy", None),
    (Method::POST, "/gateway/v1/sandboxes/no-such-sandbox/resume", Some("{}")),
    (
        Method::POST,
        "/gateway/v1/credentials/introspect",
        Some(r#"{"kind":"api_key","secret":"tl_conformance"}"#),
    ),
];

pub(super) async fn run(target: &Target, checks: &mut Checks<'_>) {
    let sentence = "a call without a token gets 401, before anything is looked up";
    checks.check(sentence, refused(target, &[])).await;
    let sentence = "a call with a wrong token, another scheme, or two tokens gets 401";
    checks.check(sentence, refused_with_others(target)).await;
    let sentence = "every response has the marker header, also an error";
    checks.check(sentence, marked(target)).await;
}

async fn refused(target: &Target, authorization: &[String]) -> Outcome {
    for (method, path, body) in CALLS {
        target.client.send(authorization, method, path, body).await?.has_status(401)?;
    }
    Ok(())
}

async fn refused_with_others(target: &Target) -> Outcome {
    let right = target.client.bearer();
    for wrong in [
        vec![format!("{right}0")],
        vec!["Bearer".to_owned()],
        vec![right.replacen("Bearer", "Basic", 1)],
        vec![right.clone(), right],
    ] {
        refused(target, &wrong).await?;
    }
    Ok(())
}

async fn marked(target: &Target) -> Outcome {
    let client = &target.client;
    client.get(&format!("/gateway/v1/sandboxes/{}", target.sandbox)).await?.has_marker()?;
    client.get("/gateway/v1/sandboxes/no-such-sandbox").await?.has_marker()?;
    client.get("/gateway/v1/no-such-call").await?.has_marker()?;
    let broken = Some("{");
    let path = "/gateway/v1/credentials/introspect";
    client.send(&[client.bearer()], Method::POST, path, broken).await?.has_marker()
}
