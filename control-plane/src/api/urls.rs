//! The URLs of sandboxes in responses.

use axum::http::{HeaderMap, HeaderValue, header};

/// Builds the URLs of sandboxes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicUrls {
    scheme: String,
    /// The URL of a proxy on `localhost` or `127.0.0.1`. Tensorlake's clients connect there and name the sandbox in
    /// `Host`.
    local_proxy: Option<String>,
    /// The domain of the sandboxes, with the port of the proxy's URL if it has one.
    authority: String,
}

/// `--proxy-url` is not an origin.
#[derive(Debug, thiserror::Error)]
#[error(
    "--proxy-url `{0}` must be `http://` or `https://`, a host, and optionally a port, without a path, such as `http://localhost:9443` or `https://sandbox.example.com`"
)]
pub struct InvalidProxyUrl(String);

impl PublicUrls {
    /// The URLs of a proxy at `proxy_url` that serves `domain`.
    ///
    /// # Errors
    /// [`InvalidProxyUrl`] if `proxy_url` is not an origin.
    pub fn new(proxy_url: &str, domain: &str) -> Result<Self, InvalidProxyUrl> {
        let invalid = || InvalidProxyUrl(proxy_url.to_owned());
        let (scheme, rest) = proxy_url.split_once("://").ok_or_else(invalid)?;
        let origin = rest.strip_suffix('/').unwrap_or(rest);
        let authority: axum::http::uri::Authority = origin.parse().map_err(|_| invalid())?;
        if !matches!(scheme, "http" | "https") || origin.contains('@') {
            return Err(invalid());
        }
        // Tensorlake's clients send `Host: <id>.local` to these two hosts only.
        let local = matches!(authority.host(), "localhost" | "127.0.0.1");
        Ok(Self {
            scheme: scheme.to_owned(),
            local_proxy: local.then(|| format!("{scheme}://{authority}")),
            authority: match authority.port_u16() {
                Some(port) => format!("{domain}:{port}"),
                None => domain.to_owned(),
            },
        })
    }

    /// The URLs to show to a caller. Names below `localhost` do not resolve everywhere, so Tensorlake's
    /// clients connect to a proxy on localhost by its own URL and put the sandbox into `Host`. Other clients
    /// don't set `Host`, so they need a URL that names the sandbox.
    pub(super) fn for_caller(&self, headers: &HeaderMap) -> Self {
        let mut urls = self.clone();
        if !is_tensorlake(headers) {
            urls.local_proxy = None;
        }
        urls
    }

    /// The URL of a sandbox's management API. A suspended sandbox has it too, because a request to it resumes the
    /// sandbox.
    pub(super) fn sandbox(&self, id: &str) -> String {
        self.local_proxy
            .clone()
            .unwrap_or_else(|| format!("{}://{id}.{}", self.scheme, self.authority))
    }

    /// The origin of the proxy. Clients put `<port>-<id>.` in front of its host.
    pub(super) fn ingress(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

/// Whether the user agent is one of Tensorlake's clients: `tensorlake-python-sdk/0.5.163`, `tensorlake-rust-sdk/0.5.89`,
/// `Tensorlake CLI (rust/0.5.113)`.
fn is_tensorlake(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"tensorlake";
    let agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
    agent.get(..NAME.len()).is_some_and(|start| start.eq_ignore_ascii_case(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown_to(agent: &'static str) -> String {
        let urls = PublicUrls::new("http://localhost:9443", "sandbox.localhost").unwrap();
        let headers = HeaderMap::from_iter([(header::USER_AGENT, HeaderValue::from_static(agent))]);
        urls.for_caller(&headers).sandbox("abc")
    }

    #[test]
    fn only_clients_that_name_the_sandbox_in_host_get_a_url_without_the_sandbox() {
        for agent in [
            "tensorlake-python-sdk/0.5.163",
            "tensorlake-rust-sdk/0.5.89",
            "Tensorlake CLI (rust/0.5.113)",
        ] {
            assert_eq!(shown_to(agent), "http://localhost:9443", "{agent}");
        }
        for agent in ["curl/8.14.1", "", "tensor", "Mozilla/5.0 tensorlake"] {
            assert_eq!(shown_to(agent), "http://abc.sandbox.localhost:9443", "{agent}");
        }
    }

    #[test]
    fn a_proxy_on_localhost_has_its_own_url_for_clients_and_the_domain_for_apps() {
        let urls = PublicUrls::new("http://localhost:9443", "sandbox.localhost").unwrap();
        assert_eq!(urls.sandbox("abc"), "http://localhost:9443");
        assert_eq!(urls.ingress(), "http://sandbox.localhost:9443");
    }

    #[test]
    fn a_proxy_elsewhere_has_a_host_for_each_sandbox() {
        let urls = PublicUrls::new("https://sandbox.example.com/", "sandbox.example.com").unwrap();
        assert_eq!(urls.sandbox("abc"), "https://abc.sandbox.example.com");
        assert_eq!(urls.ingress(), "https://sandbox.example.com");
    }

    #[test]
    fn a_url_that_is_not_an_origin_is_refused() {
        for url in
            ["localhost:9443", "ftp://a", "http://", "http://a/b", "http://u:p@a", "http://a?b"]
        {
            assert!(PublicUrls::new(url, "d").is_err(), "{url}");
        }
    }
}
