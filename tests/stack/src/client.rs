//! An HTTP client that connects to one address and says any `Host`.
//!
//! [`Client::get`] and its siblings make a [`Call`]; [`Call::send`] uses a connection of its own, and
//! [`Connection::send`] one that is kept.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::Stream;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki;

/// No answer takes as long, apart from streams, which are not awaited as a whole.
const LIMIT: Duration = Duration::from_secs(60);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Where to connect.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
    /// The server name that is asked for, inside TLS.
    tls: Option<&'static str>,
    /// The client's own address, where it is not the system's to choose.
    source: Option<IpAddr>,
}

/// What to speak.
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

    /// Speaks TLS: asks for `server_name` (SNI), and trusts the tests' own authority.
    #[must_use]
    pub const fn tls(self, server_name: &'static str) -> Self {
        Self { tls: Some(server_name), ..self }
    }

    /// Connects from `source`, an address of this machine.
    #[must_use]
    pub const fn from(self, source: IpAddr) -> Self {
        Self { source: Some(source), ..self }
    }

    /// The address.
    #[must_use]
    pub const fn address(self) -> SocketAddr {
        self.address
    }

    /// A call.
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

    /// A GET.
    pub fn get(self, host: &str, path: &str) -> Call {
        self.request(Method::GET, host, path)
    }

    /// A POST without a body.
    pub fn post(self, host: &str, path: &str) -> Call {
        self.request(Method::POST, host, path)
    }

    /// Sends bytes as they are, and reads until the other side closes (or is silent for a while).
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

    /// A connection that is kept.
    pub async fn connect(self, protocol: Protocol) -> Result<Connection> {
        match self.tls {
            Some(_) => {
                let stream = self.shake_hands(protocol).await?;
                Connection::over(TokioIo::new(stream), protocol, "https").await
            }
            None => Connection::over(TokioIo::new(self.open().await?), protocol, "http").await,
        }
    }

    /// The certificate (DER) that the server shows to a new connection.
    pub async fn certificate(self) -> Result<Vec<u8>> {
        let stream = self.shake_hands(Protocol::Http1).await?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        Ok(shown.context("the server showed no certificate")?.to_vec())
    }

    /// Inside TLS that agreed on `protocol`.
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

/// A request to be sent.
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
    /// Speaks `protocol` instead of HTTP/1.1.
    pub fn over(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Adds a header, also a second one of the same name. Bytes that no header may have are left
    /// out, and the test sees that they are missing.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        if let (Ok(name), Ok(value)) =
            (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_ref()))
        {
            self.headers.append(name, value);
        }
        self
    }

    /// Shows a credential in `Authorization`.
    pub fn bearer(self, secret: &str) -> Self {
        self.header("authorization", format!("Bearer {secret}"))
    }

    /// Makes it a call of gRPC, which goes over HTTP/2.
    pub fn grpc(self) -> Self {
        let call = self.over(Protocol::H2c);
        call.header("content-type", "application/grpc").header("te", "trailers")
    }

    /// Sends a body whose length is told.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = Full::new(body.into()).boxed_unsync();
        self
    }

    /// Sends JSON.
    pub fn json(self, body: &Value) -> Self {
        self.header("content-type", "application/json").body(body.to_string())
    }

    /// Sends a body piece by piece; its length is not told.
    pub fn stream<S>(mut self, pieces: S) -> Self
    where
        S: Stream<Item = Bytes> + Send + 'static,
    {
        use futures_util::StreamExt as _;
        let frames = pieces.map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
        self.body = StreamBody::new(frames).boxed_unsync();
        self
    }

    /// Sends it over a connection of its own, and reads the whole answer.
    pub async fn send(self) -> Result<Answer> {
        let mut connection = self.client.connect(self.protocol).await?;
        connection.send(self).await
    }

    /// Sends it over a connection of its own, and returns as soon as the head of the answer is
    /// there.
    pub async fn open(self) -> Result<Response<Incoming>> {
        let mut connection = self.client.connect(self.protocol).await?;
        connection.open(self).await
    }
}

/// A connection that is kept.
pub struct Connection {
    sender: Sender,
    scheme: &'static str,
}

enum Sender {
    Http1(http1::SendRequest<Body>),
    H2c(http2::SendRequest<Body>),
}

impl Connection {
    async fn over<T>(io: T, protocol: Protocol, scheme: &'static str) -> Result<Self>
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

    /// Sends a call, and reads the whole answer.
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

    /// Sends a call, and returns as soon as the head of the answer is there.
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

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// What came behind the body.
    pub trailers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("not JSON: {} {}", self.status, self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and `code` of an error body: `403 PORT_NOT_EXPOSED`. Also checks the body's shape.
    pub fn denial(&self) -> Result<String> {
        let body = self.json()?;
        let sentence = body.get("error").and_then(Value::as_str).unwrap_or_default();
        ensure!(!sentence.is_empty(), "an error body without a sentence: {body}");
        let content_type = self.header("content-type").unwrap_or_default();
        ensure!(content_type == "application/json", "an error body of type `{content_type}`");
        let code = body.get("code").and_then(Value::as_str).unwrap_or("(no code)");
        Ok(format!("{} {code}", self.status.as_u16()))
    }

    /// The first value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Fails unless the status is 200; returns the body as JSON.
    pub fn ok(&self) -> Result<Value> {
        ensure!(self.status == StatusCode::OK, "{} {}", self.status, self.text());
        self.json()
    }
}
