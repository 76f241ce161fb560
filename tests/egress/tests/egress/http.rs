//! What HTTP passes, row by row of the table that holds for both directions, over HTTP/1.1 and HTTP/2.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Response;
use sandgate_egress_tests::{Own, Rig, site};
use serde_json::json;

use crate::http_table::{Exchange, Outcome, Request, exchanges};
use crate::http_wire::{self, Reply, Server};
use crate::support::{tests, with};

tests![
    every_row_of_the_table_comes_true_over_http1,
    every_request_of_the_table_comes_true_over_http2,
];

/// A first line whose method is no token is no request to Envoy's inspector and to the filter: it passes as the text of
/// another protocol, to where its address alone may go. docs/network-policy.md says so.
const PASSES_AS_TEXT: &str = "a method that is no token";

/// Envoy's inspector does not take such requests for HTTP, so the connection closes. The same page says so.
const CLOSES: [&str; 2] = ["bytes outside ASCII in a path", "another version"];

fn every_row_of_the_table_comes_true_over_http1() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let mut wrong = Vec::new();
    for row in exchanges() {
        let listener = rig.internet.enter(|| TcpListener::bind((site::OK, 0)))??;
        let address = listener.local_addr()?;
        let server = Server::start(listener, row.response.clone());
        let reply = http_wire::http1(connected(&rig, address)?, &http1(&row.request, address))?;
        if row.name == PASSES_AS_TEXT {
            ensure!(server.requests().len() == 1, "{reply:?}");
            continue;
        }
        let silent = CLOSES.contains(&row.name);
        wrong.extend(
            check(&row, &reply, &server.requests(), silent).err().map(|error| told(&row, &error)),
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The sidecar speaks to the server what its client speaks, so that responses of HTTP/1 are no rows here.
fn every_request_of_the_table_comes_true_over_http2() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let server = Http2::start(&rig)?;
    let host = server.own.address().to_string();
    let mut wrong = Vec::new();
    for row in exchanges() {
        let Request::Fields { method, target, fields, body } = &row.request else { continue };
        let is_request = row.response.is_empty() || row.response == ORDINARY;
        // The library of this test's server refuses such a path.
        let unspeakable = row.name == "unwise characters in a path";
        if !is_request || unspeakable {
            continue;
        }
        let pseudo =
            [(":method", *method), (":scheme", "http"), (":authority", &host), (":path", target)];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        let fields: Vec<_> = pseudo.into_iter().chain(fields.iter().cloned()).collect();
        let reply = http_wire::http2(connected(&rig, server.own.address())?, &fields, body)?;
        wrong.extend(
            check(&row, &reply, &server.take(), true).err().map(|error| told(&row, &error)),
        );
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The response of the rows that are about requests.
const ORDINARY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn connected(rig: &Rig, to: SocketAddr) -> Result<TcpStream> {
    Ok(rig.sandbox.enter(|| TcpStream::connect(to))??)
}

fn told(row: &Exchange, error: &anyhow::Error) -> String {
    format!("`{}`: {error:#}", row.name)
}

fn http1(request: &Request, host: SocketAddr) -> Vec<u8> {
    match request {
        Request::Bytes(bytes) => bytes.replace("{host}", &host.to_string()).into_bytes(),
        Request::Fields { method, target, fields, body } => {
            let head =
                format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
            let mut bytes = head.into_bytes();
            for (name, value) in fields {
                bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            if !body.is_empty() {
                bytes.extend(format!("content-length: {}\r\n", body.len()).as_bytes());
            }
            bytes.extend([b"\r\n", *body].concat());
            bytes
        }
    }
}

/// `may_be_silent`: a refusal may come without a response, as the end of the connection or stream.
fn check(row: &Exchange, reply: &Reply, arrived: &[String], may_be_silent: bool) -> Result<()> {
    match row.outcome {
        Outcome::Passes(status, text) => {
            ensure!(reply.status == Some(status) && reply.text.contains(text), "{reply:?}");
            let [request] = arrived else { anyhow::bail!("{} requests arrived", arrived.len()) };
            let head = request.split("\r\n\r\n").next().context("no head")?.to_lowercase();
            for line in &row.arrives {
                ensure!(head.split("\r\n").any(|it| it.trim_end() == *line), "no `{line}`: {head}");
            }
        }
        Outcome::RequestRefused(status) => {
            ensure!(arrived.is_empty(), "the server got {arrived:?}");
            let silent = may_be_silent && reply.status.is_none();
            ensure!(silent || reply.status == Some(status), "{reply:?}");
            let has_code = reply.text.contains("\"INVALID_REQUEST\"") || status == 403;
            ensure!(reply.status.is_none() || has_code, "{reply:?}");
        }
        Outcome::ResponseRefused => {
            ensure!(!arrived.is_empty(), "the server got no request");
            let told = reply.text.contains("\"EGRESS_INVALID\"");
            ensure!(reply.status == Some(502) && told, "{reply:?}");
        }
    }
    Ok(())
}

/// A server of HTTP/2 that answers each request alike, and keeps its head in the form of HTTP/1.
struct Http2 {
    own: Own,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Http2 {
    fn start(rig: &Rig) -> Result<Self> {
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let log = Arc::clone(&requests);
        let own = rig.serve_h2c(site::OK, move |request, mut respond| {
            let (head, _) = request.into_parts();
            let target = head.uri.path_and_query().map_or("", http::uri::PathAndQuery::as_str);
            let mut text = format!("{} {target} HTTP/1.1", head.method);
            for (name, value) in &head.headers {
                text += &format!("\r\n{name}: {}", String::from_utf8_lossy(value.as_bytes()));
            }
            log.lock().unwrap_or_else(PoisonError::into_inner).push(text + "\r\n\r\n");
            async move {
                let mut body = respond.send_response(Response::new(()), false)?;
                Ok(body.send_data(Bytes::from_static(b"hello"), true)?)
            }
        })?;
        Ok(Self { own, requests })
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.requests.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
