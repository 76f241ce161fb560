//! An HTTP client that connects to one address and sends any `Host`.
//!
//! [`Client::get`], [`Client::post`] and [`Client::request`] create a [`Call`]. [`Call::send`] opens a new connection, and
//! [`Connection::send`] uses an open one.

mod answer;
mod connection;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Response};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki;

pub use answer::Answer;
use connection::Body;
pub use connection::Connection;

/// The limit for a handshake, and for a response that is read to its end.
const LIMIT: Duration = Duration::from_secs(60);

/// The server's address, and how to connect to it.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
    /// The server name (SNI), if the client uses TLS.
    tls: Option<&'static str>,
    /// The client's own address, if the system does not choose it.
    source: Option<IpAddr>,
}

/// The version of HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge, or by ALPN inside TLS.
    H2c,
}

impl Client {
    /// Connects to `address`, whatever the host of a call.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, tls: None, source: None }
    }

    /// Uses TLS with this server name (SNI), and trusts the authority of the tests.
    #[must_use]
    pub const fn tls(self, server_name: &'static str) -> Self {
        Self { tls: Some(server_name), ..self }
    }

    /// Connects from `source`, an address of this machine.
    #[must_use]
    pub const fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    #[must_use]
    pub const fn address(self) -> SocketAddr {
        self.address
    }

    /// Creates a call. `host` is the `Host` or `:authority`.
    pub fn request(self, method: Method, host: &str, path: &str) -> Call {
        Call {
            client: self,
            protocol: Protocol::Http1,
            method,
            host: host.to_owned(),
            path: path.to_owned(),
            headers: HeaderMap::new(),
            body: Full::new(Bytes::new()).boxed_unsync(),
        }
    }

    /// Creates a GET.
    pub fn get(self, host: &str, path: &str) -> Call {
        self.request(Method::GET, host, path)
    }

    /// Creates a POST without a body.
    pub fn post(self, host: &str, path: &str) -> Call {
        self.request(Method::POST, host, path)
    }

    /// Sends bytes unchanged, and reads until the server closes the connection or sends nothing for 3 s.
    pub async fn raw(self, request: &[u8]) -> Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) =
            tokio::time::timeout(Duration::from_secs(3), stream.read(&mut buffer)).await
        {
            match read? {
                0 => break,
                length => answer.extend(buffer.get(..length).unwrap_or_default()),
            }
        }
        Ok(answer)
    }

    /// Opens a connection for several calls.
    pub async fn connect(self, protocol: Protocol) -> Result<Connection> {
        match self.tls {
            Some(_) => {
                let stream = self.shake_hands(protocol).await?;
                Connection::over(TokioIo::new(stream), protocol, "https").await
            }
            None => Connection::over(TokioIo::new(self.open().await?), protocol, "http").await,
        }
    }

    /// The certificate (DER) that the server sends to a new connection.
    pub async fn certificate(self) -> Result<Vec<u8>> {
        let stream = self.shake_hands(Protocol::Http1).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(shown.context("the server showed no certificate")?.to_vec())
    }

    /// Performs a TLS handshake with ALPN for `protocol`.
    async fn shake_hands(self, protocol: Protocol) -> Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(self.tls.context("not a TLS client")?)?;
        let connector = TlsConnector::from(pki::client_config(protocol)?);
        let shaking = connector.connect(name, self.open().await?);
        Ok(tokio::time::timeout(LIMIT, shaking).await.context("no TLS handshake in time")??)
    }

    async fn open(self) -> Result<TcpStream> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket
            .connect(self.address)
            .await
            .with_context(|| format!("nothing accepts connections at {}", self.address))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A request that is not sent yet.
#[must_use]
pub struct Call {
    client: Client,
    protocol: Protocol,
    method: Method,
    host: String,
    path: String,
    headers: HeaderMap,
    body: Body,
}

impl Call {
    /// Uses `protocol` instead of HTTP/1.1.
    pub fn over(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Adds a header, even if there is one with the same name. A header that is invalid in HTTP is left out, and the test
    /// fails because it is missing.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_ref()))
        {
            self.headers.append(name, value);
        }
        self
    }

    /// Sends a credential in `Authorization`.
    pub fn bearer(self, secret: &str) -> Self {
        self.header("authorization", format!("Bearer {secret}"))
    }

    /// Turns the call into a gRPC call over HTTP/2.
    pub fn grpc(self) -> Self {
        let call = self.over(Protocol::H2c);
        call.header("content-type", "application/grpc").header("te", "trailers")
    }

    /// Sends a body with a `Content-Length`.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Full::new(body.into()).boxed_unsync();
        self
    }

    /// Sends JSON.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends a body in pieces, without a `Content-Length`.
    pub fn stream<S>(mut self, pieces: S) -> Self
    where
        S: Stream<Item = Bytes> + Send + 'static,
    {
        use futures_util::StreamExt as _;
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        self.body = StreamBody::new(frames).boxed_unsync();
        self
    }

    /// Sends the call over a new connection, and reads the response to its end.
    pub async fn send(self) -> Result<Answer> {
        let mut connection = self.client.connect(self.protocol).await?;
        connection.send(self).await
    }

    /// Sends the call over a new connection, and returns when the head of the response has arrived.
    pub async fn open(self) -> Result<Response<Incoming>> {
        let mut connection = self.client.connect(self.protocol).await?;
        connection.open(self).await
    }
}
