//! The form of a denial: JSON for programs, a page for browsers, a status for gRPC.

use super::host::{Headers, Reply};
use serde_json::Value;

use super::support::{DOMAIN, Gateway, KEY, bearer, replied, to, websocket, with_key};

fn reply(headers: Headers) -> Reply {
    replied(&Gateway::new().send(headers))
}

fn is_json(reply: &Reply) -> bool {
    reply.headers.value("content-type").as_deref() == Some("application/json")
        && serde_json::from_str::<Value>(&reply.body)
            .is_ok_and(|body| body["code"] == "UNAUTHENTICATED" && body["error"].is_string())
}

#[test]
fn a_program_gets_a_json_denial() {
    for accept in ["*/*", "application/json", "text/plain", "application/xhtml+xml"] {
        assert!(is_json(&reply(to(8080, "my-env").with("accept", accept))), "{accept}");
    }
    assert!(is_json(&reply(to(8080, "my-env"))));
}

#[test]
fn a_navigating_browser_gets_a_short_page_that_contains_nothing_of_its_request() {
    let accept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let headers = Headers::get(&format!("8080-my-env.{DOMAIN}"), "/<script>alert(1)</script>")
        .with("accept", accept)
        .with("sec-fetch-mode", "navigate")
        .with("user-agent", "<script>");
    let page = reply(headers);
    assert_eq!(page.status, 401);
    assert!(page.headers.value("content-type").is_some_and(|kind| kind.starts_with("text/html")));
    assert!(page.body.contains("UNAUTHENTICATED"));
    assert!(!page.body.contains("<script>") && !page.body.contains("my-env"));
    assert!(page.body.len() < 2_000);
}

#[test]
fn a_browsers_fetch_and_a_websocket_get_json() {
    let html = || to(8080, "my-env").with("accept", "text/html");
    assert!(is_json(&reply(html().with("sec-fetch-mode", "cors"))));
    assert!(is_json(&reply(html().with("sec-fetch-mode", "websocket"))));
    assert!(is_json(&reply(websocket(html()))));
}

#[test]
fn a_grpc_client_gets_a_status_and_a_message() {
    for (headers, status, code) in [
        (to(50051, "my-env"), "16", "UNAUTHENTICATED"),
        (bearer(to(50051, "my-env"), "tl_apiKey_wrong"), "16", "INVALID_CREDENTIALS"),
        (with_key(4444, "my-env"), "7", "PORT_NOT_EXPOSED"),
        (with_key(8080, "theirs"), "12", "SANDBOX_NOT_FOUND"),
    ] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let reply = reply(headers.clone().with("content-type", kind).with("te", "trailers"));
            assert_eq!((reply.status, reply.body.as_str()), (200, ""));
            assert_eq!(reply.headers.value("grpc-status").as_deref(), Some(status), "{code}");
            let message = reply.headers.value("grpc-message").expect("a message");
            assert!(message.contains(code), "{message}");
        }
    }
}

#[test]
fn a_content_type_that_is_not_grpc_for_envoy_gets_json() {
    for kind in ["application/grpc;charset=utf-8", "application/grpc; x", "Application/GRPC"] {
        let reply = reply(to(50051, "my-env").with("content-type", kind));
        assert_eq!(reply.status, 401);
        assert!(is_json(&reply), "{kind}: {reply:?}");
    }
}

#[test]
fn grpc_web_is_treated_as_plain_http() {
    let web = to(50051, "my-env").with("content-type", "application/grpc-web+proto");
    assert!(is_json(&reply(web)));
}

#[test]
fn every_denial_is_uncacheable_and_contains_no_secret() {
    let gateway = Gateway::new();
    for headers in [
        to(8080, "my-env"),
        bearer(to(8080, "my-env"), "tl_apiKey_wrong"),
        with_key(4444, "my-env"),
        Headers::get("nowhere.test", "/"),
    ] {
        let reply = replied(&gateway.send(headers));
        assert_eq!(reply.headers.value("cache-control").as_deref(), Some("no-store"));
        assert!(!reply.body.contains(KEY) && !reply.body.contains("tl_apiKey_wrong"));
        assert!(!reply.headers.mention("tl_apiKey"));
    }
}

#[test]
fn a_head_request_is_denied_without_a_body() {
    let head = Headers::request("HEAD", &format!("8080-my-env.{DOMAIN}"), "/");
    let reply = reply(head);
    assert_eq!((reply.status, reply.body.as_str()), (401, ""));
}

#[test]
fn a_denial_contains_the_request_id_if_that_is_safe() {
    let gateway = Gateway::new();
    let page = || to(8080, "my-env").with("accept", "text/html");
    for request in
        [to(8080, "my-env"), page(), to(1, "my-env").with("content-type", "application/grpc")]
    {
        let reply = replied(&gateway.send(request.clone().with("x-request-id", "9f2c-1")));
        assert_eq!(reply.headers.values("x-request-id"), ["9f2c-1"]);
        let reply = replied(&gateway.send(request.with("x-request-id", "<script>")));
        assert!(!reply.headers.mention("<script>") && !reply.body.contains("<script>"));
    }
    let reply = replied(&gateway.send(page().with("x-request-id", "9f2c-1")));
    assert!(reply.body.contains("<code>9f2c-1</code>"), "{}", reply.body);
}

/// The status that the client receives for a response with this status, or the reply in its place.
fn answered(gateway: &Gateway, request: Headers, status: &str) -> Result<String, Reply> {
    let stream = gateway.send(request);
    let response = Headers::from([(":status", status), ("x-leak", "1"), ("upgrade", "websocket")]);
    match stream.respond(response) {
        Some(response) => {
            stream.complete();
            Ok(response.value(":status").unwrap_or_default())
        }
        None => {
            assert_eq!(stream.property("sandgate_decision").as_deref(), Some("UPSTREAM_INVALID"));
            Err(replied(&stream))
        }
    }
}

#[test]
fn a_response_with_a_status_that_is_not_final_is_replaced() {
    let gateway = Gateway::new();
    let plain = || with_key(3000, "my-env");
    for status in ["200", "299", "304", "404", "599"] {
        assert_eq!(answered(&gateway, plain(), status).as_deref(), Ok(status));
    }
    for status in ["000", "100", "101", "103", "199", "600", "999", "20", ""] {
        let reply = answered(&gateway, plain(), status).expect_err(status);
        assert_eq!(reply.status, 502, "{status}");
        assert!(reply.body.contains("\"UPSTREAM_INVALID\""), "{reply:?}");
        assert!(!reply.headers.contains("x-leak") && !reply.headers.contains("upgrade"));
    }
    let page = answered(&gateway, plain().with("accept", "text/html"), "600").expect_err("600");
    assert!(page.body.starts_with("<!doctype html>"), "{page:?}");
    let grpc = plain().with("content-type", "application/grpc");
    let grpc = answered(&gateway, grpc, "600").expect_err("600");
    assert_eq!(grpc.headers.value("grpc-status").as_deref(), Some("14"));
    assert_eq!(gateway.host.metric("sandgate_ingress_decisions_total.UPSTREAM_INVALID"), 11);
}

#[test]
fn status_101_is_accepted_only_for_an_upgrade_which_accepts_no_other_success() {
    let gateway = Gateway::new();
    let over_http2 = || websocket(with_key(3000, "my-env"));
    let over_http1 = || over_http2().with("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for request in [over_http1(), over_http2()] {
        for status in ["101", "302", "403", "503"] {
            assert_eq!(answered(&gateway, request.clone(), status).as_deref(), Ok(status));
        }
        for status in ["200", "204", "206", "100", "600"] {
            let reply = answered(&gateway, request.clone(), status).expect_err(status);
            assert_eq!(reply.status, 502, "{status}");
        }
    }
}
