//! The first bytes of a connection: what they are, and which name they show.

use proptest::prelude::*;
use sandgate_policy::egress::first_bytes::{EXAMINED_MAX, FirstBytes};
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

fn shows(name: &str) -> FirstBytes {
    FirstBytes::Tls(NameFact::Name(Name::parse(name).expect("a name")))
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
        assert_eq!(FirstBytes::of(&hello[..length]), FirstBytes::Incomplete, "{length} bytes");
    }
    assert_eq!(FirstBytes::of(&hello), shows("bad.test"));
    assert_eq!(FirstBytes::of(&[&hello[..], b"early data"].concat()), shows("bad.test"));
}

#[test]
fn a_client_hello_may_be_cut_into_records_of_any_size() {
    let hello = openssl();
    for size in [1, 2, 3, 4, 5, 100, 511, 512, 16_384] {
        let cut = in_records(&hello, size);
        assert_eq!(FirstBytes::of(&cut), shows("bad.test"), "records of {size}");
        assert_eq!(FirstBytes::of(&cut[..cut.len() - 1]), FirstBytes::Incomplete);
    }
}

#[test]
fn what_is_neither_tls_nor_http_is_known_from_the_bytes_that_tell() {
    for bytes in [
        &b"\x16\x01"[..],
        b"\x80\x2e\x01",
        b"SSH-2.0-x\r\n",
        b"EHLO a.test\n",
        b"GET key\r\n",
        b"two words and (more) [\x01",
        b"POST /\x00 HTTP/1.1\r\n",
        b"(not a method",
        b"ping",
        b"\r\n\r\n\x00",
        b"\x00",
    ] {
        assert_eq!(FirstBytes::of(bytes), FirstBytes::Other, "{bytes:?}");
    }
}

#[test]
fn what_may_become_http_is_waited_for_and_http_is_known_by_its_request_line() {
    for bytes in [&b"G"[..], b"\r\n", b"GET", b"GET ", b"GET /a?b HTTP", b"hello you"] {
        assert_eq!(FirstBytes::of(bytes), FirstBytes::Incomplete, "{bytes:?}");
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"GET / HTTP/",
        b"\r\n\nget / http/1.0\n",
        b"FROB\t*\tHTTP/9\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(FirstBytes::of(bytes), FirstBytes::Http, "{bytes:?}");
    }
}

#[test]
fn nothing_is_waited_for_without_end() {
    let endless =
        [&[22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff][..], &vec![0; EXAMINED_MAX]].concat();
    assert_eq!(FirstBytes::of(&endless[..EXAMINED_MAX]), FirstBytes::Tls(NameFact::Unparsable));
    let line = vec![b'A'; EXAMINED_MAX];
    assert_eq!(FirstBytes::of(&line), FirstBytes::Http);
    let line = [&b"GET /"[..], &line].concat();
    assert_eq!(FirstBytes::of(&line), FirstBytes::Http);
}

proptest! {
    #[test]
    fn any_bytes_are_judged_and_more_of_them_never_take_a_judgement_back(
        bytes in proptest::collection::vec(any::<u8>(), 0..600),
        start in proptest::sample::select(vec![&b""[..], b"\x16\x03\x01\x00\x20\x01", b"GET ", b"\r\n"]),
    ) {
        let bytes = [start, &bytes].concat();
        let mut judged = None;
        for length in 0..=bytes.len() {
            let now = FirstBytes::of(&bytes[..length]);
            if let Some(before) = &judged {
                prop_assert_eq!(before, &now, "at {} bytes", length);
            } else if now != FirstBytes::Incomplete {
                judged = Some(now);
            }
        }
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
        let seen = FirstBytes::of(&hello);
        prop_assert!(matches!(seen, FirstBytes::Tls(_) | FirstBytes::Incomplete), "{seen:?}");
    }
}
