//! The servers around Envoy: what a sandbox runs, and an authorization service. Each is a process of its own, so that its
//! processor time can be told apart.
//!
//! They answer every request in the same way, with as little work as possible: the authorization service, too, looks
//! nothing up, so its figures are a lower bound.

use std::net::{IpAddr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{HeaderMap, Response};
use sandgate_stack::Process;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::dns;

/// What a server answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq, clap::ValueEnum)]
pub(crate) enum Role {
    /// `ok` over HTTP/1.1, an empty message over gRPC, and an echo over WebSocket.
    Upstream,
    /// Allows everything, over HTTP/1.1 and as `envoy.service.auth.v3.Authorization`.
    Authz,
    /// Says `220 ready` to each connection.
    Banner,
    /// Receives or sends as much as possible, as the first byte says.
    Bulk,
    /// Answers each DNS question with the same address.
    Resolver,
    /// Sandgate's DNS proxy with a policy that has no rules. Its addresses: its own, and that of the resolver.
    Dns,
    /// The same with a policy that allows one name.
    Virtual,
}

/// The principal that the authorization service reports.
const PRINCIPAL: &str = "key_0123456789abcdef";

/// Starts a server as a child process, and returns once it accepts connections.
pub(crate) async fn start(
    prefix: &[&str],
    role: Role,
    addresses: &[SocketAddr],
    upstream: Option<IpAddr>,
    log: &std::path::Path,
) -> Result<Process> {
    let program = std::env::current_exe()?.display().to_string();
    let mut words: Vec<String> = prefix.iter().map(|word| (*word).to_owned()).collect();
    words.extend([program, "serve".to_owned()]);
    words.push(format!("{role:?}").to_lowercase());
    words.extend(addresses.iter().map(SocketAddr::to_string));
    words.extend(upstream.map(|address| format!("--upstream={address}")));
    let (program, arguments) = words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(arguments);
    let mut process = Process::start("a server of the benchmark", &command, log)?;
    let limit = std::time::Duration::from_secs(10);
    let ready = async |process: &mut Process| Ok(process.output().contains("ready").then_some(()));
    process.until("was not ready", limit, ready).await?;
    Ok(process)
}

/// Serves until the process ends.
pub(crate) async fn serve(
    role: Role,
    addresses: &[SocketAddr],
    upstream: Option<IpAddr>,
) -> Result<()> {
    match role {
        Role::Resolver => return dns::resolve(*addresses.first().context("no address")?).await,
        Role::Dns | Role::Virtual => {
            return dns::serve_proxy(addresses, role == Role::Virtual).await;
        }
        Role::Upstream | Role::Authz | Role::Banner | Role::Bulk => {}
    }
    let answers = Answers::new(role, upstream);
    let mut servers = tokio::task::JoinSet::new();
    for address in addresses {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(*address)?;
        servers.spawn(accept(role, socket.listen(8192)?, answers.clone()));
    }
    println!("ready");
    while let Some(ended) = servers.join_next().await {
        ended??;
    }
    Ok(())
}

async fn accept(role: Role, listener: TcpListener, answers: Answers) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answers = answers.clone();
        // A client that goes away ends its own connection only.
        tokio::spawn(async move {
            match role {
                Role::Banner => banner(stream).await,
                Role::Bulk => bulk(stream).await,
                // The others do not accept connections.
                _ => http(stream, answers).await,
            }
        });
    }
}

#[derive(Clone)]
struct Answers {
    http1: Bytes,
    grpc: Bytes,
}

impl Answers {
    fn new(role: Role, upstream: Option<IpAddr>) -> Self {
        let Some(upstream) = upstream.filter(|_| role == Role::Authz) else {
            let http1 =
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
            return Self { http1: http1.into(), grpc: grpc_message(&[]) };
        };
        let upstream = upstream.to_string();
        let headers = [("x-upstream", upstream.as_str()), ("x-principal", PRINCIPAL)];
        let lines: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let http1 = format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n");
        Self { http1: http1.into(), grpc: grpc_message(&check_response(&headers)) }
    }
}

/// An `envoy.service.auth.v3.CheckResponse` that allows a request and adds headers to it.
fn check_response(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut ok = Vec::new();
    for (name, value) in headers {
        let pair = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
        // The field `headers` of `OkHttpResponse` holds a `HeaderValueOption`, whose field `header` is this one.
        ok.extend(field(2, &field(1, &pair)));
    }
    // The field `ok_response` of `CheckResponse`.
    field(3, &ok)
}

/// A field of a protobuf message that is shorter than 128 bytes each.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut length = value.len();
    let mut encoded = vec![number << 3 | 2];
    while length > 127 {
        encoded.push(u8::try_from(length & 127).unwrap_or_default() | 128);
        length >>= 7;
    }
    encoded.push(u8::try_from(length).unwrap_or_default());
    encoded.extend(value);
    encoded
}

/// A message with the prefix of gRPC.
pub(crate) fn grpc_message(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or_default().to_be_bytes();
    [&[0], &length[..], message].concat().into()
}

async fn banner(mut stream: TcpStream) -> Result<()> {
    stream.write_all(b"220 ready").await?;
    let mut rest = [0; 512];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The first byte of a connection on which the server sends.
pub(crate) const DOWN: u8 = b'd';
pub(crate) const CHUNK: usize = 64 << 10;

/// The server says how many bytes it received, or sends until the client closes.
async fn bulk(mut stream: TcpStream) -> Result<()> {
    let mut chunk = vec![0; CHUNK];
    if stream.read_u8().await? == DOWN {
        loop {
            stream.write_all(&chunk).await?;
        }
    }
    let mut count = 0_u64;
    loop {
        match stream.read(&mut chunk).await? {
            0 => break,
            read => count += u64::try_from(read)?,
        }
    }
    stream.write_u64(count).await?;
    Ok(())
}

async fn http(mut stream: TcpStream, answers: Answers) -> Result<()> {
    let mut start = [0; 4];
    let read = stream.peek(&mut start).await?;
    if start.starts_with(b"PRI ") && read == start.len() {
        return http2(stream, answers.grpc).await;
    }
    let mut received = Vec::new();
    loop {
        let Some(end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            if stream.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let head: Vec<u8> = received.drain(..end + 4).collect();
        if head.to_ascii_lowercase().windows(18).any(|bytes| bytes == b"upgrade: websocket") {
            return websocket(stream).await;
        }
        stream.write_all(&answers.http1).await?;
    }
}

/// Envoy does not look into WebSocket frames, so an echo of the bytes suffices.
async fn websocket(mut stream: TcpStream) -> Result<()> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let (mut reader, mut writer) = stream.split();
    tokio::io::copy(&mut reader, &mut writer).await?;
    Ok(())
}

async fn http2(stream: TcpStream, message: Bytes) -> Result<()> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, mut respond) = request?;
        let message = message.clone();
        tokio::spawn(async move {
            let mut body = request.into_body();
            while let Some(chunk) = body.data().await {
                body.flow_control().release_capacity(chunk?.len())?;
            }
            let head = Response::builder().header("content-type", "application/grpc").body(())?;
            let mut out = respond.send_response(head, false)?;
            out.send_data(message, false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            out.send_trailers(trailers)?;
            anyhow::Ok(())
        });
    }
    Ok(())
}
