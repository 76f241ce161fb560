//! Public ports: they need no credential, port 9501 is never public, and apps receive no secrets of the platform.

use http::Method;
use sandgate_e2e::{DOMAIN, Setup, run};

use crate::support::{received_headers, sandbox_id};

#[test]
fn a_public_port_ignores_credentials() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/health");
        for call in [
            call(),
            call().bearer("not-a-credential"),
            call().bearer("tl_apiKey_wrong"),
            call().header("cookie", "tl.session_token=nonsense"),
            call().bearer(stack.key()),
        ] {
            let answer = call.send().await?.ok()?;
            assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()));
            assert!(
                received_headers(&answer, "x-forwarded-project-id").is_empty(),
                "nobody was verified"
            );
        }
        Ok(())
    });
}

#[test]
fn the_apps_own_credentials_are_forwarded_and_platform_credentials_are_removed() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let owner = &stack.owner;
        let call = || stack.edge().get(&sandbox.host(8080), "/");
        for own in
            ["Bearer eyJhbGciOi.x.y", "Basic dXNlcjpwYXNz", "Bearer sk_live_123", "Digest a=b"]
        {
            let answer = call().header("authorization", own).send().await?.ok()?;
            assert_eq!(received_headers(&answer, "authorization"), [own]);
        }
        for secret in [&owner.api_key, &owner.pat] {
            let answer = call().bearer(secret).header("x-key", secret).send().await?;
            assert!(!answer.text().contains(secret.as_str()), "{}", answer.text());
        }
        let cookie = format!("tl-session={0}; own=1; tl.session_token={0}", owner.session);
        let answer = call().header("cookie", cookie).send().await?.ok()?;
        assert_eq!(received_headers(&answer, "cookie"), ["own=1"]);
        // The filter verifies no credential here, so it removes the headers that claim an identity.
        let answer = owner.with_context(call()).send().await?.ok()?;
        assert!(received_headers(&answer, "x-forwarded-organization-id").is_empty());
        Ok(())
    });
}

#[test]
fn port_9501_is_never_public_in_any_spelling() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        for host in [
            sandbox.management(),
            format!("{}.{DOMAIN}", sandbox.id),
            format!("9501-my-env.{DOMAIN}"),
            format!("9501-{}.{DOMAIN}", sandbox.id),
            format!("9501-MY-ENV.{DOMAIN}:9501"),
        ] {
            let answer = stack.edge().get(&host, "/api/v1/health").send().await?;
            assert_eq!(answer.denial()?, "401 UNAUTHENTICATED", "{host}");
        }
        for host in [format!("09501-my-env.{DOMAIN}"), format!("75037-my-env.{DOMAIN}")] {
            let answer = stack.edge().get(&host, "/api/v1/health").send().await?;
            assert_eq!(answer.denial()?, "400 INVALID_HOST", "{host}");
        }
        let named = stack.edge().get(DOMAIN, "/api/v1/health");
        let named = named.header("x-tensorlake-sandbox-id", "my-env").send().await?;
        assert_eq!(named.denial()?, "401 UNAUTHENTICATED");
        // It cannot be made public either.
        let path = format!("/sandboxes/{}", sandbox.id);
        let change = serde_json::json!({ "exposed_ports": [8080, 9501] });
        let call = stack.owner.call(stack.api(), Method::PATCH, &path).json(&change);
        assert!(call.send().await?.status.is_client_error());
        Ok(())
    });
}

#[test]
fn allowing_unauthenticated_access_exposes_no_port_by_itself() {
    run(Setup::default(), async |stack| {
        let request = serde_json::json!({ "name": "my-env", "allow_unauthenticated_access": true });
        let sandbox = stack.sandbox(request).await?;
        let answer = stack.edge().get(&sandbox.host(8080), "/").send().await?;
        assert_eq!(answer.denial()?, "401 UNAUTHENTICATED");
        let answer = stack.edge().get(&sandbox.host(8080), "/").bearer(stack.key()).send().await?;
        assert_eq!(answer.denial()?, "403 PORT_NOT_EXPOSED");
        Ok(())
    });
}

#[test]
fn the_app_of_a_public_port_handles_preflights_and_origins() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let call = stack
            .edge()
            .request(Method::OPTIONS, &sandbox.host(8080), "/")
            .header("origin", "https://anywhere.example")
            .header("access-control-request-method", "PUT");
        let answer = call.send().await?.ok()?;
        assert_eq!(sandbox_id(&answer), Some(sandbox.id.as_str()), "the app answered");
        Ok(())
    });
}

#[test]
fn cookies_of_the_platform_are_removed_from_the_responses_of_apps() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let path = "/headers?set=set-cookie:%20own%3D1%3B%20Path%3D/\
                    &set=set-cookie:%20tl.session_token%3Dplanted\
                    &set=set-cookie:%20tl-session%3Dplanted\
                    &set=set-cookie:%20wide%3D1%3B%20Domain%3Dsandbox.localhost";
        let answer = stack.edge().get(&sandbox.host(8080), path).send().await?;
        let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
        assert_eq!(cookies, ["own=1; Path=/"]);
        Ok(())
    });
}
