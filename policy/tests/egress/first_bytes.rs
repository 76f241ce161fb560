//! The inspection of a connection's first bytes.

use proptest::prelude::*;
use sandgate_policy::egress::first_bytes::{FirstBytes, Inspection, TLS_MAX};
use sandgate_policy::egress::{Name, ShownName};

/// The ClientHello of OpenSSL 3 for `bad.test`, with ALPN h2 and http/1.1.
const OPENSSL: &str = "1603010200010001fc030311569d0f0255ff56533e62af0da2d32bc768a7342a7cf3a309d13709d304606920\
        6ece40b6e189849ac0985a6523ce9f8132317bf14bce3d0d8bcc512073c0ce090024130213031301c02cc030\
        c02bc02fcca9cca8c024c028c023c027009f009e006b006700ff0100018f0000000d000b0000086261642e74\
        657374000b000403000102000a00160014001d0017001e001900180100010101020103010400230000001000\
        0e000c02683208687474702f312e310016000000170000000d002a0028040305030603080708080809080a08\
        0b080408050806040105010601030303010302040205020602002b00050403040303002d0002010100330026\
        0024001d00204389d33e3b1ce140ad48937f5ab0ade9da53351d9903f5d579b88f81070eec75001500d30000\
        0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
        000000000000000000000000000000000000000000000000000000000000000000";

fn openssl() -> Vec<u8> {
    let digits: Vec<u8> = OPENSSL
        .chars()
        .map(|c| u8::try_from(c.to_digit(16).expect("hex")).expect("a digit"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The result for bytes that arrive all at once.
fn seen(bytes: &[u8]) -> Inspection {
    FirstBytes::default().inspect(bytes)
}

/// Passes the bytes in parts of these sizes, until the result is final. Returns the bytes that were
/// forwarded before the final result, and that result.
fn in_parts(bytes: &[u8], sizes: impl IntoIterator<Item = usize>) -> (Vec<u8>, Inspection) {
    let mut first_bytes = FirstBytes::default();
    let (mut passed, mut held, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut seen = Inspection::Hold;
    for size in sizes {
        let (part, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        held.extend(part);
        seen = first_bytes.inspect(&held);
        match seen {
            Inspection::Hold => {}
            Inspection::Pass => passed.append(&mut held),
            _ => break,
        }
        if rest.is_empty() {
            break;
        }
    }
    (passed, seen)
}

fn shows(name: &str) -> Inspection {
    Inspection::Tls(ShownName::Name(Name::parse(name).expect("a name")))
}

/// The same handshake message, split into records of `size` bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).expect("a record").to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    };
    hello[5..].chunks(size).flat_map(record).collect()
}

#[test]
fn a_client_hello_shows_its_name_only_when_it_is_complete() {
    let hello = openssl();
    for length in 0..hello.len() {
        assert_eq!(seen(&hello[..length]), Inspection::Hold, "{length} bytes");
    }
    assert_eq!(seen(&hello), shows("bad.test"));
    assert_eq!(seen(&[&hello[..], b"early data"].concat()), shows("bad.test"));
}

#[test]
fn a_client_hello_may_be_split_into_records_of_any_size() {
    let hello = openssl();
    for size in [1, 2, 3, 4, 5, 100, 511, 512, 16_384] {
        let cut = in_records(&hello, size);
        assert_eq!(seen(&cut), shows("bad.test"), "records of {size}");
        assert_eq!(seen(&cut[..cut.len() - 1]), Inspection::Hold);
        assert_eq!(in_parts(&cut, std::iter::repeat(7)), (vec![], shows("bad.test")));
    }
}

#[test]
fn bytes_that_are_neither_tls_nor_http_are_recognized() {
    for bytes in [
        &b"\x16\x10"[..],
        b"\x16\x01\x00\x00\x20\x02\x00",
        b"\x16\x00\x00\x00\x01\x01\x01",
        b"\x15\x00\x00\x00\x03",
        b"\x15\x20",
        b"\x80\x2e\x01",
        b"SSH-2.0-x\r\n",
        b"EHLO a.test\n",
        b"GET key\r\n",
        b"(not a method",
        b"ping\x00",
        b"\r\n\r\n\x00",
        b"\x00",
        b"\n\x16\x03\x01",
        b"no HTTP\n/1.1",
        b"HTTP/1.1 200 OK\r\n",
    ] {
        assert_eq!(seen(bytes), Inspection::Other, "{bytes:?}");
        assert_eq!(
            in_parts(bytes, std::iter::repeat(1)).1,
            Inspection::Other,
            "{bytes:?} in parts"
        );
    }
}

/// By their sources, Go accepts a first record of any version below 0x1000, and Go, OpenSSL and
/// BoringSSL continue after a warning alert. A server understands such bytes, but Envoy's TLS
/// inspector does not.
#[test]
fn tls_that_servers_accept_but_clients_do_not_send_has_no_valid_name() {
    let unknown = Inspection::Tls(ShownName::Unparsable);
    let hello = openssl();
    for version in [[2, 0], [0, 0], [4, 0], [0x0f, 0xff]] {
        let odd = [&[22][..], &version, &hello[3..]].concat();
        assert_eq!(in_parts(&odd, std::iter::repeat(1)), (vec![], unknown.clone()));
    }
    for version in [[3, 1], [3, 3], [2, 0]] {
        let warning = [&[21][..], &version, &[0, 2, 1, 90]].concat();
        let odd = [&warning[..], &hello].concat();
        assert_eq!(in_parts(&odd, std::iter::repeat(1)), (vec![], unknown.clone()));
    }
}

#[test]
fn held_bytes_are_not_inspected_again_for_each_new_byte() {
    let mut hello = openssl();
    // A message of 60,000 bytes, in records of one byte.
    hello[6..9].copy_from_slice(&[0, 0xea, 0x60]);
    hello.resize(5 + 4 + 60_000, 0);
    let sent = in_records(&hello, 1);
    let (mut first_bytes, mut inspections) = (FirstBytes::default(), 0);
    for length in 1..TLS_MAX {
        if length >= first_bytes.min_bytes() {
            inspections += 1;
            assert_eq!(first_bytes.inspect(&sent[..length]), Inspection::Hold);
            assert!(first_bytes.min_bytes() > length);
        }
    }
    assert!(inspections < 100, "{inspections} inspections");
}

#[test]
fn a_possible_request_line_is_forwarded_until_it_contains_the_protocol_name() {
    for bytes in [
        &b"G"[..],
        b"\r\n",
        b"GET",
        b"GET ",
        b"GET /a?b HTTP",
        b"hello you",
        b"ping",
        b"two words and (more) [\x01",
    ] {
        assert_eq!(seen(bytes), Inspection::Pass, "{bytes:?}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"GET / HTTP/",
        b"\r\n\nget / http/1.0\n",
        b"FROB\t*\tHTTP/9\n",
        b"GET\x0b/\x0cHTTP/1.1\r\n",
        b"GET\r/\rHTTP/1.1\r\n",
        b" GET / HTTP/1.1\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n",
        b"POST /\x00 HTTP/1.1\r\n",
        b"GET /hhtthttp:HTTHTTP/",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(seen(bytes), Inspection::Http, "{bytes:?}");
        let (passed, last) = in_parts(bytes, std::iter::repeat(1));
        assert_eq!(last, Inspection::Http, "{bytes:?} in parts");
        assert!(!passed.to_ascii_uppercase().ends_with(b"HTTP/"), "{passed:?}");
    }
}

#[test]
fn lines_of_any_length_are_inspected_and_the_wait_for_tls_is_bounded() {
    let endless = [&[22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff][..], &vec![0; TLS_MAX]].concat();
    assert_eq!(seen(&endless[..TLS_MAX]), Inspection::Tls(ShownName::Unparsable));
    let line = [&b"GET /"[..], &vec![b'A'; 200_000]].concat();
    assert_eq!(seen(&line), Inspection::Pass);
    let request = [&line[..], b" HTTP/1.1\r\n"].concat();
    let (passed, last) = in_parts(&request, std::iter::repeat(1_460));
    assert_eq!((last, passed.len() >= 198_000), (Inspection::Http, true));
}

proptest! {
    #[test]
    fn the_result_does_not_depend_on_how_the_bytes_are_split(
        bytes in proptest::collection::vec(
            prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n HTPhtp/"[..])],
            0..600,
        ),
        start in proptest::sample::select(vec![&b""[..], b"\x16\x03\x01\x00\x20\x01", b"GET ", b"\r\n"]),
        sizes in proptest::collection::vec(1..40usize, 1..20),
    ) {
        let bytes = [start, &bytes].concat();
        let whole = seen(&bytes);
        let (passed, last) = in_parts(&bytes, sizes.into_iter().cycle());
        prop_assert_eq!(&last, &whole);
        prop_assert!(bytes.starts_with(&passed));
        if matches!(whole, Inspection::Hold | Inspection::Tls(_)) {
            prop_assert!(passed.is_empty(), "no byte of TLS is forwarded before its name is evaluated");
        }
    }

    /// Compares with a direct reading of the rule instead of a state machine.
    #[test]
    fn the_result_for_a_line_agrees_with_the_rule_for_the_whole_line(
        line in "[\\r\\n]{0,3}[ -~\\t]{0,40}( [Hh][Tt][Tt][Pp]/)?[ -~]{0,10}\\n?",
    ) {
        let text = line.trim_start_matches(['\r', '\n']);
        let (first, ended) = text.split_once('\n').map_or((text, false), |(line, _)| (line, true));
        let (method, rest) = first.split_once([' ', '\t', '\r']).unwrap_or((first, ""));
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let expected = if !method.chars().all(is_token) {
            Inspection::Other
        } else if rest.to_ascii_uppercase().contains("HTTP/") {
            Inspection::Http
        } else if line.is_empty() {
            Inspection::Hold
        } else if ended {
            Inspection::Other
        } else {
            Inspection::Pass
        };
        prop_assert_eq!(seen(line.as_bytes()), expected);
    }

    #[test]
    fn a_client_hello_with_one_changed_byte_never_becomes_another_protocol_or_panics(
        at in 2..517usize,
        value in any::<u8>(),
    ) {
        let mut hello = openssl();
        if let Some(byte) = hello.get_mut(at) {
            *byte = value;
        }
        let seen = seen(&hello);
        prop_assert!(matches!(seen, Inspection::Tls(_) | Inspection::Hold), "{seen:?}");
    }
}
