//! The names of the header fields that do not cross the gateway, and the comparison of names.
//!
//! Names are compared as a CGI-style server reads them (RFC 3875, section 4.1.18; also WSGI, Rack, and PHP): the case
//! of letters does not matter, and all bytes other than letters and digits count as the same separator. To such a
//! server, `X.Forwarded_Project-Id` is `X-Forwarded-Project-Id`, so it is here too.

/// The number of compared bytes. No listed name is longer, so a longer name can only match a prefix.
const COMPARED: usize = 40;

/// A header name as a CGI-style server reads it, in lower case and with `-` as the separator.
///
/// It is on the stack, because a comparison for each header of each request must not allocate.
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

    /// The name in the spelling in which it was received.
    pub(crate) fn as_received(&self) -> &'a str {
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
    pub(crate) fn contains(&self, name: &Name<'_>) -> bool {
        let start = name.start();
        self.prefixes.iter().any(|prefix| start.starts_with(prefix.as_bytes()))
            || self.exact.iter().any(|exact| name.is(exact))
    }
}

/// Fields that only the platform may send to a sandbox.
pub(crate) const INTERNAL: Names = Names {
    exact: &[],
    prefixes: &["x-envoy-", "x-sandgate-", "x-tensorlake-route-hint", "x-tensorlake-sandbox-"],
};

/// Internal fields that clients must not send to the public API.
pub(crate) const INTERNAL_TO_API: Names =
    Names { exact: &[], prefixes: &["x-envoy-", "x-sandgate-"] };

/// The two headers of [`CLAIMS`] that Envoy itself sets in a request, in Envoy's spelling. In any other spelling
/// (`x_forwarded_for`), a client has set them.
pub(crate) const SET_BY_ENVOY: [&str; 2] = ["x-forwarded-for", "x-forwarded-proto"];

/// Fields in which proxies and delivery networks describe the client: its address, scheme, host, and certificate. A
/// client could write anything into them.
pub(crate) const CLAIMS: Names = Names {
    exact: &[
        // RFC 7239, and similar unregistered fields.
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
        // The client's certificate: RFC 9440, and the field of another proxy.
        "client-cert",
        "client-cert-chain",
        "x-arr-clientcert",
        // Does not describe the client. A CGI program reads it as the variable HTTP_PROXY, and sends its own requests
        // through that proxy ("httpoxy", CVE-2016-5385).
        "proxy",
    ],
    prefixes: &["forwarded-", "http-x-forwarded-", "ssl-client-", "x-forwarded-", "x-ssl-client-"],
};

/// Response fields that a proxy in front of the edge obeys: they make it serve a file or another URL, change its load
/// balancing or caching, process the body, or redirect clients to another address.
pub(crate) const STEERING: Names = Names {
    exact: &[
        // RFC 7838. Only the edge may name another address for its origins.
        "alt-svc",
        // Both enable Edge Side Includes: the proxy then fetches the URLs in the body.
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
        // The gateway's own fields.
        "x-sandgate-",
        "x-sendfile",
    ],
};

/// Fields that RFC 9110, section 6.5.1, forbids in trailers. They must be known before the content. If a receiver
/// merges trailers into headers, they could replace fields that were checked.
pub(crate) const NOT_IN_TRAILERS: Names = Names {
    exact: &[
        // These delimit the message, or apply to one connection.
        "connection",
        "content-length",
        "http2-settings",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        // These determine the route of a request.
        "host",
        "max-forwards",
        // These change the meaning of a request. The conditions are among the prefixes (`if-`).
        "cache-control",
        "expect",
        "origin",
        "pragma",
        "range",
        // These carry credentials, or request them.
        "authentication-info",
        "authorization",
        "cookie",
        "set-cookie",
        "www-authenticate",
        // These control what a client or a cache does with a response.
        "age",
        "date",
        "expires",
        "location",
        "retry-after",
        "vary",
        "warning",
        // These describe the format of the content.
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
        assert!(INTERNAL.contains(&Name::new(&long)));
        let padded = format!("{}{}", "x-real-ip", "-".repeat(COMPARED));
        assert!(!CLAIMS.contains(&Name::new(&padded)));
    }
}
