//! What a request of each kind costs: instructions and host calls, compared with the budgets in `cost.txt`.

use std::path::Path;

use sandgate_wasm_host::{Cost, Headers, check_budget};

use crate::support::{
    Gateway, KEY, PAT, bearer, forwarded, in_project, replied, to, websocket, with_key,
    with_session,
};

/// The headers that Envoy has added when the filter runs, and those of a common client.
fn sent_by_client(headers: Headers) -> Headers {
    headers
        .with("user-agent", "curl/8.14.1")
        .with("accept", "*/*")
        .with("x-forwarded-for", "192.0.2.1")
        .with("x-forwarded-proto", "https")
        .with("x-request-id", "4f5e6b64-0f4c-4d3a-9d51-1f2c3a4b5c6d")
}

/// The headers of a browser's navigation.
fn sent_by_browser(headers: Headers) -> Headers {
    sent_by_client(headers)
        .with("accept-language", "en-US,en;q=0.9,de;q=0.8")
        .with("accept-encoding", "gzip, deflate, br, zstd")
        .with("sec-fetch-dest", "document")
        .with("sec-fetch-mode", "navigate")
        .with("sec-fetch-site", "same-origin")
        .with("sec-fetch-user", "?1")
        .with("sec-ch-ua", "\"Chromium\";v=\"139\", \"Not;A=Brand\";v=\"99\"")
        .with("sec-ch-ua-platform", "\"Linux\"")
        .with("referer", "https://8080-my-env.sandbox.localhost/page")
        .with("upgrade-insecure-requests", "1")
        .with("cookie", "_ga=GA1.2.1234567890.1700000000; theme=dark; session=0123456789abcdef0123")
}

fn response() -> Headers {
    Headers::from([
        (":status", "200"),
        ("server", "nginx"),
        ("date", "Mon, 30 Nov 2026 06:00:00 GMT"),
        ("content-type", "text/plain"),
        ("content-length", "2"),
        ("connection", "keep-alive"),
    ])
}

/// The cost of one request of a warm VM, with its response and its end.
fn cost_of(gateway: &Gateway, headers: &Headers, is_forwarded: bool) -> Cost {
    let send = || {
        let stream = gateway.host.request(headers.clone());
        gateway.host.run();
        if is_forwarded {
            forwarded(&stream);
            stream.respond(response());
        } else {
            replied(&stream);
        }
        stream.complete();
    };
    // The first requests fill the caches and grow the memory.
    (0..8).for_each(|_| send());
    let before = gateway.host.cost();
    send();
    gateway.host.cost() - before
}

#[test]
fn a_request_of_each_kind_costs_what_its_budget_says() {
    let gateway = Gateway::new();
    let forwarded = [
        ("public port", sent_by_client(to(8080, "shop"))),
        ("API key", sent_by_client(with_key(8080, "my-env"))),
        ("personal access token", sent_by_client(in_project(bearer(to(8080, "my-env"), PAT)))),
        ("session cookie", sent_by_client(with_session(to(8080, "my-env")))),
        ("public port, browser", sent_by_browser(to(8080, "shop"))),
        ("API key, browser", sent_by_browser(with_key(8080, "my-env"))),
        (
            "gRPC",
            sent_by_client(with_key(50051, "my-env")).with("content-type", "application/grpc"),
        ),
    ];
    let mut costs = Vec::new();
    for (kind, headers) in &forwarded {
        costs.push((*kind, cost_of(&gateway, headers, true)));
    }
    let denied = [
        ("denied: no credential", sent_by_client(to(8080, "my-env"))),
        ("denied: invalid host", sent_by_client(Headers::get("x.example.com", "/"))),
        ("denied: port not exposed", sent_by_client(bearer(to(9, "my-env"), KEY))),
    ];
    for (kind, headers) in &denied {
        costs.push((*kind, cost_of(&gateway, headers, false)));
    }
    let cold = || Gateway::new();
    let first = {
        let gateway = cold();
        let before = gateway.host.cost();
        let stream = gateway.send(sent_by_client(with_key(8080, "my-env")));
        drop(super::support::forwarded(&stream));
        gateway.host.cost() - before
    };
    costs.push(("API key, nothing cached", first));
    let upgrade = sent_by_client(websocket(with_key(8080, "my-env")));
    let before = gateway.host.cost();
    let stream = gateway.send(upgrade);
    drop(super::support::forwarded(&stream));
    costs.push(("WebSocket, request", gateway.host.cost() - before));
    check_budget(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ingress/cost.txt"), &costs);
}
