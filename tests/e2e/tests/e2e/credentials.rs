//! Every method of authentication. No credential of the platform reaches a sandbox.

use anyhow::Result;
use futures_util::{SinkExt as _, StreamExt as _};
use http::StatusCode;
use sandgate_demo::client::websocket::{self, Message, OpenError};
use sandgate_e2e::{Call, Protocol, Setup, run};
use serde_json::Value;

use crate::support::{received_headers, target};

/// Asserts that the sandbox received the request without secrets of the platform.
async fn assert_served_without_secrets(call: Call, secrets: &[&str]) -> Result<Value> {
    let answer = call.send().await?;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    for secret in secrets {
        assert!(!answer.text().contains(secret), "the sandbox got a secret: {}", answer.text());
    }
    answer.json()
}

#[test]
fn every_authentication_method_works_over_both_http_versions() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = stack.owner.clone();
        let secrets = [owner.api_key.as_str(), owner.pat.as_str(), owner.session.as_str()];
        for protocol in [Protocol::Http1, Protocol::H2c] {
            let call = || stack.edge().get(&sandbox.host(8080), "/health").over(protocol);
            let session = format!("tl.session_token={}", owner.session);
            let legacy = format!("theme=dark; tl-session={}; lang=en", owner.session);
            let modes = [
                call().bearer(&owner.api_key),
                call().header("authorization", format!("bearer {}", owner.api_key)),
                owner.with_pat(call()),
                owner.with_context(call().header("cookie", &session)),
                owner.with_context(call().header("cookie", &legacy)),
                // The gateway's own header has no effect on the app's `authorization`.
                call()
                    .header("x-sandgate-authorization", format!("Bearer {}", owner.api_key))
                    .header("authorization", "Bearer of-the-app"),
                // Clients send organization and project with an API key, too.
                owner.with_context(call().bearer(&owner.api_key)),
            ];
            for (mode, call) in modes.into_iter().enumerate() {
                let seen_by_app = assert_served_without_secrets(call, &secrets).await?;
                let organization = received_headers(&seen_by_app, "x-forwarded-organization-id");
                assert_eq!(organization, [owner.organization.as_str()], "mode {mode}");
                let project = received_headers(&seen_by_app, "x-forwarded-project-id");
                assert_eq!(project, [owner.project.as_str()], "mode {mode}");
                let cookies = if mode == 4 { vec!["theme=dark; lang=en"] } else { vec![] };
                assert_eq!(received_headers(&seen_by_app, "cookie"), cookies, "mode {mode}");
                let own = if mode == 5 { vec!["Bearer of-the-app"] } else { vec![] };
                assert_eq!(received_headers(&seen_by_app, "authorization"), own, "mode {mode}");
            }
        }
        Ok(())
    });
}

#[test]
fn platform_secrets_other_than_the_credential_are_removed_too() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = stack.owner.clone();
        let call = stack
            .edge()
            .get(&sandbox.host(8080), "/")
            .header("x-sandgate-authorization", format!("Bearer {}", owner.api_key))
            .bearer(&owner.pat)
            .header("cookie", format!("a=1; tl.session_token={}; b=2", owner.session))
            .header("x-api-key", &owner.api_key);
        let secrets = [owner.api_key.as_str(), owner.pat.as_str(), owner.session.as_str()];
        let seen_by_app = assert_served_without_secrets(call, &secrets).await?;
        assert_eq!(received_headers(&seen_by_app, "cookie"), ["a=1; b=2"]);
        Ok(())
    });
}

#[test]
fn websockets_support_every_authentication_method_and_the_query_parameter() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let owner = stack.owner.clone();
        let host = sandbox.host(3000);
        let query =
            format!("/socket?organizationId={}&projectId={}", owner.organization, owner.project);
        let bearer = |secret: &str| format!("Bearer {secret}");
        let origin = format!("http://{host}");
        let context = |target: sandgate_demo::client::Target| {
            target
                .header("x-forwarded-organization-id", &owner.organization)?
                .header("x-forwarded-project-id", &owner.project)
        };
        let cookie = format!("tl.session_token={}", owner.session);
        let legacy = format!("tl-session={}", owner.session);
        let modes = [
            target(stack, &host, "/socket")?.header("authorization", &bearer(&owner.api_key))?,
            context(
                target(stack, &host, "/socket")?.header("authorization", &bearer(&owner.pat))?,
            )?,
            target(stack, &host, &query)?.header("authorization", &bearer(&owner.pat))?,
            // A browser: a cookie, the same origin, and no custom headers.
            target(stack, &host, &query)?.header("cookie", &cookie)?.header("origin", &origin)?,
            target(stack, &host, &query)?.header("cookie", &legacy)?.header("origin", &origin)?,
        ];
        for target in &modes {
            let mut socket = websocket::open(target).await?.socket;
            socket.send(Message::text("headers?")).await?;
            let told = socket.next().await.unwrap()?.into_text()?;
            for secret in [&owner.api_key, &owner.pat, &owner.session] {
                assert!(!told.contains(secret.as_str()), "{told}");
            }
            assert!(told.contains(&owner.project), "the verified project: {told}");
        }
        // A page of another site can't open a WebSocket with the visitor's cookie.
        let forged = target(stack, &host, &query)?
            .header("cookie", &cookie)?
            .header("origin", "https://evil.example")?;
        match websocket::open(&forged).await {
            Err(OpenError::Refused { status, body, .. }) => {
                assert_eq!(status, 403);
                assert!(body.contains("CROSS_ORIGIN"), "{body}");
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
        Ok(())
    });
}

#[test]
fn a_revoked_key_is_refused_immediately() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        let made =
            stack.control_plane.manage(&["keys", "create", "--project", &stack.owner.project])?;
        let (id, secret) = (made["id"].as_str().unwrap(), made["secret"].as_str().unwrap());
        let call = || stack.edge().get(&sandbox.host(8080), "/").bearer(secret);
        assert_eq!(call().send().await?.status, 200);
        stack.control_plane.manage(&["keys", "revoke", id])?;
        sandgate_stack::wait::until(
            "the revoked key is refused",
            std::time::Duration::from_secs(5),
            async || Ok((call().send().await?.status == 401).then_some(())),
        )
        .await?;
        assert_eq!(call().send().await?.denial()?, "401 INVALID_CREDENTIALS");
        Ok(())
    });
}
