//! TLS between edge and control plane. The edge sends credentials only to a control plane whose certificate has the expected name
//! and issuer, and the gateway API answers only edges with a certificate.

use std::time::Duration;

use http::StatusCode;
use sandgate_e2e::{DOMAIN, Setup, TlsToControlPlane, run};
use sandgate_stack::{pki, wait::until};

const SOON: Duration = Duration::from_secs(20);

fn with(tls_to_control_plane: TlsToControlPlane) -> Setup {
    Setup { tls_to_control_plane, ..Setup::default() }
}

#[test]
fn lookups_the_feed_and_the_api_work_over_tls_and_a_new_certificate_needs_no_restart() {
    run(with(TlsToControlPlane::Right), async |stack| {
        let sandbox = stack.my_env().await?;
        let call = || stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        assert_eq!(call().send().await?.status, StatusCode::OK);
        // The public API, through the edge.
        let list = stack.edge().get(&format!("api.{DOMAIN}"), "/sandboxes").bearer(stack.key());
        assert_eq!(list.send().await?.status, StatusCode::OK);
        // The feed: without it, the edge would use its cache entry for seconds.
        stack.owner.expose(stack.api(), &sandbox, &[3000], false).await?;
        assert_eq!(call().send().await?.denial()?, "403 PORT_NOT_EXPOSED");

        let before = stack.api().certificate().await?;
        let after = pki::issue(&stack.control_plane_tls_folder())?;
        until("the new certificate is used", SOON, async || {
            Ok((stack.api().certificate().await? == after).then_some(()))
        })
        .await?;
        assert_ne!(before, after);
        // The connections of the edge stay, and new ones accept the new certificate.
        stack.owner.expose(stack.api(), &sandbox, &[8080], false).await?;
        assert_eq!(call().send().await?.status, StatusCode::OK);
        Ok(())
    });
}

/// Sends a request that needs a lookup, and expects that it fails closed although the sandbox's port is public.
fn is_denied(setup: TlsToControlPlane, counter: &'static str) {
    run(with(setup), async |stack| {
        let sandbox = stack.public_env().await?;
        let answer = stack.edge().get(&sandbox.host(8080), "/health").send().await?;
        assert_eq!(answer.denial()?, "503 SANDBOX_UPSTREAM_ERROR");
        let counted = stack.envoy().stat(counter).await?;
        assert!(counted > 0, "{counter}");
        Ok(())
    });
}

#[test]
fn a_control_plane_with_another_name_gets_no_credential() {
    is_denied(TlsToControlPlane::OtherName, r"^cluster\.gateway_api\.ssl\.fail_verify_san$");
}

#[test]
fn a_control_plane_of_another_issuer_gets_no_credential() {
    is_denied(TlsToControlPlane::OtherIssuer, r"^cluster\.gateway_api\.ssl\.fail_verify_error$");
}

#[test]
fn an_edge_without_a_certificate_gets_no_answer_even_with_the_token() {
    is_denied(
        TlsToControlPlane::NoCertificate,
        r"^cluster\.gateway_api\.upstream_rq_pending_failure_eject$|^cluster\.gateway_api\.upstream_cx_destroy$",
    );
}

#[test]
fn an_edge_in_plain_text_gets_no_answer() {
    is_denied(TlsToControlPlane::PlainText, r"^cluster\.gateway_api\.upstream_cx_total$");
}

#[test]
fn clients_in_plain_text_are_refused_by_both_apis() {
    run(with(TlsToControlPlane::Right), async |stack| {
        for address in [stack.api().address(), stack.control_plane.gateway().address()] {
            let plain = sandgate_stack::Client::new(address);
            let answer = plain.raw(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
            assert!(!answer.is_ok_and(|bytes| bytes.starts_with(b"HTTP/")), "{address}");
        }
        Ok(())
    });
}
