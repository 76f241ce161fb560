//! What to ask for, and where to connect.

use std::time::Duration;

use http::uri::Scheme;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use tokio::net::TcpStream;

/// Long enough for a lost packet or two; nobody here connects across an ocean.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A URL, the address to connect to in place of its host, and headers to send.
#[derive(Clone, Debug)]
pub struct Target {
    pub(super) uri: Uri,
    /// Header values are marked sensitive, so `Debug` hides them.
    pub(super) headers: HeaderMap,
    via: String,
}

/// A URL or header that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTarget {
    /// The URL is not `http://host[:port]/…` or `ws://host[:port]/…`.
    #[error("`{0}` is not a URL such as `http://host:port/path` or `ws://host:port/path`")]
    Url(String),
    /// The URL asks for TLS.
    #[error("`{0}` asks for TLS, which this client doesn't speak: use `http` or `ws`")]
    Tls(String),
    /// The header's name has a character that names can't have.
    #[error("`{0}` is not a header name")]
    HeaderName(String),
    /// The header's value has a character that values can't have.
    #[error("the value of header `{0}` has a character that headers can't have")]
    HeaderValue(String),
}

impl Target {
    /// A target that connects to the host and port of `url` itself.
    ///
    /// `ws` and `http` mean the same: no TLS.
    pub fn new(url: &str) -> Result<Self, InvalidTarget> {
        let invalid = || InvalidTarget::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| invalid())?;
        let authority = uri.authority().filter(|it| !it.host().is_empty()).ok_or_else(invalid)?;
        let via = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
        let mut parts = uri.into_parts();
        match parts.scheme.as_ref().map(Scheme::as_str) {
            Some("http") => {}
            // For the wire they are one; gRPC sends it as `:scheme`.
            Some("ws") => parts.scheme = Some(Scheme::HTTP),
            Some("https" | "wss") => return Err(InvalidTarget::Tls(url.to_owned())),
            _ => return Err(invalid()),
        }
        let uri = Uri::from_parts(parts).map_err(|_| invalid())?;
        Ok(Self { uri, headers: HeaderMap::new(), via })
    }

    /// Connects to `address` (`host:port`) instead of the URL's host.
    #[must_use]
    pub fn via(mut self, address: impl Into<String>) -> Self {
        self.via = address.into();
        self
    }

    /// Adds a header, also a second one of the same name.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, InvalidTarget> {
        let parsed =
            HeaderName::try_from(name).map_err(|_| InvalidTarget::HeaderName(name.to_owned()))?;
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| InvalidTarget::HeaderValue(name.to_owned()))?;
        value.set_sensitive(true);
        self.headers.append(parsed, value);
        Ok(self)
    }

    /// Connects, within ten seconds.
    pub(super) async fn connect(&self) -> Result<TcpStream, CannotConnect> {
        let failed = |reason| CannotConnect { address: self.via.clone(), reason };
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&self.via))
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(stream)
    }
}

/// No connection to the address.
#[derive(Debug, thiserror::Error)]
#[error("cannot connect to `{address}`: {reason}; is it running?")]
pub struct CannotConnect {
    address: String,
    reason: std::io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_kept_as_written_and_connected_to_unless_told_otherwise() {
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
        assert!(matches!(Target::new("wss://host/"), Err(InvalidTarget::Tls(_))));
    }

    #[test]
    fn header_values_are_never_shown() {
        let target = Target::new("http://host").unwrap().header("authorization", "hush").unwrap();
        assert!(!format!("{target:?}").contains("hush"));
        let error = target.header("x", "hush\n").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
    }
}
