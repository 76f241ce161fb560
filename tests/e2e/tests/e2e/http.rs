//! What HTTP passes, row by row of the common table, over HTTP/1.1 and HTTP/2.

use std::net::TcpListener;

use anyhow::{Context as _, Result, ensure};
use sandgate_e2e::{Protocol, Setup, run};

use crate::http_table::{Exchange, Outcome, Request, exchanges};
use crate::http_wire::{self, Reply, Server};
use crate::support::{public_ports, sandbox_address, seen};

/// The port of the first row's server.
const FIRST_PORT: u16 = 21_000;

#[test]
fn every_row_of_the_table_comes_true_over_http1_and_http2() {
    run(Setup::default(), async |stack| {
        // Each exchange has a server of its own. A second request to one would race with its closing.
        let cases = exchanges()
            .into_iter()
            .flat_map(|row| [(row.clone(), Protocol::Http1), (row, Protocol::H2c)]);
        let cases: Vec<(u16, (Exchange, Protocol))> = (FIRST_PORT..).zip(cases).collect();
        let ports: Vec<u16> = cases.iter().map(|(port, _)| *port).collect();
        let sandbox = public_ports(stack, &ports).await?;
        let address = sandbox_address(stack, &sandbox).await?;
        let edge = stack.edge().address();
        let mut wrong = Vec::new();
        for (port, (row, protocol)) in cases {
            let host = sandbox.host(port);
            // The server and the client block, each in a thread of its own.
            let checking = tokio::task::spawn_blocking(move || {
                let server =
                    Server::start(TcpListener::bind((address, port))?, row.response.clone());
                let stream = std::net::TcpStream::connect(edge)?;
                let Some(reply) = send(stream, protocol, &row.request, &host)? else {
                    return Ok(None);
                };
                let outcome = check(&row, protocol, &reply, &server.requests());
                let wrong =
                    outcome.map_err(|error| format!("`{}` over {protocol:?}: {error}", row.name));
                anyhow::Ok(wrong.err())
            });
            wrong.extend(checking.await??);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// Sends a request, unless the protocol can't express it.
fn send(
    stream: std::net::TcpStream,
    protocol: Protocol,
    request: &Request,
    host: &str,
) -> Result<Option<Reply>> {
    let reply = match (request, protocol) {
        (Request::Bytes(_), Protocol::H2c) => return Ok(None),
        (Request::Bytes(bytes), Protocol::Http1) => {
            http_wire::http1(stream, bytes.replace("{host}", host).as_bytes())?
        }
        (Request::Fields { method, target, fields, body }, Protocol::Http1) => {
            let mut bytes =
                format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n")
                    .into_bytes();
            for (name, value) in fields {
                bytes.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
            }
            if !body.is_empty() {
                bytes.extend(format!("content-length: {}\r\n", body.len()).as_bytes());
            }
            bytes.extend([b"\r\n", *body].concat());
            http_wire::http1(stream, &bytes)?
        }
        (Request::Fields { method, target, fields, body }, Protocol::H2c) => {
            let pseudo = [
                (":method", *method),
                (":scheme", "http"),
                (":authority", host),
                (":path", target),
            ];
            let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
            let fields: Vec<_> = pseudo.into_iter().chain(fields.iter().cloned()).collect();
            http_wire::http2(stream, &fields, body)?
        }
    };
    Ok(Some(reply))
}

fn check(row: &Exchange, protocol: Protocol, reply: &Reply, arrived: &[String]) -> Result<()> {
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
            // A stream error is HTTP/2's own way to refuse a malformed request.
            let reset = protocol == Protocol::H2c && reply.status.is_none();
            let answered =
                reply.status == Some(status) && reply.text.contains("\"INVALID_REQUEST\"");
            ensure!(reset || answered, "{reply:?}");
        }
        Outcome::ResponseRefused => {
            ensure!(!arrived.is_empty(), "the server got no request");
            let told = reply.text.contains("\"UPSTREAM_INVALID\"");
            ensure!(reply.status == Some(502) && told, "{reply:?}");
        }
    }
    Ok(())
}

/// A proxy in front that ignores the field of HTTP/1.0 would take the body for the next request.
#[test]
fn http_1_0_with_a_transfer_coding_is_refused_and_ends_its_connection() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        let request = format!(
            "POST /upload HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.0\r\nhost: {host}\r\n\r\n"
        );
        let answer = stack.edge().raw(request.as_bytes()).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        assert!(answer.contains("\"INVALID_REQUEST\""), "{answer}");
        assert!(!answer.contains("HTTP/1.0 200"), "the connection went on: {answer}");
        // With a length it passes.
        let request =
            format!("POST /upload HTTP/1.0\r\nhost: {host}\r\ncontent-length: 3\r\n\r\nabc");
        let answer = stack.edge().raw(request.as_bytes()).await?;
        assert!(answer.starts_with(b"HTTP/1.0 200 "));
        // Over HTTP/1.1 it passes, and the app sees no trace of how the gateway tells the two apart.
        let pieces = futures_util::stream::iter([bytes::Bytes::from_static(b"abc")]);
        let answer = stack.edge().post(&host, "/").stream(pieces).send().await?.ok()?;
        assert_eq!(seen(&answer, "transfer-encoding"), ["chunked"]);
        assert!(seen(&answer, "x-sandgate-transfer-encoding").is_empty(), "{answer}");
        Ok(())
    });
}

#[test]
fn the_docs_list_every_row_of_the_table() {
    let docs = include_str!("../../../../docs/http.md");
    for row in exchanges() {
        assert!(docs.contains(row.name), "docs/http.md does not mention `{}`", row.name);
    }
}
