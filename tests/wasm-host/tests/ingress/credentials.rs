//! All credentials that a request may carry, and their precedence.

use super::host::Headers;
use sandgate_policy::gateway_api::CredentialKind;
use serde_json::json;

use super::support::{
    DOMAIN, Gateway, KEY, ORGANIZATION, PAT, PLAIN_KEY, PROJECT, SESSION, bearer, configuration,
    denial, in_project, to, websocket, with_session,
};

/// Asserts that the request is forwarded without its credential and with the verified identity.
fn passes_cleanly(gateway: &Gateway, headers: Headers) {
    let forwarded = gateway.passes(headers);
    assert_eq!(forwarded.upstream.as_deref(), Some("127.64.0.2:8080"));
    for secret in [KEY, PLAIN_KEY, PAT, SESSION] {
        assert!(!forwarded.headers.mention(secret), "{:?}", forwarded.headers);
    }
    assert_eq!(forwarded.headers.values("x-forwarded-organization-id"), [ORGANIZATION]);
    assert_eq!(forwarded.headers.values("x-forwarded-project-id"), [PROJECT]);
}

#[test]
fn each_auth_mode_is_accepted() {
    let gateway = Gateway::new();
    let mine = || to(8080, "my-env");
    passes_cleanly(&gateway, bearer(mine(), KEY));
    passes_cleanly(&gateway, bearer(mine(), PLAIN_KEY));
    passes_cleanly(&gateway, in_project(bearer(mine(), PAT)));
    passes_cleanly(&gateway, with_session(mine()));
    passes_cleanly(&gateway, in_project(mine().with("cookie", format!("tl-session={SESSION}"))));
    let own_header = mine().with("x-sandgate-authorization", format!("Bearer {KEY}"));
    passes_cleanly(&gateway, own_header);
    passes_cleanly(&gateway, mine().with("authorization", format!("bearer   {KEY} ")));
}

#[test]
fn personal_access_tokens_have_the_prefix_that_the_operator_sets() {
    let mut configuration = configuration();
    configuration["platform_prefixes"] = json!(["acme_"]);
    configuration["personal_access_token_prefixes"] = json!(["acme_pat"]);
    let gateway = Gateway::configured(&configuration, 1);
    let pat = "acme_pat_alice_0123456789";
    gateway.fleet().allow(pat, CredentialKind::PersonalAccessToken, "user_alice");
    let request = bearer(to(8080, "my-env"), pat);
    assert_eq!(gateway.denies(request.clone()), denial(400, "PROJECT_CONTEXT_REQUIRED"));
    passes_cleanly(&gateway, in_project(request));
}

#[test]
fn a_websocket_may_name_organization_and_project_in_its_query() {
    let gateway = Gateway::new();
    let path = format!("/socket?a=%2F&organizationId={ORGANIZATION}&projectId={PROJECT}");
    let headers = Headers::get(&format!("8080-my-env.{DOMAIN}"), &path)
        .with("cookie", format!("tl.session_token={SESSION}"));
    let forwarded = gateway.passes(websocket(headers.clone()));
    assert_eq!(forwarded.headers.value(":path"), Some(path), "untouched");
    assert_eq!(gateway.denies(headers), denial(400, "PROJECT_CONTEXT_REQUIRED"), "no upgrade");
}

#[test]
fn the_gateways_own_header_leaves_the_apps_authorization_unchanged() {
    let headers = bearer(to(8080, "my-env"), "the-apps-own-token")
        .with("x-sandgate-authorization", format!("Bearer {KEY}"));
    let forwarded = Gateway::new().passes(headers);
    assert_eq!(forwarded.headers.values("authorization"), ["Bearer the-apps-own-token"]);
    assert!(!forwarded.headers.contains("x-sandgate-authorization"));
}

#[test]
fn a_platform_bearer_token_precedes_a_cookie_and_a_cookie_precedes_another_bearer_token() {
    let gateway = Gateway::new();
    passes_cleanly(&gateway, bearer(with_session(to(8080, "my-env")), KEY));
    let other = bearer(with_session(to(8080, "my-env")), "the-apps-own-token");
    let forwarded = gateway.passes(other);
    assert_eq!(forwarded.headers.values("authorization"), ["Bearer the-apps-own-token"]);
    assert!(!forwarded.headers.mention(SESSION));
}

#[test]
fn an_invalid_credential_is_never_ignored_in_favour_of_a_valid_one() {
    let gateway = Gateway::new();
    let invalid = denial(401, "INVALID_CREDENTIALS");
    let good_session = || with_session(to(8080, "my-env"));
    assert_eq!(gateway.denies(bearer(good_session(), "tl_apiKey_wrong")), invalid);
    let both =
        bearer(to(8080, "my-env"), KEY).with("x-sandgate-authorization", "Bearer tl_apiKey_wrong");
    assert_eq!(gateway.denies(both), invalid);
    let basic = bearer(to(8080, "my-env"), KEY).with("x-sandgate-authorization", "Basic abc");
    assert_eq!(gateway.denies(basic), invalid);
    let bad_cookie = in_project(to(8080, "my-env")).with("cookie", "tl.session_token=wrong");
    assert_eq!(gateway.denies(bearer(bad_cookie, PLAIN_KEY)), invalid);
    let empty = to(8080, "my-env").with("x-sandgate-authorization", "Bearer ");
    assert_eq!(gateway.denies(bearer(empty, KEY)), invalid);
}

#[test]
fn duplicate_credentials_are_denied() {
    let gateway = Gateway::new();
    for headers in [
        bearer(bearer(to(8080, "my-env"), KEY), KEY),
        to(8080, "my-env").with("authorization", format!("Bearer {KEY},Bearer {KEY}")),
        to(8080, "my-env").with("authorization", format!("Bearer {KEY}, Basic abc")),
        in_project(to(8080, "my-env"))
            .with("cookie", format!("tl.session_token={SESSION}; tl.session_token=x")),
        with_session(to(8080, "my-env")).with("cookie", format!("tl.session_token={SESSION}")),
        to(8080, "my-env")
            .with("x-sandgate-authorization", format!("Bearer {KEY}"))
            .with("x-sandgate-authorization", format!("Bearer {KEY}")),
        with_session(to(8080, "my-env")).with("x-forwarded-project-id", PROJECT),
    ] {
        let shown = format!("{headers:?}");
        assert_eq!(gateway.denies(headers), denial(400, "INVALID_REQUEST"), "{shown}");
    }
    assert_eq!(
        gateway.calls("POST /gateway/v1/credentials"),
        0,
        "and not sent to the control plane"
    );
}

#[test]
fn a_credential_of_one_kind_is_not_accepted_as_another_kind() {
    let gateway = Gateway::new();
    let invalid = denial(401, "INVALID_CREDENTIALS");
    let key_as_cookie =
        in_project(to(8080, "my-env")).with("cookie", format!("tl.session_token={KEY}"));
    assert_eq!(gateway.denies(key_as_cookie), invalid);
    assert_eq!(gateway.denies(bearer(to(8080, "my-env"), SESSION)), invalid);
}

#[test]
fn a_member_of_another_project_does_not_learn_that_a_sandbox_exists() {
    let gateway = Gateway::new();
    let elsewhere = bearer(to(8080, "my-env"), PAT)
        .with("x-forwarded-organization-id", ORGANIZATION)
        .with("x-forwarded-project-id", "proj_other");
    assert_eq!(gateway.denies(elsewhere), denial(404, "SANDBOX_NOT_FOUND"));
    let wrong_organization = bearer(to(8080, "my-env"), PAT)
        .with("x-forwarded-organization-id", "org_2")
        .with("x-forwarded-project-id", PROJECT);
    assert_eq!(gateway.denies(wrong_organization), denial(404, "SANDBOX_NOT_FOUND"));
}

#[test]
fn a_cached_token_of_one_project_is_not_used_for_another_project() {
    let gateway = Gateway::new();
    gateway.passes(in_project(bearer(to(8080, "my-env"), PAT)));
    let elsewhere = bearer(to(8080, "my-env"), PAT)
        .with("x-forwarded-organization-id", ORGANIZATION)
        .with("x-forwarded-project-id", "proj_other");
    assert_eq!(gateway.denies(elsewhere), denial(404, "SANDBOX_NOT_FOUND"));
    gateway.passes(in_project(bearer(to(8080, "my-env"), PAT)));
}

#[test]
fn an_expired_credential_is_not_valid_although_it_is_cached() {
    let gateway = Gateway::new();
    let expiry = gateway.host.unix_time() + 3;
    gateway.fleet().expire(KEY, expiry);
    gateway.passes(bearer(to(8080, "my-env"), KEY));
    gateway.advance_ms(2_900);
    gateway.passes(bearer(to(8080, "my-env"), KEY));
    gateway.advance_ms(200);
    let answer = gateway.denies(bearer(to(8080, "my-env"), KEY));
    assert_eq!(answer, denial(401, "INVALID_CREDENTIALS"));
}
