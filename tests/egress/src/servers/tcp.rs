//! The TCP servers: banner, echo, HTTP, HTTPS, DNS.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::dns::{Transport, Zone};
use crate::site;

/// The certificate of the TLS servers.
pub(super) type Identity = Arc<ServerConfig>;

/// Creates a certificate for all names of the rig, and returns it also as PEM.
pub(super) fn identity() -> Result<(Identity, String)> {
    let names = ["ok.test", "*.ok.test", "other.test", "example.com", "*.example.com"];
    let made = rcgen::generate_simple_self_signed(names.map(str::to_owned))?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    Ok((Arc::new(config), made.cert.pem()))
}

pub(super) fn serve(port: u16, listener: TcpListener, identity: Identity, zone: Zone) {
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (identity, zone) = (Arc::clone(&identity), zone.clone());
            tokio::spawn(async move {
                // A client's error ends only its own connection.
                drop(connection(port, stream, identity, zone).await);
            });
        }
    });
}

async fn connection(port: u16, stream: TcpStream, identity: Identity, zone: Zone) -> Result<()> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    match port {
        53 => dns(stream, &zone).await,
        site::BANNER_PORT => {
            let (mut reader, mut writer) = stream.into_split();
            writer.write_all(site::BANNER.as_bytes()).await?;
            tokio::io::copy(&mut reader, &mut writer).await?;
            Ok(())
        }
        site::HTTP_PORT => http(stream, local, None).await,
        site::HTTPS_PORT => {
            let stream = TlsAcceptor::from(identity).accept(stream).await?;
            let name = stream.get_ref().1.server_name().unwrap_or("-").to_owned();
            http(stream, local, Some(name)).await
        }
        _ => {
            let (mut reader, mut writer) = stream.into_split();
            tokio::io::copy(&mut reader, &mut writer).await?;
            writer.shutdown().await?;
            Ok(())
        }
    }
}

async fn dns(mut stream: TcpStream, zone: &Zone) -> Result<()> {
    loop {
        let length = stream.read_u16().await?;
        let mut message = vec![0; usize::from(length)];
        stream.read_exact(&mut message).await?;
        if let Some(answer) = zone.answer(&message, Transport::Tcp) {
            stream.write_u16(u16::try_from(answer.len())?).await?;
            stream.write_all(&answer).await?;
        }
    }
}

/// A minimal HTTP/1.1 server with keep-alive. Each response is a JSON object with the address, `Host` and SNI of the
/// request. After `CONNECT` or an upgrade, it echoes bytes.
async fn http(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    local: SocketAddr,
    sni: Option<String>,
) -> Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            head.push(line.to_owned());
        }
        let request = head.first().cloned().unwrap_or_default();
        let field = |name: &str| {
            head.iter().skip(1).find_map(|line| {
                let (found, value) = line.split_once(':')?;
                found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let length = field("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        let body = serde_json::json!({
            "request": request, "host": field("host"), "address": local.ip(), "sni": sni, "received": length,
        })
        .to_string();
        if request.starts_with("CONNECT ") || field("upgrade").is_some() {
            let status = if request.starts_with("CONNECT ") {
                "HTTP/1.1 200 OK\r\n\r\n".to_owned()
            } else {
                format!(
                    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: {}\r\n\r\n",
                    field("upgrade").unwrap_or_default()
                )
            };
            stream.get_mut().write_all(status.as_bytes()).await?;
            let (mut reader, mut writer) = tokio::io::split(stream);
            tokio::io::copy(&mut reader, &mut writer).await?;
            return Ok(());
        }
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.get_mut().write_all(answer.as_bytes()).await?;
        stream.get_mut().flush().await?;
    }
}
