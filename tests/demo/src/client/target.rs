//! The target of a client: its URL, the address to connect to, headers, and trusted certificates.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Long enough for a few lost packets on a local network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A URL, the address to connect to instead of its host, and headers to send.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) uri: Uri,
    /// Header values are marked sensitive, so `Debug` hides them.
    pub(super) headers: HeaderMap,
    via: String,
    trusted: RootCertStore,
}

/// A connection, with or without TLS.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The application protocol inside TLS (ALPN, RFC 7301).
#[derive(Clone, Copy, Debug)]
pub(super) enum Alpn {
    Http1,
    Http2,
}

/// A URL or header that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTarget {
    /// The URL is not `http[s]://host[:port]/…` or `ws[s]://host[:port]/…`.
    #[error("`{0}` is not a URL such as `http://host:port/path` or `wss://host:port/path`")]
    Url(String),
    /// There is no valid certificate to trust.
    #[error("the trusted certificates contain no valid PEM certificate")]
    Certificates,
    /// The header's name has a character that is not allowed.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// The header's value has a character that is not allowed.
    #[error("the value of header `{0}` has a character that headers can't have")]
    HeaderValue(String),
}

impl Target {
    /// A target that connects to the host and port of `url`.
    ///
    /// `ws` and `http` mean no TLS. `wss` and `https` mean TLS with a server that
    /// [`Self::trusting`] trusts.
    pub fn new(url: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or_else(invalid)?;
        // `ws` and `http` are the same scheme on the wire. HTTP/2 sends it as `:scheme`.
        let (scheme, port) = match uri.scheme_str() {
            Some("http" | "ws") => (Scheme::HTTP, 80),
            Some("https" | "wss") => (Scheme::HTTPS, 443),
            _ => return Err(invalid()),
        };
        let via = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(port));
        let mut parts = uri.into_parts();
        parts.scheme = Some(scheme);
        let uri = Uri::from_parts(parts).map_err(|_| invalid())?;
        Ok(Self { uri, headers: HeaderMap::new(), via, trusted: RootCertStore::empty() })
    }

    /// Connects to `address` (`host:port`) instead of the URL's host.
    #[must_use]
    pub fn via(mut self, address: impl Into<String>) -> Self {
        self.via = address.into();
        self
    }

    /// Trusts servers whose certificate is signed by one of these certificates (PEM). Without this,
    /// no server is trusted.
    pub fn trusting(mut self, certificates: &[u8]) -> Result<Self, InvalidTarget> {
        for certificate in CertificateDer::pem_slice_iter(certificates) {
            let certificate = certificate.map_err(|_| InvalidTarget::Certificates)?;
            self.trusted.add(certificate).map_err(|_| InvalidTarget::Certificates)?;
        }
        if self.trusted.is_empty() { Err(InvalidTarget::Certificates) } else { Ok(self) }
    }

    /// Adds a header. A name may be added several times.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidTarget> {
        let parsed =
            HeaderName::try_from(name).map_err(|_| InvalidTarget::HeaderName(name.to_owned()))?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| InvalidTarget::HeaderValue(name.to_owned()))?;
        value.set_sensitive(true);
        self.headers.append(parsed, value);
        Ok(self)
    }

    /// Connects, and performs the TLS handshake if the URL requires TLS, within ten seconds.
    pub(super) async fn connect(&self, alpn: Alpn) -> Result<Box<dyn Stream>, CannotConnect> {
        let failed = |reason| CannotConnect { address: self.via.clone(), reason };
        tokio::time::timeout(CONNECT_TIMEOUT, self.open(alpn))
            .await
            .map_err(|_| failed(io::ErrorKind::TimedOut.into()))?
            .map_err(failed)
    }

    async fn open(&self, alpn: Alpn) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(&self.via).await?;
        stream.set_nodelay(true)?;
        if self.uri.scheme() != Some(&Scheme::HTTPS) {
            return Ok(Box::new(stream));
        }
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Box::new(self.connector(alpn)?.connect(name, stream).await?))
    }

    fn connector(&self, alpn: Alpn) -> io::Result<TlsConnector> {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(self.trusted.clone())
                .with_no_client_auth();
        let protocol: &[u8] = match alpn {
            Alpn::Http1 => b"http/1.1",
            Alpn::Http2 => b"h2",
        };
        config.alpn_protocols = vec![protocol.to_vec()];
        Ok(Arc::new(config).into())
    }
}

/// The connection to the address failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to `{address}`: {reason}; is it running?")]
pub struct CannotConnect {
    address: String,
    reason: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_is_kept_unchanged_and_is_the_default_address() {
        let target = Target::new("ws://3000-my-env.sandbox.localhost:9443/a%2Fb//?x&&y=").unwrap();
        assert_eq!(target.uri.authority().unwrap(), "3000-my-env.sandbox.localhost:9443");
        assert_eq!(target.uri.path_and_query().unwrap(), "/a%2Fb//?x&&y=");
        assert_eq!(target.via, "3000-my-env.sandbox.localhost:9443");
        assert_eq!(target.via("127.0.0.1:9443").via, "127.0.0.1:9443");
        assert_eq!(Target::new("http://[::1]").unwrap().via, "[::1]:80");
    }

    #[test]
    fn urls_that_cannot_be_used_are_refused() {
        for url in ["", "/path", "host:80", "ftp://host/", "http://"] {
            assert!(matches!(Target::new(url), Err(InvalidTarget::Url(_))), "{url}");
        }
    }

    #[test]
    fn tls_has_its_own_port_and_scheme_and_needs_a_trusted_certificate() {
        let target = Target::new("wss://host/x").unwrap();
        assert_eq!((target.uri.scheme_str(), target.via.as_str()), (Some("https"), "host:443"));
        for text in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"] {
            let refused = Target::new("https://host/").unwrap().trusting(text.as_bytes());
            assert!(matches!(refused, Err(InvalidTarget::Certificates)), "{text}");
        }
    }

    #[test]
    fn header_values_are_never_shown() {
        let target = Target::new("http://host").unwrap().header("authorization", "hush").unwrap();
        assert!(!format!("{target:?}").contains("hush"));
        let error = target.header("x", "hush\n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
}
