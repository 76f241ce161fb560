//! The first bytes of a connection: what they are, and which name they show.

use proptest::prelude::*;
use sandgate_policy::egress::first_bytes::{FirstBytes, Seen, TLS_MAX};
use sandgate_policy::egress::{Name, NameFact};

/// What OpenSSL 3 sends for `bad.test`, offering h2 and http/1.1.
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

/// What bytes are that come all at once.
fn seen(bytes: &[u8]) -> Seen {
    FirstBytes::default().see(bytes)
}

/// What becomes of bytes that come in such parts: what was passed on before it was told, and what they are.
/// What is told once is not asked again.
fn in_parts(bytes: &[u8], sizes: impl IntoIterator<Item = usize>) -> (Vec<u8>, Seen) {
    let mut first_bytes = FirstBytes::default();
    let (mut passed, mut held, mut rest) = (Vec::new(), Vec::new(), bytes);
    let mut seen = Seen::Hold;
    for size in sizes {
        let (part, more) = rest.split_at(size.min(rest.len()));
        rest = more;
        held.extend(part);
        seen = first_bytes.see(&held);
        match seen {
            Seen::Hold => {}
            Seen::Pass => passed.append(&mut held),
            _ => break,
        }
        if rest.is_empty() {
            break;
        }
    }
    (passed, seen)
}

fn shows(name: &str) -> Seen {
    Seen::Tls(NameFact::Name(Name::parse(name).expect("a name")))
}

/// The same handshake message in records of that many bytes.
fn in_records(hello: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let length = u16::try_from(part.len()).expect("a record").to_be_bytes();
        [&[22, 3, 1][..], &length, part].concat()
    };
    hello[5..].chunks(size).flat_map(record).collect()
}

#[test]
fn a_real_client_hello_shows_its_name_once_it_is_whole_and_not_before() {
    let hello = openssl();
    for length in 0..hello.len() {
        assert_eq!(seen(&hello[..length]), Seen::Hold, "{length} bytes");
    }
    assert_eq!(seen(&hello), shows("bad.test"));
    assert_eq!(seen(&[&hello[..], b"early data"].concat()), shows("bad.test"));
}

#[test]
fn a_client_hello_may_be_cut_into_records_of_any_size() {
    let hello = openssl();
    for size in [1, 2, 3, 4, 5, 100, 511, 512, 16_384] {
        let cut = in_records(&hello, size);
        assert_eq!(seen(&cut), shows("bad.test"), "records of {size}");
        assert_eq!(seen(&cut[..cut.len() - 1]), Seen::Hold);
        assert_eq!(in_parts(&cut, std::iter::repeat(7)), (vec![], shows("bad.test")));
    }
}

#[test]
fn what_is_neither_tls_nor_http_is_known_from_the_bytes_that_tell() {
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
        assert_eq!(seen(bytes), Seen::Other, "{bytes:?}");
        assert_eq!(in_parts(bytes, std::iter::repeat(1)).1, Seen::Other, "{bytes:?} in parts");
    }
}

/// By their sources, Go takes a first record of any version below 0x1000, and Go, OpenSSL and BoringSSL go on
/// after a warning. Whoever sends that is understood by the server, and would not be here.
#[test]
fn tls_that_only_servers_know_for_it_shows_a_name_that_is_not_understood() {
    let unknown = Seen::Tls(NameFact::Unparsable);
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
fn what_is_held_is_not_looked_at_again_for_each_byte() {
    let mut hello = openssl();
    // A message of 60,000 bytes, in records of one.
    hello[6..9].copy_from_slice(&[0, 0xea, 0x60]);
    hello.resize(5 + 4 + 60_000, 0);
    let sent = in_records(&hello, 1);
    let (mut first_bytes, mut looked) = (FirstBytes::default(), 0);
    for length in 1..TLS_MAX {
        if length >= first_bytes.least() {
            looked += 1;
            assert_eq!(first_bytes.see(&sent[..length]), Seen::Hold);
            assert!(first_bytes.least() > length);
        }
    }
    assert!(looked < 100, "{looked} times");
}

#[test]
fn what_may_become_http_goes_on_until_its_request_line_names_the_protocol() {
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
        assert_eq!(seen(bytes), Seen::Pass, "{bytes:?}");
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
        assert_eq!(seen(bytes), Seen::Http, "{bytes:?}");
        let (passed, last) = in_parts(bytes, std::iter::repeat(1));
        assert_eq!(last, Seen::Http, "{bytes:?} in parts");
        assert!(!passed.to_ascii_uppercase().ends_with(b"HTTP/"), "{passed:?}");
    }
}

#[test]
fn a_line_is_looked_at_to_its_end_however_long_and_tls_is_not_waited_for_without_end() {
    let endless = [&[22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff][..], &vec![0; TLS_MAX]].concat();
    assert_eq!(seen(&endless[..TLS_MAX]), Seen::Tls(NameFact::Unparsable));
    let line = [&b"GET /"[..], &vec![b'A'; 200_000]].concat();
    assert_eq!(seen(&line), Seen::Pass);
    let request = [&line[..], b" HTTP/1.1\r\n"].concat();
    let (passed, last) = in_parts(&request, std::iter::repeat(1_460));
    assert_eq!((last, passed.len() >= 198_000), (Seen::Http, true));
}

proptest! {
    #[test]
    fn any_bytes_are_told_the_same_in_any_parts(
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
        if matches!(whole, Seen::Hold | Seen::Tls(_)) {
            prop_assert!(passed.is_empty(), "nothing of TLS goes on before its name is judged");
        }
    }

    /// By the rule as one reads it, not as the machine runs it.
    #[test]
    fn lines_are_told_as_the_whole_line_says(
        line in "[\\r\\n]{0,3}[ -~\\t]{0,40}( [Hh][Tt][Tt][Pp]/)?[ -~]{0,10}\\n?",
    ) {
        let text = line.trim_start_matches(['\r', '\n']);
        let (first, ended) = text.split_once('\n').map_or((text, false), |(line, _)| (line, true));
        let (method, rest) = first.split_once([' ', '\t', '\r']).unwrap_or((first, ""));
        let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        let expected = if !method.chars().all(is_token) {
            Seen::Other
        } else if rest.to_ascii_uppercase().contains("HTTP/") {
            Seen::Http
        } else if line.is_empty() {
            Seen::Hold
        } else if ended {
            Seen::Other
        } else {
            Seen::Pass
        };
        prop_assert_eq!(seen(line.as_bytes()), expected);
    }

    #[test]
    fn a_byte_that_was_changed_never_makes_the_hello_another_protocol_or_traps(
        at in 2..517usize,
        value in any::<u8>(),
    ) {
        let mut hello = openssl();
        if let Some(byte) = hello.get_mut(at) {
            *byte = value;
        }
        let seen = seen(&hello);
        prop_assert!(matches!(seen, Seen::Tls(_) | Seen::Hold), "{seen:?}");
    }
}
