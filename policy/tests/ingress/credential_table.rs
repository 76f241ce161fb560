//! The sources of a credential, their order, and the credentials that are denied instead of ignored.

use sandgate_policy::gateway_api::CredentialKind;
use sandgate_policy::ingress::credential::{Credential, CredentialSource};
use sandgate_policy::ingress::head::Head;
use test_case::test_case;

use crate::ingress::support::{APP, KEY, PAT, Req, SESSION, config, refusal};

/// The credential of a request as text: source, secret, kind, and context.
fn found(request: &Req) -> String {
    let credential = match Credential::extract(Head::new(&request.fields()), &config()) {
        Ok(Some(credential)) => credential,
        Ok(None) => return "none".into(),
        Err(denial) => return refusal(denial),
    };
    let source = match credential.source() {
        CredentialSource::GatewayHeader => "gateway header",
        CredentialSource::PlatformBearer => "platform bearer",
        CredentialSource::Cookie => "cookie",
        CredentialSource::OtherBearer => "other bearer",
    };
    let question = credential.introspect_request();
    assert_eq!(question.secret, credential.secret().expose());
    let kind = match question.kind {
        CredentialKind::ApiKey => "key",
        CredentialKind::PersonalAccessToken => "token",
        CredentialKind::Session => "session",
    };
    match (question.organization_id, question.project_id) {
        (None, None) => format!("{source}: {kind} {}", question.secret),
        (Some(organization), Some(project)) => {
            format!("{source}: {kind} {} in {}/{}", question.secret, organization, project)
        }
        (organization, project) => panic!("half a context: {organization:?}, {project:?}"),
    }
}

fn request() -> Req {
    Req::get(APP)
}

const GATEWAY: &str = "x-sandgate-authorization";
const NOT_VALID: &str = "401 INVALID_CREDENTIALS";
const REFUSED: &str = "400 INVALID_REQUEST";
const NO_CONTEXT: &str = "400 PROJECT_CONTEXT_REQUIRED";

#[test_case(request() => "none"; "no credential at all")]
#[test_case(request().bearer(KEY) => format!("platform bearer: key {KEY}"); "an API key")]
#[test_case(request().bearer("sk-other") => "other bearer: key sk-other"; "any other bearer counts as an API key")]
#[test_case(request().bearer(PAT).context() => format!("platform bearer: token {PAT} in org_1/proj_1"); "a personal access token")]
#[test_case(request().session() => format!("cookie: session {SESSION} in org_1/proj_1"); "a session cookie")]
#[test_case(request().and("cookie", "tl-session=old").context() => "cookie: session old in org_1/proj_1"; "the legacy session cookie")]
#[test_case(request().and(GATEWAY, "Bearer anything") => "gateway header: key anything"; "the gateway's own header, whatever the prefix")]
#[test_case(request().and(GATEWAY, format!("Bearer {PAT}")).context() => format!("gateway header: token {PAT} in org_1/proj_1"); "a personal access token in the gateway's own header")]
#[test_case(request().and("cookie", format!("tl-session={PAT}")).context() => format!("cookie: session {PAT} in org_1/proj_1"); "the value of the cookie is a session, whatever its prefix")]
#[test_case(request().bearer(KEY).context() => format!("platform bearer: key {KEY}"); "an API key with a project context, which is ignored")]
fn each_source_of_a_credential_is_read(request: Req) -> String {
    found(&request)
}

#[test_case(request().and(GATEWAY, "Bearer one").bearer(KEY).session() => "gateway header: key one"; "the gateway's header before all others")]
#[test_case(request().bearer(KEY).session() => format!("platform bearer: key {KEY}"); "a bearer with a platform prefix before a cookie")]
#[test_case(request().bearer("sk-app").session() => format!("cookie: session {SESSION} in org_1/proj_1"); "a cookie before any other bearer, which may be the app's")]
#[test_case(request().and("cookie", "tl-session=old; tl.session_token=new").context() => "cookie: session new in org_1/proj_1"; "the current cookie before the legacy one")]
#[test_case(request().and("cookie", "tl-session=old").and("cookie", "tl.session_token=new").context() => "cookie: session new in org_1/proj_1"; "the current cookie in another header before the legacy one")]
#[test_case(request().and("authorization", "Basic YTpi").session() => format!("cookie: session {SESSION} in org_1/proj_1"); "another scheme is the app's own")]
#[test_case(request().and("authorization", "Basic YTpi") => "none"; "another scheme is no credential here")]
#[test_case(request().and("authorization", "Digest username=\"u\", realm=\"r\"") => "none"; "a scheme with commas of its own")]
#[test_case(request().and("x-sandgate_authorization", format!("Bearer {KEY}")) => "none"; "an underscore makes another name")]
fn the_first_source_with_a_value_is_used(request: Req) -> String {
    found(&request)
}

#[test_case(request().and(GATEWAY, "Basic YTpi").bearer(KEY) => NOT_VALID; "another scheme in the gateway's header hides a good bearer")]
#[test_case(request().and(GATEWAY, "").bearer(KEY) => NOT_VALID; "an empty gateway header hides a good bearer")]
#[test_case(request().and(GATEWAY, "Bearer").bearer(KEY) => NOT_VALID; "a gateway header without a token hides a good bearer")]
#[test_case(request().and(GATEWAY, KEY).bearer(KEY) => NOT_VALID; "a gateway header without a scheme hides a good bearer")]
#[test_case(request().bearer("tl_key with space").session() => NOT_VALID; "a malformed platform bearer hides a good cookie")]
#[test_case(request().bearer("tl_\u{e9}").session() => NOT_VALID; "a platform bearer outside of ASCII hides a good cookie")]
#[test_case(request().and("authorization", b"Bearer tl_\xff\xfe").session() => NOT_VALID; "a platform bearer that is not UTF-8 hides a good cookie")]
#[test_case(request().and("authorization", b"Bearer tl_\x01x").session() => NOT_VALID; "a platform bearer with a control character hides a good cookie")]
#[test_case(request().bearer("tl_\"quoted\"").session() => NOT_VALID; "a platform bearer with quotes hides a good cookie")]
#[test_case(request().bearer("sk-app").and("cookie", "tl.session_token=").context() => NOT_VALID; "an empty cookie hides another bearer")]
#[test_case(request().and("cookie", "tl.session_token=; tl-session=old").context() => NOT_VALID; "an empty current cookie hides a legacy one")]
#[test_case(request().and("cookie", "tl.session_token").context() => NOT_VALID; "a cookie without a value")]
#[test_case(request().and("cookie", "tl.session_token=\"quoted\"").context() => NOT_VALID; "a cookie in quotes")]
#[test_case(request().and("authorization", "Bearer") => NOT_VALID; "a bearer without a token")]
#[test_case(request().and("authorization", "Bearer    ") => NOT_VALID; "a bearer and spaces")]
#[test_case(request().and("authorization", "Bearer").session() => format!("cookie: session {SESSION} in org_1/proj_1"); "a bearer without a prefix comes after the cookie")]
fn an_invalid_credential_is_denied_even_if_another_one_is_valid(request: Req) -> String {
    found(&request)
}

#[test_case(request().and("authorization", "bearer tl_a") => "platform bearer: key tl_a"; "in lower case")]
#[test_case(request().and("authorization", "BEARER tl_a") => "platform bearer: key tl_a"; "in capitals")]
#[test_case(request().and("authorization", "Bearer   tl_a  ") => "platform bearer: key tl_a"; "with more spaces")]
#[test_case(request().and("authorization", "Bearer\ttl_a") => "platform bearer: key tl_a"; "with a tab")]
#[test_case(request().and("authorization", "Bearertl_a") => "none"; "not without a separator")]
#[test_case(request().and("authorization", "Bear") => "none"; "not when it is cut short")]
#[test_case(request().and("authorization", "") => "none"; "not when the header is empty")]
fn the_bearer_scheme_is_parsed_as_the_rfc_defines_it(request: Req) -> String {
    found(&request)
}

#[test_case(request().bearer(KEY).bearer(KEY) => REFUSED; "the same bearer twice")]
#[test_case(request().bearer(KEY).bearer("other") => REFUSED; "two bearers")]
#[test_case(request().and("authorization", "Basic YTpi").bearer(KEY) => REFUSED; "another scheme and a bearer")]
#[test_case(request().and(GATEWAY, "Bearer a").and(GATEWAY, "Bearer b") => REFUSED; "the gateway's header twice")]
#[test_case(request().and(GATEWAY, "Bearer a").bearer(KEY).bearer(KEY) => REFUSED; "two bearers behind the gateway's header")]
#[test_case(request().and("authorization", format!("Bearer {KEY},Bearer {KEY}")) => REFUSED; "two bearers as Envoy joins them")]
#[test_case(request().and("authorization", "Bearer a, Bearer b") => REFUSED; "two bearers joined with a space")]
#[test_case(request().and("authorization", "Basic YTpi,Bearer tl_a") => REFUSED; "another scheme joined with a bearer")]
#[test_case(request().and("authorization", "Bearer tl_a,Basic YTpi") => REFUSED; "a bearer joined with another scheme")]
#[test_case(request().and("authorization", "Bearer a,b") => REFUSED; "a comma in a token")]
#[test_case(request().and("authorization", "Bearer tl_a,") => REFUSED; "a comma behind a token")]
#[test_case(request().and("authorization", ",Bearer tl_a") => REFUSED; "a comma before a bearer")]
#[test_case(request().and(GATEWAY, "Bearer a,Bearer b") => REFUSED; "the gateway's header joined")]
#[test_case(request().and("cookie", "tl.session_token=a; tl.session_token=a").context() => REFUSED; "a session cookie twice")]
#[test_case(request().and("cookie", "tl.session_token=a").and("cookie", "tl.session_token=b").context() => REFUSED; "in two cookie headers")]
#[test_case(request().and("cookie", "tl-session=a; x=1; tl-session=b").context() => REFUSED; "the legacy cookie twice")]
#[test_case(request().and("cookie", "tl-session=a; tl.session_token=x; tl-session=b").context() => REFUSED; "the legacy cookie twice behind the current one")]
fn duplicated_credentials_are_refused(request: Req) -> String {
    found(&request)
}

#[test_case(request().and("cookie", "a=1; tl.session_token=s; b=2").context() => "cookie: session s in org_1/proj_1"; "among others")]
#[test_case(request().and("cookie", "a=1;tl.session_token=s;b=2").context() => "cookie: session s in org_1/proj_1"; "without spaces")]
#[test_case(request().and("cookie", " tl.session_token = s ").context() => "cookie: session s in org_1/proj_1"; "with spaces")]
#[test_case(request().and("cookie", "tl.session_token=a=b==").context() => "cookie: session a=b== in org_1/proj_1"; "with equals signs in its value")]
#[test_case(request().and("cookie", "TL.SESSION_TOKEN=s").context() => "none"; "not in other case")]
#[test_case(request().and("cookie", "xtl-session=s; tl-sessionx=s").context() => "none"; "not as a part of a name")]
#[test_case(request().and("cookie", "a=tl-session=s").context() => "none"; "not as the value of another")]
#[test_case(request().and("cookie", "=tl-session=s").context() => "none"; "not without a name")]
#[test_case(request().and("cookie", "tl%2Dsession=s").context() => "none"; "not escaped")]
fn the_session_cookie_is_found(request: Req) -> String {
    found(&request)
}

#[test_case(request().bearer(PAT) => NO_CONTEXT; "neither organization nor project")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "o") => NO_CONTEXT; "no project")]
#[test_case(request().bearer(PAT).and("x-forwarded-project-id", "p") => NO_CONTEXT; "no organization")]
#[test_case(request().and("cookie", "tl-session=s") => NO_CONTEXT; "neither organization nor project, for a session")]
#[test_case(request().and(GATEWAY, format!("Bearer {PAT}")) => NO_CONTEXT; "neither organization nor project, for a token in the gateway's header")]
#[test_case(request().bearer(PAT).path("/?organizationId=o&projectId=p") => NO_CONTEXT; "the query of a request that is not a WebSocket upgrade is ignored")]
#[test_case(request().bearer(PAT).and("x_forwarded_organization_id", "o").and("x_forwarded_project_id", "p") => NO_CONTEXT; "underscores make other names")]
#[test_case(request().bearer(PAT).context().and("x-forwarded-project-id", "proj_1") => REFUSED; "the project twice")]
#[test_case(request().bearer(PAT).context().and("x-forwarded-organization-id", "org_2") => REFUSED; "two organizations")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "a,b").and("x-forwarded-project-id", "p") => REFUSED; "two organizations joined by a comma")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "").and("x-forwarded-project-id", "p") => REFUSED; "an empty organization")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "o").and("x-forwarded-project-id", "p/../q") => REFUSED; "a project that is no id")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", b"\xff").and("x-forwarded-project-id", "p") => REFUSED; "an organization that is no UTF-8")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "o".repeat(128)).and("x-forwarded-project-id", "p") => format!("platform bearer: token {PAT} in {}/p", "o".repeat(128)); "as long as an id may be")]
#[test_case(request().bearer(PAT).and("x-forwarded-organization-id", "o".repeat(129)).and("x-forwarded-project-id", "p") => REFUSED; "longer than an id may be")]
fn tokens_and_sessions_need_organization_and_project(request: Req) -> String {
    found(&request)
}

/// A WebSocket upgrade in HTTP/1.1 with a session cookie, as a browser makes it.
fn websocket(path: &str) -> Req {
    let request = request().and("upgrade", "websocket").and("connection", "Upgrade").path(path);
    request.and("cookie", "tl-session=s")
}

/// The same in HTTP/2 (RFC 8441).
fn websocket_h2(path: &str) -> Req {
    let request = Req::new("CONNECT", APP).and(":protocol", "websocket").path(path);
    request.and("cookie", "tl-session=s")
}

const IN_QUERY: &str = "cookie: session s in o/p";

#[test_case(websocket("/socket?organizationId=o&projectId=p") => IN_QUERY; "an upgrade of HTTP/1.1")]
#[test_case(websocket_h2("/socket?organizationId=o&projectId=p") => IN_QUERY; "an upgrade of HTTP/2")]
#[test_case(websocket("/?x=1&projectId=p&y&organizationId=o&=") => IN_QUERY; "among others, in any order")]
#[test_case(websocket("/?organization%49d=%6F&project%49d=%70") => IN_QUERY; "escaped")]
#[test_case(websocket("/?organizationId=o").and("x-forwarded-project-id", "p") => IN_QUERY; "one in the query, one in a header")]
#[test_case(websocket("/?organizationId=o&projectId=p").and("x-forwarded-organization-id", "o").and("x-forwarded-project-id", "p") => IN_QUERY; "the query and the headers agree")]
#[test_case(websocket("/").and("x-forwarded-organization-id", "o").and("x-forwarded-project-id", "p") => IN_QUERY; "headers alone")]
#[test_case(request().and("upgrade", "h2c, WebSocket").path("/?organizationId=o&projectId=p").bearer(PAT) => format!("platform bearer: token {PAT} in o/p"); "a personal access token, the protocol in a list and in other case")]
#[test_case(websocket("/?organizationId=o&projectId=p").and("x-forwarded-project-id", "q") => REFUSED; "the query and the headers disagree")]
#[test_case(websocket("/?organizationId=o&organizationId=o&projectId=p") => REFUSED; "twice the same")]
#[test_case(websocket("/?organizationId=o&organizationId=x&projectId=p") => REFUSED; "twice, disagreeing")]
#[test_case(websocket("/?organizationId=o&organization%49d=x&projectId=p") => REFUSED; "twice, once escaped")]
#[test_case(websocket("/?organizationId=o&projectId=p&projectId=q").and("x-forwarded-project-id", "p") => REFUSED; "twice, next to a header")]
#[test_case(websocket("/?organizationId=&projectId=p") => REFUSED; "empty")]
#[test_case(websocket("/?organizationId&projectId=p") => REFUSED; "without a value")]
#[test_case(websocket("/?organizationId=o+o&projectId=p") => REFUSED; "a plus sign is no space and no id")]
#[test_case(websocket("/?organizationId=o%20o&projectId=p") => REFUSED; "an escaped space")]
#[test_case(websocket("/?organizationId=o%&projectId=p") => REFUSED; "half an escape")]
#[test_case(websocket("/?organizationId=o%4&projectId=p") => REFUSED; "an escape cut short")]
#[test_case(websocket("/?organizationId=%ff&projectId=p") => REFUSED; "an escape that is no UTF-8")]
#[test_case(websocket("/?organizationId=%6f%2e&projectId=p") => "cookie: session s in o./p"; "an escaped dot is a dot")]
#[test_case(websocket("/?organizationId=%256f&projectId=p") => REFUSED; "escaped twice is decoded once")]
#[test_case(websocket("/?organization_id=o&project_id=p") => NO_CONTEXT; "other names")]
#[test_case(websocket("/?organizationid=o&projectid=p") => NO_CONTEXT; "other case")]
#[test_case(websocket("/organizationId=o&projectId=p") => NO_CONTEXT; "no query")]
#[test_case(websocket("/#?organizationId=o&projectId=p") => NO_CONTEXT; "a fragment")]
#[test_case(websocket("/??organizationId=o&projectId=p") => NO_CONTEXT; "a second question mark belongs to the name")]
#[test_case(request().and("upgrade", "h2c").and("cookie", "tl-session=s").path("/?organizationId=o&projectId=p") => NO_CONTEXT; "an upgrade to something else")]
#[test_case(request().and("cookie", "tl-session=s").and("sec-websocket-key", "k").path("/?organizationId=o&projectId=p") => NO_CONTEXT; "no upgrade")]
#[test_case(Req::new("CONNECT", APP).and(":protocol", "connect-udp").and("cookie", "tl-session=s").path("/?organizationId=o&projectId=p") => NO_CONTEXT; "another protocol of HTTP/2")]
fn a_websocket_may_give_its_context_in_the_query(request: Req) -> String {
    found(&request)
}

#[test]
fn a_secret_longer_than_any_token_is_refused() {
    let longest = format!("tl_{}", "x".repeat(8_189));
    assert_eq!(found(&request().bearer(&longest)), format!("platform bearer: key {longest}"));
    assert_eq!(found(&request().bearer(&format!("{longest}x"))), NOT_VALID);
}

#[test]
fn the_cache_key_depends_on_kind_secret_and_context() {
    let in_context = |organization: &str, project: &str, request: Req| {
        request
            .and("x-forwarded-organization-id", organization)
            .and("x-forwarded-project-id", project)
    };
    let requests = [
        request().bearer("tl_a"),
        request().bearer("tl_b"),
        in_context("ab", "c", request().bearer("tl_pat")),
        in_context("a", "bc", request().bearer("tl_pat")),
        in_context("abc", "c", request().bearer("tl_pat")),
        in_context("b", "c", request().bearer("tl_pata")),
        in_context("ab", "c", request().and("cookie", "tl-session=tl_pat")),
    ];
    let key = |request: &Req| {
        let found = Credential::extract(Head::new(&request.fields()), &config());
        found.ok().flatten().expect("a credential").key()
    };
    let keys: std::collections::BTreeSet<_> = requests.iter().map(key).collect();
    assert_eq!(keys.len(), requests.len());
    // The source is not part of the key: the result of a lookup does not depend on it.
    let elsewhere = request().and(GATEWAY, "Bearer tl_a");
    assert_eq!(key(&elsewhere), key(&requests[0]));
}
