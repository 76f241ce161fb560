//! A connection that carries several calls.

use std::convert::Infallible;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::header::HeaderValue;
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioExecutor;

use super::{Answer, Call, LIMIT, Protocol};

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// An open connection for several calls.
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    H2c(http2::SendRequest<Body>),
}

impl Connection {
    pub(super) async fn over<T>(io: T, protocol: Protocol, scheme: &'static str) -> Result<Self>
    where
        T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        // Errors of a connection are also given to its requests.
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::Builder::new().handshake(io).await?;
                tokio::spawn(connection.with_upgrades());
                Sender::Http1(sender)
            }
            Protocol::H2c => {
                let (sender, connection) =
                    http2::Builder::new(TokioExecutor::new()).handshake(io).await?;
                tokio::spawn(connection);
                Sender::H2c(sender)
            }
        };
        Ok(Self { sender, scheme })
    }

    /// The same HTTP/2 connection, for another call at the same time.
    pub fn share(&self) -> Result<Self> {
        match &self.sender {
            Sender::H2c(sender) => {
                Ok(Self { sender: Sender::H2c(sender.clone()), scheme: self.scheme })
            }
            Sender::Http1(_) => bail!("an HTTP/1.1 connection carries one call at a time"),
        }
    }

    /// Sends a call, and reads the response to its end.
    pub async fn send(&mut self, call: Call) -> Result<Answer> {
        let what = format!("{} {}{}", call.method, call.host, call.path);
        let answer = async {
            let (head, body) = self.open(call).await?.into_parts();
            let collected = body.collect().await?;
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let body = collected.to_bytes();
            anyhow::Ok(Answer { status: head.status, headers: head.headers, trailers, body })
        };
        tokio::time::timeout(LIMIT, answer)
            .await
            .with_context(|| format!("no answer within {LIMIT:?}: {what}"))?
            .with_context(|| format!("failed: {what}"))
    }

    /// Sends a call, and returns when the head of the response has arrived.
    pub async fn open(&mut self, call: Call) -> Result<Response<Incoming>> {
        let mut request = Request::new(call.body);
        *request.method_mut() = call.method;
        *request.headers_mut() = call.headers;
        match &mut self.sender {
            Sender::Http1(sender) => {
                *request.uri_mut() = call.path.parse().context("not a path")?;
                request.headers_mut().insert("host", HeaderValue::from_str(&call.host)?);
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::H2c(sender) => {
                *request.uri_mut() = Uri::builder()
                    .scheme(self.scheme)
                    .authority(call.host)
                    .path_and_query(call.path)
                    .build()?;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}
