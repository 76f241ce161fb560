//! Which header fields do not cross the gateway, by name, and how names are compared.
//!
//! Names are compared as a CGI-style server reads them (RFC 3875, section 4.1.18, and WSGI, Rack and PHP after
//! it): letters in one case, and every byte that is no letter or digit is the same separator. To such a
//! server `X.Forwarded_Project-Id` is `X-Forwarded-Project-Id`, so it is that here as well.

/// Bytes of a name that are compared. No listed name is longer; a longer name can only match a prefix.
const COMPARED: usize = 40;

/// A header name as a CGI-style server reads it, in lower case and with `-` as the separator.
///
/// It lives on the stack: each header of each request is compared, so a comparison must not allocate.
pub(crate) struct Name<'a> {
    raw: &'a str,
    folded: [u8; COMPARED],
}

impl<'a> Name<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        let mut folded = [0; COMPARED];
        for (slot, byte) in folded.iter_mut().zip(name.bytes()) {
            *slot = if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' };
        }
        Self { raw: name, folded }
    }

    /// The name in its own spelling.
    pub(crate) fn as_it_came(&self) -> &'a str {
        self.raw
    }

    /// The compared bytes.
    fn start(&self) -> &[u8] {
        self.folded.get(..self.raw.len()).unwrap_or(&self.folded)
    }

    pub(crate) fn is(&self, listed: &str) -> bool {
        self.raw.len() == listed.len() && self.start() == listed.as_bytes()
    }
}

/// A list of header names, in the form of [`Name`].
pub(crate) struct Names {
    /// Whole names.
    exact: &'static [&'static str],
    /// What further names start with.
    prefixes: &'static [&'static str],
}

impl Names {
    pub(crate) fn have(&self, name: &Name<'_>) -> bool {
        let start = name.start();
        self.prefixes.iter().any(|prefix| start.starts_with(prefix.as_bytes()))
            || self.exact.iter().any(|exact| name.is(exact))
    }
}

/// What only the platform may say to a sandbox.
pub(crate) const INTERNAL: Names = Names {
    exact: &[],
    prefixes: &["x-envoy-", "x-sandgate-", "x-tensorlake-route-hint", "x-tensorlake-sandbox-"],
};

/// Internal names that the lifecycle API must not be told by its clients.
pub(crate) const INTERNAL_TO_API: Names =
    Names { exact: &[], prefixes: &["x-envoy-", "x-sandgate-"] };

/// The two headers of [`CLAIMS`] that Envoy itself sets in a request, in Envoy's spelling. In any other spelling
/// (`x_forwarded_for`), a client has set them.
pub(crate) const SET_BY_ENVOY: [&str; 2] = ["x-forwarded-for", "x-forwarded-proto"];

/// What proxies and delivery networks tell apps of the client: its address, scheme, host, certificate. A
/// client could claim anything in them.
pub(crate) const CLAIMS: Names = Names {
    exact: &[
        // RFC 7239, and its unregistered relatives.
        "forwarded",
        "x-forwarded",
        // The fields in which web frameworks look for the client's address.
        "ali-cdn-real-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "client-ip",
        "cloudfront-viewer-address",
        "do-connecting-ip",
        "fastly-client-ip",
        "fly-client-ip",
        "http-client-ip",
        "incap-client-ip",
        "proxy-client-ip",
        "remote-addr",
        "true-client-ip",
        "wl-proxy-client-ip",
        "x-appengine-user-ip",
        "x-azure-clientip",
        "x-azure-socketip",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-nf-client-connection-ip",
        "x-original-forwarded-for",
        "x-originating-ip",
        "x-real-ip",
        "x-remote-addr",
        "x-remote-ip",
        "x-vercel-forwarded-for",
        // The fields in which proxies say whether the client used TLS.
        "cf-visitor",
        "cloudfront-forwarded-proto",
        "front-end-https",
        "x-arr-ssl",
        "x-scheme",
        "x-url-scheme",
        // The client's certificate: RFC 9440, and a proxy that names it otherwise.
        "client-cert",
        "client-cert-chain",
        "x-arr-clientcert",
        // Nobody's claim, but a CGI program takes it for the variable HTTP_PROXY and sends its own requests
        // there ("httpoxy", CVE-2016-5385).
        "proxy",
    ],
    prefixes: &["forwarded-", "http-x-forwarded-", "ssl-client-", "x-forwarded-", "x-ssl-client-"],
};

/// Response headers that a proxy in front of the edge obeys: it serves a file or another URL, changes how it
/// balances and caches for others, processes the body, or has clients come to another address.
pub(crate) const STEERING: Names = Names {
    exact: &[
        // RFC 7838. Where an origin is reached is for the edge to say.
        "alt-svc",
        // Both switch Edge Side Includes on: the proxy then fetches what the body names.
        "edge-control",
        "surrogate-control",
        "x-appengine-blobkey",
        "x-esi",
    ],
    prefixes: &[
        // Weights of load balancing (ORCA), also as a trailer.
        "endpoint-load-metrics",
        "x-accel-",
        "x-envoy-",
        "x-lighttpd-send-",
        "x-litespeed-",
        "x-reproxy-",
        // Nobody but the gateway speaks as the gateway.
        "x-sandgate-",
        "x-sendfile",
    ],
};

/// What RFC 9110, section 6.5.1, forbids as a trailer: it must be known before the content, and a receiver
/// that merges trailers into headers would let it replace what was checked.
pub(crate) const NOT_IN_TRAILERS: Names = Names {
    exact: &[
        // These delimit the message, or are about one connection.
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        // These decide where a request goes.
        "host",
        "max-forwards",
        // These change what a request asks for. The prefixes have the conditions (`if-`).
        "cache-control",
        "expect",
        "origin",
        "pragma",
        "range",
        // These carry credentials, or ask for them.
        "authentication-info",
        "authorization",
        "cookie",
        "set-cookie",
        "www-authenticate",
        // These tell a client or a cache what to do with a response.
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
        // These say how to read the content.
        "content-encoding",
        "content-range",
        "content-type",
    ],
    prefixes: &["access-control-", "if-", "proxy-", "sec-"],
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_in_the_form_that_names_are_compared_in() {
        for names in [INTERNAL, INTERNAL_TO_API, CLAIMS, STEERING, NOT_IN_TRAILERS] {
            for listed in names.exact.iter().chain(names.prefixes) {
                assert!(listed.len() <= COMPARED, "{listed} is longer than what is compared");
                assert_eq!(Name::new(listed).start(), listed.as_bytes());
            }
        }
    }

    #[test]
    fn a_name_longer_than_what_is_compared_is_no_listed_name_but_has_its_prefix() {
        let long = format!("x-sandgate-{}", "a".repeat(COMPARED));
        assert!(INTERNAL.have(&Name::new(&long)));
        let padded = format!("{}{}", "x-real-ip", "-".repeat(COMPARED));
        assert!(!CLAIMS.have(&Name::new(&padded)));
    }
}
