//! The HTTP app. It responds to every path with a record of the received request, and has some
//! special paths:
//!
//! | path | behaviour |
//! |---|---|
//! | `/` | a small page for browsers (`Accept: text/html`), else the record |
//! | `/health` | the record with `"status":"ok"` |
//! | `/status/NNN` | the record with that status, 200 to 599 |
//! | `/headers?set=Name: value&status=NNN` | the record with those headers; `set` may be repeated |
//! | `/slow?ms=N` | the record after a pause |
//! | `/events?count=N&interval_ms=M` | N server-sent events (0: no end) at intervals of M ms |
//! | `/download?bytes=N` | N bytes; byte i is i modulo 251 |
//! | `/upload` | reads any body and returns its length and SHA-256 |
//! | `/close` | reads the request, then closes the connection without a response |
//! | `/hang` | reads the request and never responds |
//!
//! `OPTIONS` requests get the record on every path.

mod page;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::Value;

use self::streams::{Consumed, consume, download, events};
use super::Identity;
use super::answer::{Answer, AnyBody, full, respond};
use super::listener::{Connection, Listener};
use super::query::Query;
use super::received::received;

/// Ends a request without a response.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("the client asked for no answer")]
    Asked,
    #[error("the request body broke off")]
    Body(#[from] hyper::Error),
}

/// A parameter of the request is not valid.
#[derive(Debug, thiserror::Error)]
enum BadRequest {
    #[error(transparent)]
    Number(#[from] super::query::NotANumber),
    #[error("status must be 200 to 599, got `{0}`")]
    Status(String),
    #[error("`set` must be `Name: value`, got `{0}`")]
    Header(String),
}

pub(super) async fn serve(listener: Listener, identity: Arc<Identity>) {
    listener
        .serve_http(move |request, connection| {
            let identity = identity.clone();
            async move { answer(request, connection, &identity).await }
        })
        .await;
}

async fn answer(
    request: Request<Incoming>,
    connection: Connection,
    identity: &Identity,
) -> Result<Response<AnyBody>, NoAnswer> {
    let (parts, body) = request.into_parts();
    let path = if parts.method == Method::OPTIONS { "" } else { parts.uri.path() };
    let body = consume(body, path == "/upload").await?;
    let query = Query::of(&parts.uri);
    let answer = received(&parts, connection, identity)
        .with("body_length", body.length)
        .with("body", body.text.as_deref().map_or(Value::Null, Value::from));
    let response = match path {
        "/" if wants_html(&parts) => {
            Ok(respond(StatusCode::OK, "text/html; charset=utf-8", page::render(identity, &answer)))
        }
        "/health" => Ok(answer.clone().with("status", "ok").into_response(StatusCode::OK)),
        "/upload" => Ok(uploaded(answer.clone(), &body)),
        "/download" => query.number("bytes", 0).map(download).map_err(BadRequest::from),
        "/events" => query
            .number("count", 5)
            .and_then(|count| Ok((count, query.number("interval_ms", 1000)?)))
            .map(|(count, interval)| events(count, Duration::from_millis(interval), identity))
            .map_err(BadRequest::from),
        "/slow" => match query.number("ms", 1000) {
            Ok(pause) => {
                tokio::time::sleep(Duration::from_millis(pause)).await;
                Ok(answer.clone().into_response(StatusCode::OK))
            }
            Err(error) => Err(error.into()),
        },
        "/headers" => with_headers(answer.clone(), query),
        "/close" => return Err(NoAnswer::Asked),
        "/hang" => std::future::pending().await,
        path => match path.strip_prefix("/status/") {
            Some(status) => {
                parse_status(status.as_bytes()).map(|status| with_status(answer.clone(), status))
            }
            None => Ok(answer.clone().into_response(StatusCode::OK)),
        },
    };
    Ok(response.unwrap_or_else(|error| {
        answer
            .with("error", error.to_string())
            .with("code", "BAD_REQUEST")
            .into_response(StatusCode::BAD_REQUEST)
    }))
}

fn wants_html(request: &Parts) -> bool {
    let accept = request.headers.get(hyper::header::ACCEPT).map_or(&b""[..], HeaderValue::as_bytes);
    accept.to_ascii_lowercase().windows(9).any(|window| window == b"text/html")
}

fn uploaded(answer: Answer, body: &Consumed) -> Response<AnyBody> {
    answer
        .with("sha256", body.sha256.as_deref().map_or(Value::Null, Value::from))
        .into_response(StatusCode::OK)
}

fn parse_status(text: &[u8]) -> Result<StatusCode, BadRequest> {
    StatusCode::from_bytes(text)
        .ok()
        .filter(|status| (200..=599).contains(&status.as_u16()))
        .ok_or_else(|| BadRequest::Status(String::from_utf8_lossy(text).into_owned()))
}

fn with_status(answer: Answer, status: StatusCode) -> Response<AnyBody> {
    let mut response = answer.into_response(status);
    if matches!(status.as_u16(), 204 | 205 | 304) {
        // Responses with these statuses have no body.
        *response.body_mut() = full(Bytes::new());
        response.headers_mut().remove(CONTENT_TYPE);
    }
    response
}

fn with_headers(answer: Answer, query: Query<'_>) -> Result<Response<AnyBody>, BadRequest> {
    let status = match query.all("status").next() {
        Some(status) => parse_status(&status)?,
        None => StatusCode::OK,
    };
    let mut set = HeaderMap::new();
    for line in query.all("set") {
        let (name, value) = parse_header(&line)
            .ok_or_else(|| BadRequest::Header(String::from_utf8_lossy(&line).into_owned()))?;
        set.append(name, value);
    }
    let mut response = with_status(answer, status);
    // Replaces existing headers of the same name (`content-type`), and keeps repeated headers of
    // `set`.
    response.headers_mut().extend(set);
    Ok(response)
}

fn parse_header(line: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let colon = line.iter().position(|&byte| byte == b':')?;
    let (name, value) = line.split_at_checked(colon)?;
    let name = HeaderName::from_bytes(name).ok()?;
    let value = HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()?;
    Some((name, value))
}
