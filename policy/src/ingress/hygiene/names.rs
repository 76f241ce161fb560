//! The names of the header fields that do not cross the gateway, and the comparison of names.
//!
//! Names are compared as a CGI-style server reads them (RFC 3875, section 4.1.18; also WSGI, Rack, and PHP): the case
//! of letters does not matter, and all bytes other than letters and digits count as the same separator. To such a
//! server, `X.Forwarded_Project-Id` is `X-Forwarded-Project-Id`, so it is here too.

/// A header name as a CGI-style server reads it, in lower case and with `-` as the separator.
///
/// It is folded byte by byte while it is compared: most names differ from a listed one in their length or first byte, and
/// a comparison for each header of each request must not allocate.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a>(&'a str);

const fn fold(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte.to_ascii_lowercase() } else { b'-' }
}

impl<'a> Name<'a> {
    pub(crate) fn new(name: &'a str) -> Self {
        Self(name)
    }

    /// The name in the spelling in which it was received.
    pub(crate) fn as_received(self) -> &'a str {
        self.0
    }

    pub(crate) fn is(self, listed: &str) -> bool {
        self.0.len() == listed.len() && self.starts_with(listed)
    }

    fn starts_with(self, listed: &str) -> bool {
        self.0.len() >= listed.len()
            && self.0.bytes().zip(listed.bytes()).all(|(byte, listed)| fold(byte) == listed)
    }
}

/// A list of header names, in the form of [`Name`].
pub(crate) struct Names {
    /// Whole names.
    exact: &'static [&'static str],
    /// What further names start with, in several lists.
    prefixes: &'static [&'static [&'static str]],
    /// By the first byte. Most names of a request are on no list, and one look into this table excludes them.
    filters: [Filter; 128],
}

/// What is known of the listed names that start with the same byte.
#[derive(Clone, Copy)]
struct Filter {
    /// Bit `n` is set if a whole name has `n` bytes.
    lengths: u64,
    /// The bit of a prefix's third byte is set. Many prefixes have the same first two bytes (`x-`).
    thirds: u64,
}

const fn bit(third: u8) -> u64 {
    1 << (third & 63)
}

impl Names {
    #[expect(
        clippy::indexing_slicing,
        reason = "it is evaluated by the compiler, which refuses an index out of range"
    )]
    const fn new(
        exact: &'static [&'static str],
        prefixes: &'static [&'static [&'static str]],
    ) -> Self {
        let mut filters = [Filter { lengths: 0, thirds: 0 }; 128];
        let mut at = 0;
        while at < exact.len() {
            let name = exact[at].as_bytes();
            filters[name[0] as usize].lengths |= 1 << name.len();
            at += 1;
        }
        let mut list = 0;
        while list < prefixes.len() {
            at = 0;
            while at < prefixes[list].len() {
                let prefix = prefixes[list][at].as_bytes();
                filters[prefix[0] as usize].thirds |= bit(prefix[2]);
                at += 1;
            }
            list += 1;
        }
        Self { exact, prefixes, filters }
    }

    pub(crate) fn contains(&self, name: Name<'_>) -> bool {
        let mut bytes = name.0.bytes();
        let first = bytes.next().map(fold).unwrap_or_default();
        let Some(filter) = self.filters.get(usize::from(first)) else { return false };
        let has_third = bytes.nth(1).is_some_and(|third| filter.thirds & bit(fold(third)) != 0);
        if has_third && self.prefixes.iter().copied().flatten().any(|it| name.starts_with(it)) {
            return true;
        }
        let length = u32::try_from(name.0.len()).unwrap_or(u32::MAX);
        let has_length = filter.lengths.checked_shr(length).is_some_and(|bits| bits & 1 == 1);
        has_length && self.exact.iter().any(|exact| name.is(exact))
    }
}

/// Prefixes of the fields that only the platform may send to a sandbox.
const INTERNAL: &[&str] =
    &["x-envoy-", "x-sandgate-", "x-tensorlake-route-hint", "x-tensorlake-sandbox-"];

/// Fields that clients must not send to a sandbox: those that only the platform may send, and [`CLAIMS`].
pub(crate) static NOT_FROM_CLIENTS: Names = Names::new(CLAIMS_EXACT, &[INTERNAL, CLAIMS_PREFIXES]);

/// Fields that clients must not send to the public API.
pub(crate) static INTERNAL_TO_API: Names = Names::new(&[], &[&["x-envoy-", "x-sandgate-"]]);

/// The two headers of [`CLAIMS`] that Envoy itself sets in a request, in Envoy's spelling. In any other spelling
/// (`x_forwarded_for`), a client has set them.
pub(crate) const SET_BY_ENVOY: [&str; 2] = ["x-forwarded-for", "x-forwarded-proto"];

/// Fields in which proxies and delivery networks describe the client: its address, scheme, host, and certificate. A
/// client could write anything into them.
pub(crate) static CLAIMS: Names = Names::new(CLAIMS_EXACT, &[CLAIMS_PREFIXES]);

const CLAIMS_EXACT: &[&str] = &[
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
];

const CLAIMS_PREFIXES: &[&str] =
    &["forwarded-", "http-x-forwarded-", "ssl-client-", "x-forwarded-", "x-ssl-client-"];

/// Response fields that a proxy in front of the edge obeys: they make it serve a file or another URL, change its load
/// balancing or caching, process the body, or redirect clients to another address.
pub(crate) static STEERING: Names = Names::new(
    &[
        // RFC 7838. Only the edge may name another address for its origins.
        "alt-svc",
        // Both enable Edge Side Includes: the proxy then fetches the URLs in the body.
        "edge-control",
        "surrogate-control",
        "x-appengine-blobkey",
        "x-esi",
    ],
    &[&[
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
    ]],
);

/// Fields that RFC 9110, section 6.5.1, forbids in trailers. They must be known before the content. If a receiver
/// merges trailers into headers, they could replace fields that were checked.
pub(crate) static NOT_IN_TRAILERS: Names = Names::new(
    &[
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
    &[&["access-control-", "if-", "proxy-", "sec-"]],
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_in_the_form_that_names_are_compared_in() {
        for names in [&NOT_FROM_CLIENTS, &INTERNAL_TO_API, &CLAIMS, &STEERING, &NOT_IN_TRAILERS] {
            for listed in names.exact.iter().chain(names.prefixes.iter().copied().flatten()) {
                assert!(listed.len() < 63, "{listed} is longer than the table of lengths");
                assert!(listed.bytes().all(|byte| fold(byte) == byte), "{listed}");
                assert!(names.contains(Name::new(listed)), "{listed}");
                assert!(names.contains(Name::new(&listed.to_uppercase().replace('-', "_"))));
            }
        }
    }

    #[test]
    fn a_name_is_listed_if_and_only_if_a_comparison_with_the_whole_list_finds_it() {
        let listed = CLAIMS_EXACT.iter().chain(CLAIMS_PREFIXES).chain(INTERNAL);
        let similar = listed.flat_map(|name| {
            let (head, tail) = name.split_at(name.len() - 1);
            [format!("{name}x"), head.to_owned(), format!("{head}x"), format!("x{tail}")]
        });
        for name in similar {
            let starts_with = |prefix: &&str| name.starts_with(prefix);
            let is_claim =
                CLAIMS_EXACT.contains(&name.as_str()) || CLAIMS_PREFIXES.iter().any(starts_with);
            assert_eq!(CLAIMS.contains(Name::new(&name)), is_claim, "{name}");
            let is_listed = is_claim || INTERNAL.iter().any(starts_with);
            assert_eq!(NOT_FROM_CLIENTS.contains(Name::new(&name)), is_listed, "{name}");
        }
    }

    #[test]
    fn a_name_of_any_length_may_have_a_listed_prefix_but_is_no_listed_name() {
        let long = format!("x-sandgate-{}", "a".repeat(400));
        assert!(NOT_FROM_CLIENTS.contains(Name::new(&long)));
        let padded = format!("{}{}", "x-real-ip", "-".repeat(400));
        assert!(!CLAIMS.contains(Name::new(&padded)));
        assert!(!CLAIMS.contains(Name::new("")));
    }
}
