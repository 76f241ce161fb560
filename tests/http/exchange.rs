//! The exchange of a row of the table: its request in HTTP/1.1 and HTTP/2, and the check of the outcome.

use anyhow::{Context as _, Result, bail, ensure};

use crate::http_table::{Exchange, Outcome, Request};
use crate::http_wire::Reply;

/// Names and values of header fields.
pub(crate) type Fields = Vec<(String, Vec<u8>)>;

/// The refusals of a gateway, which are the only difference between the gateways.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusals {
    /// The code of the 502 in place of a response.
    pub(crate) code_of_responses: &'static str,
    /// If true, the 403 to an upgrade has the code `INVALID_REQUEST`, like all other refusals of requests.
    pub(crate) upgrades_have_a_code: bool,
    /// If true, a request may be refused by the end of its connection or stream, without a response.
    pub(crate) may_be_silent: bool,
}

impl Request {
    /// The bytes of the request in HTTP/1, to `host`.
    pub(crate) fn http1(&self, host: &str) -> Vec<u8> {
        let (method, target, fields, body) = match self {
            Self::Bytes(bytes) => return bytes.replace("{host}", host).into_bytes(),
            Self::Fields { method, target, fields, body } => (method, target, fields, body),
        };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
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

    /// The fields and the body of the request in HTTP/2, to `host`. None if only HTTP/1 can express it.
    pub(crate) fn http2(&self, host: &str) -> Option<(Fields, &'static [u8])> {
        let Self::Fields { method, target, fields, body } = self else { return None };
        let pseudo =
            [(":method", *method), (":scheme", "http"), (":authority", host), (":path", target)];
        let pseudo = pseudo.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec()));
        Some((pseudo.into_iter().chain(fields.iter().cloned()).collect(), body))
    }
}

impl Exchange {
    /// Checks the client's reply, and the heads of the requests that arrived at the server. The error is a line that
    /// names the row.
    pub(crate) fn check(
        &self,
        reply: &Reply,
        arrived: &[String],
        by: Refusals,
    ) -> Result<(), String> {
        self.holds(reply, arrived, by).map_err(|error| format!("`{}`: {error:#}", self.name))
    }

    fn holds(&self, reply: &Reply, arrived: &[String], by: Refusals) -> Result<()> {
        let has_code = |code: &str| reply.text.contains(&format!("\"{code}\""));
        match self.outcome {
            Outcome::Passes(status, text) => {
                ensure!(reply.status == Some(status) && reply.text.contains(text), "{reply:?}");
                let [request] = arrived else { bail!("{} requests arrived", arrived.len()) };
                let head = request.split("\r\n\r\n").next().context("no head")?.to_lowercase();
                for line in &self.arrives {
                    let has_line = head.split("\r\n").any(|it| it.trim_end() == *line);
                    ensure!(has_line, "no `{line}`: {head}");
                }
            }
            Outcome::RequestRefused(status) => {
                ensure!(arrived.is_empty(), "the server got {arrived:?}");
                let is_silent = by.may_be_silent && reply.status.is_none();
                let needs_code = status != 403 || by.upgrades_have_a_code;
                let is_refused =
                    reply.status == Some(status) && (!needs_code || has_code("INVALID_REQUEST"));
                ensure!(is_silent || is_refused, "{reply:?}");
            }
            Outcome::ResponseRefused => {
                ensure!(!arrived.is_empty(), "the server got no request");
                let is_refused = reply.status == Some(502) && has_code(by.code_of_responses);
                ensure!(is_refused, "{reply:?}");
            }
        }
        Ok(())
    }
}
