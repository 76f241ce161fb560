//! Servers that stand in for the internet of the sandbox behind a sidecar: DNS, HTTP, HTTPS, and a server that sends
//! first, like a mail server. They run in a network namespace of their own.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// A host of this internet.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Site {
    /// The name, in lower case.
    pub name: String,
    pub address: Ipv4Addr,
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, address) = text.split_once('=').ok_or("a site is NAME=ADDRESS")?;
        let address = address.parse().map_err(|_| format!("`{address}` is no IPv4 address"))?;
        Ok(Self { name: name.to_owned(), address })
    }
}

/// Serves for ever. `resolver` is the address of the DNS server, and `tls` the folder of the certificate for all sites.
/// Prints `ready`.
pub async fn serve(resolver: Ipv4Addr, tls: &Path, sites: Vec<Site>) -> Result<()> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_file(tls.join("tls.crt"))?],
            PrivateKeyDer::from_pem_file(tls.join("tls.key"))?,
        )?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    for site in &sites {
        for protocol in [Protocol::Banner, Protocol::Http, Protocol::Https] {
            let listener = TcpListener::bind((site.address, protocol.port())).await;
            let listener = listener.with_context(|| format!("{site:?} can't be served"))?;
            tokio::spawn(accept(listener, protocol, site.name.clone(), acceptor.clone()));
        }
    }
    let socket = UdpSocket::bind((resolver, 53)).await.context("DNS can't be served")?;
    println!("ready");
    let mut buffer = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut buffer).await?;
        // An invalid query gets no response.
        if let Some(response) = buffer.get(..length).and_then(|query| resolve(query, &sites)) {
            socket.send_to(&response, client).await?;
        }
    }
}

#[derive(Clone, Copy)]
enum Protocol {
    Banner,
    Http,
    Https,
}

impl Protocol {
    const fn port(self) -> u16 {
        match self {
            Self::Banner => 25,
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

async fn accept(listener: TcpListener, protocol: Protocol, name: String, tls: TlsAcceptor) {
    while let Ok((stream, _)) = listener.accept().await {
        let (name, tls) = (name.clone(), tls.clone());
        // An error means that the client has disconnected.
        tokio::spawn(async move {
            match protocol {
                Protocol::Banner => send_banner(stream, &name).await,
                Protocol::Http => answer_http(stream, name).await,
                Protocol::Https => answer_http(tls.accept(stream).await?, name).await,
            }
        });
    }
}

async fn send_banner(mut stream: TcpStream, name: &str) -> Result<()> {
    stream.write_all(format!("220 {name} ready\r\n").as_bytes()).await?;
    Ok(stream.shutdown().await?)
}

async fn answer_http(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    name: String,
) -> Result<()> {
    let service = service_fn(move |request: Request<Incoming>| {
        let host =
            request.headers().get("host").map(|host| String::from_utf8_lossy(host.as_bytes()));
        let (method, path) = (request.method(), request.uri().path());
        let body = format!("{name} answers {method} {path} for {}\n", host.unwrap_or_default());
        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
    });
    Ok(http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?)
}

/// The response to a DNS query: the address of a site, or "no such name".
fn resolve(query: &[u8], sites: &[Site]) -> Option<Vec<u8>> {
    let query = Message::from_vec(query).ok()?;
    let question = query.queries.first()?.clone();
    let mut response = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    let name = question.name().to_lowercase().to_string();
    let site = sites.iter().find(|site| name.trim_end_matches('.') == site.name);
    match site {
        Some(site) if question.query_type() == RecordType::A => {
            let mut record =
                Record::from_rdata(question.name().clone(), 1, RData::A(site.address.into()));
            record.dns_class = DNSClass::IN;
            response.add_answer(record);
        }
        Some(_) => {}
        None => response.metadata.response_code = ResponseCode::NXDomain,
    }
    response.add_query(question);
    response.to_vec().ok()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;

    use super::*;

    fn ask(name: &str, record_type: RecordType) -> Message {
        let sites = ["packages.test=203.0.113.10".parse().unwrap()];
        let mut query = Message::new(7, MessageType::Query, OpCode::Query);
        query.metadata.recursion_desired = true;
        query.add_query(Query::query(Name::from_str(name).unwrap(), record_type));
        let response = resolve(&query.to_vec().unwrap(), &sites).unwrap();
        let response = Message::from_vec(&response).unwrap();
        assert_eq!(
            (response.metadata.id, response.metadata.message_type, response.queries.len()),
            (7, MessageType::Response, 1)
        );
        assert!(response.metadata.recursion_desired);
        response
    }

    #[test]
    fn the_name_of_a_site_has_its_address() {
        let response = ask("Packages.TEST.", RecordType::A);
        assert_eq!(response.metadata.response_code, ResponseCode::NoError);
        let [answer] = response.answers.as_slice() else { panic!("{response:?}") };
        assert_eq!(answer.data, RData::A(Ipv4Addr::new(203, 0, 113, 10).into()));
    }

    #[test]
    fn the_name_of_a_site_has_no_other_record() {
        let response = ask("packages.test.", RecordType::AAAA);
        assert_eq!(
            (response.metadata.response_code, response.answers.len()),
            (ResponseCode::NoError, 0)
        );
    }

    #[test]
    fn another_name_does_not_exist() {
        let response = ask("elsewhere.test.", RecordType::A);
        assert_eq!(
            (response.metadata.response_code, response.answers.len()),
            (ResponseCode::NXDomain, 0)
        );
    }

    #[test]
    fn an_invalid_query_has_no_response() {
        assert_eq!(resolve(b"\0", &[]), None);
    }
}
