//! What the capture takes a packet for.

use super::packet::{Content, Parsed, parse};

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
    bytes.extend([192, 0, 2, 2, 203, 0, 113, 10]);
    bytes.extend(payload);
    bytes
}

fn seen(bytes: &[u8]) -> Option<(bool, Content)> {
    match parse(bytes) {
        Parsed::Packet(packet) => {
            Some((packet.may_go_to("203.0.113.10".parse().unwrap()), packet.content))
        }
        Parsed::Neighbours | Parsed::Marker(_) => None,
    }
}

#[test]
fn what_cannot_be_parsed_counts_as_seen() {
    for bytes in [&[][..], &[0x45], &[0x60; 39], &[0xff; 64], &v4(6, &[])[..19]] {
        assert_eq!(seen(bytes), Some((true, Content::Unreadable)), "{bytes:?}");
    }
    for payload in [&[][..], &[0, 1, 0], &[0, 1, 0, 80, 0, 0]] {
        assert_eq!(seen(&v4(6, payload)), Some((true, Content::Unreadable)), "{payload:?}");
    }
    assert_eq!(seen(&v4(17, &[0, 1, 0, 53])), Some((true, Content::Udp { port: 53 })));
    assert_eq!(seen(&v4(2, &[])), Some((true, Content::Other(2))));
}

#[test]
fn what_finds_neighbours_does_not() {
    let mut arp = vec![0, 1, 8, 0, 6, 4];
    arp.extend([0; 22]);
    assert_eq!(seen(&arp), None);
    let mut discovery = vec![0x60, 0, 0, 0, 0, 24, 58, 255];
    discovery.extend([0; 32]);
    let mut echo = discovery.clone();
    discovery.push(135);
    echo.push(128);
    assert_eq!(seen(&discovery), None);
    assert_eq!(seen(&echo), Some((false, Content::Other(58))));
}

#[test]
fn a_marker_is_known_by_its_payload() {
    let mut payload = vec![0, 1, 0, 2, 0, 32, 0, 0];
    payload.extend(super::MARKER);
    payload.extend(7_u64.to_be_bytes());
    assert_eq!(parse(&v4(17, &payload)), Parsed::Marker(7));
    payload.pop();
    assert_eq!(seen(&v4(17, &payload)), Some((true, Content::Udp { port: 2 })));
}
