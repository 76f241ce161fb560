//! Each row of the shared table of HTTP requests and responses, over HTTP/1.1 and HTTP/2.

use std::net::TcpListener;

use sandgate_e2e::{Protocol, Setup, run};

use crate::http_exchange::Refusals;
use crate::http_table::{Exchange, exchanges};
use crate::http_wire::{self, Server};
use crate::support::{public_ports, raw, received_headers, sandbox_address};

/// The port of the server for the first row.
const FIRST_PORT: u16 = 21_000;

#[test]
fn every_row_of_the_table_holds_over_http1_and_http2() {
    run(Setup::default(), async |stack| {
        // Each exchange has its own server, because a second request to one would race with its close.
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
            // The server and the client block, so each has its own thread.
            let checking = tokio::task::spawn_blocking(move || {
                let server =
                    Server::start(TcpListener::bind((address, port))?, row.response.clone());
                let stream = std::net::TcpStream::connect(edge)?;
                let reply = match protocol {
                    Protocol::Http1 => http_wire::http1(stream, &row.request.http1(&host))?,
                    Protocol::H2c => {
                        let Some((fields, body)) = row.request.http2(&host) else {
                            return Ok(None);
                        };
                        http_wire::http2(stream, &fields, body)?
                    }
                };
                let refusals = Refusals {
                    code_of_responses: "UPSTREAM_INVALID",
                    upgrades_have_a_code: true,
                    // A stream error is HTTP/2's own way to refuse a malformed request.
                    may_be_silent: protocol == Protocol::H2c,
                };
                let checked = row.check(&reply, &server.requests(), refusals);
                anyhow::Ok(checked.err().map(|error| format!("{protocol:?}: {error}")))
            });
            wrong.extend(checking.await??);
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        Ok(())
    });
}

/// A proxy in front that ignores the field in HTTP/1.0 would parse the body as the next request.
#[test]
fn http_1_0_with_a_transfer_coding_is_refused_and_the_connection_closed() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.public_env().await?;
        let host = sandbox.host(8080);
        let request = format!(
            "POST /upload HTTP/1.0\r\nhost: {host}\r\nconnection: keep-alive\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.0\r\nhost: {host}\r\n\r\n"
        );
        let answer = raw(stack, &request).await?;
        assert!(answer.starts_with("HTTP/1.0 400 "), "{answer}");
        assert!(answer.contains("\"INVALID_REQUEST\""), "{answer}");
        assert!(!answer.contains("HTTP/1.0 200"), "the connection went on: {answer}");
        // The same request with a content length is forwarded.
        let request =
            format!("POST /upload HTTP/1.0\r\nhost: {host}\r\ncontent-length: 3\r\n\r\nabc");
        let answer = raw(stack, &request).await?;
        assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        // Over HTTP/1.1 the request is forwarded, and the app does not receive the header by which the gateway detects
        // HTTP/1.0.
        let pieces = futures_util::stream::iter([bytes::Bytes::from_static(b"abc")]);
        let answer = stack.edge().post(&host, "/").stream(pieces).send().await?.ok()?;
        assert_eq!(received_headers(&answer, "transfer-encoding"), ["chunked"]);
        assert!(received_headers(&answer, "x-sandgate-transfer-encoding").is_empty(), "{answer}");
        Ok(())
    });
}

/// The first cell of each row of the tables in the docs has entries separated by `;`, each of which may end with an
/// example in brackets.
#[test]
fn the_docs_list_every_row_of_the_table() {
    let docs = include_str!("../../../../docs/http.md");
    let cells = docs.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut entries: Vec<&str> = cells
        .flat_map(|cell| cell.split("; "))
        .map(|entry| match entry.strip_suffix(')').and_then(|entry| entry.split_once(" (")) {
            Some((entry, _example)) => entry,
            None => entry,
        })
        .collect();
    for row in exchanges() {
        let entry = entries.iter().position(|entry| *entry == row.name);
        let entry = entry.unwrap_or_else(|| panic!("docs/http.md does not list `{}`", row.name));
        entries.swap_remove(entry);
    }
}
