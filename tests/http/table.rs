//! The table of HTTP requests and responses that the gateways forward or refuse: ingress and egress, HTTP/1.1 and
//! HTTP/2.
//!
//! `docs/http.md` has the same rows for users. The tests of both ways run every row against the real Envoy.

/// One row: the client's request, the server's response, and the outcome.
#[derive(Clone, Debug)]
pub(crate) struct Exchange {
    pub(crate) name: &'static str,
    pub(crate) request: Request,
    /// The bytes of an HTTP/1.1 server, which closes the connection after them. Empty where the request
    /// must not reach the server.
    pub(crate) response: Vec<u8>,
    /// Lines that the head of the server's request has, in lower case.
    pub(crate) arrives: Vec<&'static str>,
    pub(crate) outcome: Outcome,
}

/// The client's request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// Something that both protocols can express.
    Fields {
        method: &'static str,
        target: &'static str,
        fields: Vec<(String, Vec<u8>)>,
        body: &'static [u8],
    },
    /// The bytes of an HTTP/1.1 or HTTP/1.0 request that no HTTP/2 client can express. `{host}` stands for
    /// the authority.
    Bytes(&'static str),
}

/// The outcome of the exchange.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// The client gets the server's status, and a body that contains this text.
    Passes(u16, &'static str),
    /// The client gets this status, and the server gets no request. Over HTTP/2 the gateway may reset the
    /// stream instead (RFC 9113, section 8.1.1).
    RequestRefused(u16),
    /// The server gets the request, and the client a 502 instead of its response.
    ResponseRefused,
}

/// The response of the rows that are about requests.
pub(crate) const ORDINARY_RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
const HELLO: Outcome = Outcome::Passes(200, "hello");

/// All rows.
pub(crate) fn exchanges() -> Vec<Exchange> {
    let mut rows = requests();
    rows.extend(requests_of_http1());
    rows.extend(responses());
    rows
}

fn row(name: &'static str, request: Request, outcome: Outcome) -> Exchange {
    let refused = matches!(outcome, Outcome::RequestRefused(_));
    let response = if refused { Vec::new() } else { ORDINARY_RESPONSE.to_vec() };
    Exchange { name, request, response, arrives: Vec::new(), outcome }
}

impl Exchange {
    fn arrives(self, lines: &[&'static str]) -> Self {
        Self { arrives: lines.to_vec(), ..self }
    }
}

fn ask(method: &'static str, target: &'static str, fields: &[(&str, &[u8])]) -> Request {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect();
    Request::Fields { method, target, fields, body: b"" }
}

/// Requests that both protocols can express.
fn requests() -> Vec<Exchange> {
    let many = (0..120).map(|number| (format!("x-many-{number}"), b"1".to_vec())).collect();
    let many = Request::Fields { method: "GET", target: "/", fields: many, body: b"" };
    let upload = Request::Fields { method: "POST", target: "/", fields: vec![], body: b"abc" };
    let get_body = Request::Fields { method: "GET", target: "/", fields: vec![], body: b"abc" };
    vec![
        row("a path with a query", ask("GET", "/a/b?c=d&e", &[]), HELLO)
            .arrives(&["get /a/b?c=d&e http/1.1"]),
        row("dots, slashes, escapes in a path", ask("GET", "//a/./../b;c=%2F%zz", &[]), HELLO)
            .arrives(&["get //a/./../b;c=%2f%zz http/1.1"]),
        row("unwise characters in a path", ask("GET", "/\"<>{}|\\^`", &[]), HELLO)
            .arrives(&["get /\"<>{}|\\^` http/1.1"]),
        row("bytes outside ASCII in a path", ask("GET", "/caf\u{e9}", &[]), REFUSED),
        row("a fragment in a path", ask("GET", "/a#b", &[]), REFUSED),
        row("a method of an extension", ask("PROPFIND", "/", &[]), HELLO)
            .arrives(&["propfind / http/1.1"]),
        row("a method that nobody registered", ask("FrobNicate", "/", &[]), HELLO)
            .arrives(&["frobnicate / http/1.1"]),
        row("a method that is no token", ask("FR@B", "/", &[]), REFUSED),
        row("OPTIONS of the whole server", ask("OPTIONS", "*", &[]), REFUSED),
        row("a body of a POST", upload, HELLO).arrives(&["post / http/1.1"]),
        row("a body of a GET", get_body, HELLO).arrives(&["get / http/1.1"]),
        row("120 fields", many, HELLO).arrives(&["x-many-0: 1", "x-many-119: 1"]),
        row("a field of 30 KiB", ask("GET", "/", &[("x-long", &[b'v'; 30 << 10])]), HELLO),
        row("UTF-8 in a field", ask("GET", "/", &[("x-utf8", "caf\u{e9}".as_bytes())]), HELLO)
            .arrives(&["x-utf8: caf\u{e9}"]),
        row("underscores in a name", ask("GET", "/", &[("x_under_score", b"1")]), HELLO)
            .arrives(&["x_under_score: 1"]),
        row("a field without a value", ask("GET", "/", &[("x-empty", b"")]), HELLO)
            .arrives(&["x-empty:"]),
        row("a name that is no token", ask("GET", "/", &[("x@y z", b"1")]), REFUSED),
        row("a NUL in a field", ask("GET", "/", &[("x-nul", b"a\0b")]), REFUSED),
        row("TE: trailers", ask("GET", "/", &[("te", b"trailers")]), HELLO)
            .arrives(&["te: trailers"]),
        row("an expectation of an extension", ask("GET", "/", &[("expect", b"x")]), HELLO)
            .arrives(&["expect: x"]),
    ]
}

const REFUSED: Outcome = Outcome::RequestRefused(400);

/// Requests that only HTTP/1 can express.
fn requests_of_http1() -> Vec<Exchange> {
    let row = |name, bytes, outcome| row(name, Request::Bytes(bytes), outcome);
    vec![
        row("HTTP/1.0 with a host", "GET / HTTP/1.0\r\nhost: {host}\r\n\r\n", HELLO)
            .arrives(&["get / http/1.1"]),
        row("the absolute form", "GET http://{host}/a HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n", HELLO)
            .arrives(&["get /a http/1.1"]),
        row("lines that end in LF alone", "GET / HTTP/1.1\nhost: {host}\nconnection: close\n\n", HELLO),
        row(
            "a folded field",
            "GET / HTTP/1.1\r\nhost: {host}\r\nx-folded: a\r\n\tb\r\nconnection: close\r\n\r\n",
            HELLO,
        )
        .arrives(&["x-folded: a\tb"]),
        row(
            "chunks",
            "POST / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-t: 1\r\n\r\n",
            HELLO,
        )
        .arrives(&["transfer-encoding: chunked"]),
        row(
            "an offer of h2c",
            "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close, upgrade, http2-settings\r\nupgrade: h2c\r\n\
             http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
            HELLO,
        ),
        row(
            "an upgrade to another protocol",
            "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
            Outcome::RequestRefused(403),
        ),
        row("no host", "GET / HTTP/1.1\r\n\r\n", REFUSED),
        row("another version", "GET / http/1.1\r\nhost: {host}\r\n\r\n", REFUSED),
        row(
            "a space before the colon",
            "GET / HTTP/1.1\r\nhost: {host}\r\nx-a : b\r\n\r\n",
            REFUSED,
        ),
        row(
            "two lengths",
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            REFUSED,
        ),
        row(
            "a length and chunks",
            "POST / HTTP/1.1\r\nhost: {host}\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            REFUSED,
        ),
        row(
            "a transfer coding other than chunked",
            "POST / HTTP/1.1\r\nhost: {host}\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            Outcome::RequestRefused(501),
        ),
    ]
}

/// Responses of a server that speaks HTTP/1.
fn responses() -> Vec<Exchange> {
    let many: String = (0..120).map(|number| format!("x-many-{number}: 1\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{many}content-length: 5\r\n\r\nhello");
    let rows: [(&str, &[u8], Outcome); 26] = [
        ("a response that ends with its connection", b"HTTP/1.1 200 OK\r\n\r\nhello", HELLO),
        ("a response of HTTP/1.0", b"HTTP/1.0 200 OK\r\n\r\nhello", HELLO),
        (
            "a response in chunks, with trailers",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-t: 1\r\n\r\n",
            HELLO,
        ),
        ("a status without a reason", b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", HELLO),
        ("a folded field", b"HTTP/1.1 200 OK\r\na: b\r\n\tc\r\n\r\nhello", HELLO),
        ("lines that end in LF alone", b"HTTP/1.1 200 OK\na: b\n\nhello", HELLO),
        ("120 fields", many.as_bytes(), HELLO),
        ("UTF-8 in a field", "HTTP/1.1 200 OK\r\na: caf\u{e9}\r\n\r\nhello".as_bytes(), HELLO),
        ("Latin-1 in a field", b"HTTP/1.1 200 OK\r\na: caf\xe9\r\n\r\nhello", HELLO),
        (
            "304 with the length of what it spares",
            b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            Outcome::Passes(304, ""),
        ),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n", Outcome::Passes(204, "")),
        (
            "204 with a length of 0",
            b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
            Outcome::Passes(204, ""),
        ),
        (
            "early hints",
            b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
            HELLO,
        ),
        (
            "204 with chunks",
            b"HTTP/1.1 204 No Content\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            Outcome::ResponseRefused,
        ),
        (
            "204 with a length",
            b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello",
            Outcome::ResponseRefused,
        ),
        (
            "a length and chunks",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Outcome::ResponseRefused,
        ),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
            Outcome::ResponseRefused,
        ),
        (
            "the same length twice",
            b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
            Outcome::ResponseRefused,
        ),
        (
            "a transfer coding other than chunked",
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            Outcome::ResponseRefused,
        ),
        ("ICY", b"ICY 200 OK\r\n\r\nhello", Outcome::ResponseRefused),
        ("HTTP/2 in the status line", b"HTTP/2 200\r\n\r\nhello", Outcome::ResponseRefused),
        ("an empty line first", b"\r\nHTTP/1.1 200 OK\r\n\r\nhello", Outcome::ResponseRefused),
        ("a space before the colon", b"HTTP/1.1 200 OK\r\na : b\r\n\r\nhello", Outcome::ResponseRefused),
        ("a line without a colon", b"HTTP/1.1 200 OK\r\nab\r\n\r\nhello", Outcome::ResponseRefused),
        ("a NUL in a field", b"HTTP/1.1 200 OK\r\na: b\0c\r\n\r\nhello", Outcome::ResponseRefused),
        ("half of a head", b"HTTP/1.1 200 OK\r\ncontent-le", Outcome::ResponseRefused),
    ];
    rows.map(|(name, response, outcome)| Exchange {
        response: response.to_vec(),
        ..row(name, ask("GET", "/", &[]), outcome)
    })
    .into()
}
