//! Each row of the shared table of HTTP requests and responses, over HTTP/1.1 and HTTP/2.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::Response;
use sandgate_egress_tests::{CustomServer, Rig, site};
use serde_json::json;

use crate::http_exchange::Refusals;
use crate::http_table::{ORDINARY_RESPONSE, exchanges};
use crate::http_wire::{self, Server};
use crate::support::{tests, with};

tests![
    every_row_of_the_table_comes_true_over_http1,
    every_request_of_the_table_comes_true_over_http2,
];

/// For Envoy's inspector and for the filter, a first line whose method is not a token is not a request. It is forwarded
/// as the text of another protocol, if its address is allowed: docs/network-policy.md.
const PASSES_AS_TEXT: &str = "a method that is no token";

/// Envoy's inspector does not detect these requests as HTTP, so the connection closes: docs/network-policy.md.
const CLOSES: [&str; 2] = ["bytes outside ASCII in a path", "another version"];

fn every_row_of_the_table_comes_true_over_http1() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let mut wrong = Vec::new();
    for row in exchanges() {
        let listener = rig.internet.enter(|| TcpListener::bind((site::OK, 0)))??;
        let address = listener.local_addr()?;
        let server = Server::start(listener, row.response.clone());
        let request = row.request.http1(&address.to_string());
        let reply = http_wire::http1(connected(&rig, address)?, &request)?;
        if row.name == PASSES_AS_TEXT {
            ensure!(server.requests().len() == 1, "{reply:?}");
            continue;
        }
        let refusals = refusals(CLOSES.contains(&row.name));
        wrong.extend(row.check(&reply, &server.requests(), refusals).err());
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The sidecar uses the client's protocol for the server, so the rows with HTTP/1 responses do not apply.
fn every_request_of_the_table_comes_true_over_http2() -> Result<()> {
    let (rig, _sidecar) = with(json!({ "deny_out": ["unrelated.test"] }))?;
    let server = Http2::start(&rig)?;
    let host = server.own.address().to_string();
    let mut wrong = Vec::new();
    for row in exchanges() {
        let Some((fields, body)) = row.request.http2(&host) else { continue };
        let is_request = row.response.is_empty() || row.response == ORDINARY_RESPONSE;
        // The library of the test server refuses this path.
        let unspeakable = row.name == "unwise characters in a path";
        if !is_request || unspeakable {
            continue;
        }
        let reply = http_wire::http2(connected(&rig, server.own.address())?, &fields, body)?;
        wrong.extend(row.check(&reply, &server.take(), refusals(true)).err());
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn connected(rig: &Rig, to: SocketAddr) -> Result<TcpStream> {
    Ok(rig.sandbox.enter(|| TcpStream::connect(to))??)
}

fn refusals(may_be_silent: bool) -> Refusals {
    Refusals { code_of_responses: "EGRESS_INVALID", upgrades_have_a_code: false, may_be_silent }
}

/// An HTTP/2 server that sends the same response to each request, and records the heads in the form of HTTP/1.
struct Http2 {
    own: CustomServer,
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
