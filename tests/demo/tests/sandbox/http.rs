//! HTTP/1.1 on the HTTP port.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::AsyncReadExt;

use crate::support::{Http1, ID, NAME, ask, start};

#[tokio::test]
async fn the_record_has_the_request_target_byte_for_byte() -> anyhow::Result<()> {
    let http = start().await?.http;
    let long = format!("/long?{}", "q=%41&".repeat(1400));
    let targets = [
        "/a%2Fb%2fc",
        "//",
        "//a//../b/./",
        "/?a&&b=",
        "/?",
        "/%zz?%",
        "/a;b=c,d:e@f!$'()*",
        &long,
    ];
    for target in targets {
        let answer = ask(http, &format!("GET {target}")).await?.json()?;
        assert_eq!(answer["target"], target);
    }
    let answer = ask(http, "GET http://other.test/a//b").await?.json()?;
    assert_eq!(
        (&answer["target"], &answer["host"]),
        (&json!("http://other.test/a//b"), &json!("other.test"))
    );
    Ok(())
}

#[tokio::test]
async fn the_record_has_the_identity_and_the_request() -> anyhow::Result<()> {
    let http = start().await?.http;
    let answer = ask(http, "PATCH /x\r\nX-One: 1\r\nContent-Length: 3\r\n\r\nabc").await?.json()?;
    assert_eq!(answer["sandbox"], json!({ "id": ID, "name": NAME }));
    assert_eq!(answer["method"], "PATCH");
    assert_eq!(answer["host"], "demo.test");
    assert_eq!(answer["version"], "HTTP/1.1");
    assert_eq!(
        answer["headers"],
        json!([["host", "demo.test"], ["x-one", "1"], ["content-length", "3"]])
    );
    assert_eq!((&answer["body_length"], &answer["body"]), (&json!(3), &json!("abc")));
    assert!(answer["peer"].as_str().is_some_and(|peer| peer.starts_with("127.")), "{answer}");
    Ok(())
}

#[tokio::test]
async fn the_record_has_repeated_headers_non_utf8_headers_and_a_thousand_headers()
-> anyhow::Result<()> {
    let mut connection = Http1::connect(start().await?.http).await?;
    let mut request = b"GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: caf\xe9\r\na: 2\r\nA:\r\n".to_vec();
    for number in 0..1000 {
        request.extend_from_slice(format!("x-{number}: {number}\r\n").as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    connection.send(&request).await?;
    let answer = connection.response().await?.json()?;
    let headers = answer["headers"].as_array().unwrap();
    assert_eq!(
        headers[1..5],
        [json!(["a", "1"]), json!(["a", "2"]), json!(["a", ""]), json!(["b", "caf\\xe9"])]
    );
    assert_eq!((headers.len(), &headers[1004]), (1005, &json!(["x-999", "999"])));
    Ok(())
}

#[tokio::test]
async fn the_record_has_only_the_length_of_binary_and_large_bodies() -> anyhow::Result<()> {
    let http = start().await?.http;
    let mut connection = Http1::connect(http).await?;
    connection.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n\xff\xfe").await?;
    let answer = connection.response().await?.json()?;
    assert_eq!((&answer["body_length"], &answer["body"]), (&json!(2), &json!(null)));
    let body = "x".repeat(70_000);
    let large = format!("POST /\r\nContent-Length: 70000\r\n\r\n{body}");
    let answer = ask(http, &large).await?.json()?;
    assert_eq!((&answer["body_length"], &answer["body"]), (&json!(70_000), &json!(null)));
    Ok(())
}

#[tokio::test]
async fn the_connection_number_shows_whether_a_connection_is_reused() -> anyhow::Result<()> {
    let http = start().await?.http;
    let mut numbers = Vec::new();
    for _ in 0..2 {
        let mut connection = Http1::connect(http).await?;
        for _ in 0..2 {
            connection.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await?;
            numbers.push(connection.response().await?.json()?["connection"].as_u64().unwrap());
        }
    }
    assert_eq!(numbers[0], numbers[1]);
    assert_eq!(numbers[2], numbers[3]);
    assert_ne!(numbers[0], numbers[2]);
    Ok(())
}

#[tokio::test]
async fn health_is_the_record_with_a_status() -> anyhow::Result<()> {
    let answer = ask(start().await?.http, "GET /health?x").await?.json()?;
    assert_eq!((&answer["status"], &answer["target"]), (&json!("ok"), &json!("/health?x")));
    Ok(())
}

#[tokio::test]
async fn responds_with_the_requested_status() -> anyhow::Result<()> {
    let http = start().await?.http;
    for status in [200, 204, 304, 418, 599] {
        assert_eq!(ask(http, &format!("GET /status/{status}")).await?.status, status);
    }
    for bad in ["101", "600", "abc", ""] {
        let response = ask(http, &format!("GET /status/{bad}")).await?;
        let error = format!("status must be 200 to 599, got `{bad}`");
        assert_eq!((response.status, &response.json()?["error"]), (400, &json!(error)));
    }
    Ok(())
}

#[tokio::test]
async fn responds_with_the_requested_headers() -> anyhow::Result<()> {
    let http = start().await?.http;
    let response = ask(
        http,
        "GET /headers?set=Set-Cookie:%20a=1&set=Set-Cookie:%20b=2&set=X:%20caf%E9&set=Content-Type:text/x&status=201",
    )
    .await?;
    assert_eq!(response.status, 201);
    assert_eq!(response.header("set-cookie"), [b"a=1", b"b=2"]);
    assert_eq!(response.header("x"), [b"caf\xe9"]);
    assert_eq!(response.header("content-type"), [b"text/x"]);
    for bad in ["no-colon", "a%20b:x", "a:x%0Ab"] {
        let response = ask(http, &format!("GET /headers?set={bad}")).await?;
        assert_eq!(response.status, 400, "{bad}");
    }
    Ok(())
}

#[tokio::test]
async fn slow_responds_after_the_pause() -> anyhow::Result<()> {
    let http = start().await?.http;
    let started = Instant::now();
    let response = ask(http, "GET /slow?ms=300").await?;
    assert_eq!(response.status, 200);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    assert_eq!(ask(http, "GET /slow?ms=x").await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn close_closes_the_connection_without_a_byte() -> anyhow::Result<()> {
    let mut connection = Http1::connect(start().await?.http).await?;
    connection.send(b"POST /close HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").await?;
    let mut received = Vec::new();
    connection.0.read_to_end(&mut received).await?;
    assert_eq!(received, b"");
    Ok(())
}

#[tokio::test]
async fn hang_keeps_the_connection_open_without_a_byte() -> anyhow::Result<()> {
    let mut connection = Http1::connect(start().await?.http).await?;
    connection.send(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n").await?;
    let silence = tokio::time::timeout(Duration::from_millis(500), connection.0.read_u8()).await;
    assert!(silence.is_err(), "{silence:?}");
    Ok(())
}

#[tokio::test]
async fn options_requests_get_the_record_on_every_path() -> anyhow::Result<()> {
    let http = start().await?.http;
    for target in ["/", "/close", "/status/500", "/hang"] {
        let preflight =
            format!("OPTIONS {target}\r\nOrigin: http://a\r\nAccess-Control-Request-Method: PUT");
        let response = ask(http, &preflight).await?;
        let answer = response.json()?;
        assert_eq!((response.status, &answer["target"]), (200, &json!(target)));
        assert!(response.header("access-control-allow-origin").is_empty());
    }
    Ok(())
}

#[tokio::test]
async fn browsers_get_a_page_that_names_the_sandbox() -> anyhow::Result<()> {
    let http = start().await?.http;
    let response = ask(http, "GET /\r\nAccept: text/html,*/*;q=0.8").await?;
    let page = String::from_utf8(response.body.clone())?;
    assert_eq!(response.header("content-type"), [b"text/html; charset=utf-8"]);
    assert!(page.contains(&format!("<h1>{NAME}</h1>")) && page.contains(ID), "{page}");
    ask(http, "GET /other\r\nAccept: text/html").await?.json()?;
    Ok(())
}
