//! A client gains nothing by showing its name late.

use sandgate_wasm_host::{Connected, Connection};

use crate::hello::{hello, message, records};
use crate::support::{Egress, OK, allow_list, deny_list, to_address, to_name};

/// A connection that was permitted before its client sent anything.
fn silent(egress: &Egress) -> Connection {
    let connection = egress.connect("8.8.8.8:443", "");
    assert_eq!(connection.outcome(), to_address("8.8.8.8:443"));
    connection
}

/// Sends `bytes` in parts of this size. Returns the bytes that the filter forwards.
fn send_in_parts(connection: &Connection, bytes: &[u8], size: usize) -> Vec<u8> {
    let mut passed = Vec::new();
    for part in bytes.chunks(size) {
        if connection.is_open() {
            passed.extend(connection.send(part, false));
        }
    }
    passed
}

fn closed_by(connection: &Connection) -> Option<String> {
    assert_eq!(connection.outcome(), Connected::Closed);
    assert_eq!(connection.property("sandgate_decision").as_deref(), Some("deny"));
    connection.property("sandgate_rule")
}

#[test]
fn a_late_denied_name_is_denied_and_never_forwarded() {
    let egress = Egress::with(deny_list());
    for size in [1, 5, 100, 100_000] {
        let connection = silent(&egress);
        assert_eq!(send_in_parts(&connection, &hello("bad.test"), size), b"", "parts of {size}");
        assert_eq!(closed_by(&connection).as_deref(), Some("deny_out bad.test"));
    }
    assert_eq!(egress.decisions("tcp.deny.deny_out"), 4);
}

#[test]
fn other_late_names_are_forwarded_byte_for_byte() {
    let egress = Egress::with(deny_list());
    for size in [1, 5, 100, 100_000] {
        let connection = silent(&egress);
        let sent = [hello("good.test"), b"and more".to_vec()].concat();
        assert_eq!(send_in_parts(&connection, &sent, size), sent, "parts of {size}");
        assert!(connection.is_open());
    }
}

#[test]
fn a_client_hello_in_many_records_or_above_envoys_own_limit_is_parsed() {
    let egress = Egress::with(deny_list());
    for (padding, record) in [(0, 1), (1_100, 16_000), (17_000, 16_000), (50_000, 300)] {
        let connection = silent(&egress);
        let bad = records(&message(&["bad.test"], padding), record);
        assert_eq!(send_in_parts(&connection, &bad, 1_460), b"", "{padding} {record}");
        assert_eq!(closed_by(&connection).as_deref(), Some("deny_out bad.test"));
        let connection = silent(&egress);
        let good = records(&message(&["good.test"], padding), record);
        assert_eq!(send_in_parts(&connection, &good, 1_460), good, "{padding} {record}");
    }
}

#[test]
fn a_malformed_client_hello_is_denied() {
    let egress = Egress::with(deny_list());
    let mut truncated = hello("good.test");
    let length = truncated.len();
    truncated[length - 4] = 200;
    for (bytes, what) in [
        (records(&message(&["good.test", "bad.test"], 0), 16_000), "two names"),
        (records(&message(&[""], 0), 16_000), "an empty name"),
        (records(&message(&["b\u{e4}d.test"], 0), 16_000), "a name that is none"),
        (records(&[2, 0, 0, 1, 0], 16_000), "another handshake message"),
        (truncated, "an extension that runs over"),
        (b"\x16\x03\x01\x00\x00".to_vec(), "an empty record"),
        (
            [&hello("good.test")[..20], b"\x17\x03\x01\x00\x01x"].concat(),
            "too short, and then no handshake",
        ),
        (
            vec![0x16, 3, 1, 0xff, 0xff]
                .into_iter()
                .chain([1, 0xff, 0xff, 0xff])
                .chain(vec![0; 70_000])
                .collect(),
            "a hello without an end",
        ),
    ] {
        let connection = silent(&egress);
        let passed = send_in_parts(&connection, &bytes, 1_460);
        let is_open = connection.is_open();
        // An incomplete record is held, and its connection stays open.
        assert!(passed.is_empty(), "{what}: passed {} bytes", passed.len());
        assert!(!is_open || what.starts_with("too short"), "{what}: still open");
    }
}

#[test]
fn late_http_is_closed_because_its_next_request_would_not_be_decided() {
    let egress = Egress::with(deny_list());
    for request in [
        "GET / HTTP/1.1\r\nHost: good.test\r\n\r\n",
        "\r\n\r\nGET / HTTP/1.1\r\nHost: bad.test\r\n\r\n",
        "\nGET\t/\thttp/1.0\n\n",
        "FROB * HTTP/1.1\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: bad.test\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let connection = silent(&egress);
        assert_eq!(send_in_parts(&connection, request.as_bytes(), 1_460), b"", "{request}");
        assert_eq!(closed_by(&connection).as_deref(), Some("Host not understood"));
        // In parts, less is forwarded than any server would respond to.
        let connection = silent(&egress);
        let passed = send_in_parts(&connection, request.as_bytes(), 1).to_ascii_uppercase();
        assert!(!passed.windows(5).any(|part| part == b"HTTP/"), "{request}: passed {passed:?}");
        assert_eq!(closed_by(&connection).as_deref(), Some("Host not understood"));
    }
    let connection = silent(&egress);
    let endless = [b"GET /".to_vec(), vec![b'a'; 20_000], b" HTTP/1.1\r\n".to_vec()].concat();
    send_in_parts(&connection, &endless, 1_460);
    assert_eq!(connection.outcome(), Connected::Closed);
}

#[test]
fn other_protocols_are_forwarded_without_delay() {
    let egress = Egress::with(deny_list());
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
        b"EHLO me.test\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\x16\x20\x00",
        b"\x10\x1a\x00\x04MQTT",
        b"AMQP\x00\x00\x09\x01",
        b"GET key\r\n",
        b"PING\n",
    ] {
        let connection = silent(&egress);
        assert_eq!(connection.send(bytes, false), bytes, "{bytes:?}");
        assert_eq!(connection.send(b"GET / HTTP/1.1\r\n", false), b"GET / HTTP/1.1\r\n");
        assert!(connection.is_open());
    }
    // Text without a line end, after which the client may wait for a response.
    for bytes in [&b"ping"[..], b"LOGIN", b"two words", b"G"] {
        let connection = silent(&egress);
        assert_eq!(connection.send(bytes, false), bytes, "{bytes:?}");
        assert_eq!(connection.send(b" and more", false), b" and more");
        assert_eq!(connection.send(b"\nGET / HTTP/1.1\r\n", false), b"\nGET / HTTP/1.1\r\n");
        assert!(connection.is_open());
    }
}

#[test]
fn an_incomplete_start_is_forwarded_when_the_client_ends() {
    let egress = Egress::with(deny_list());
    for bytes in [&b"HELLO"[..], b"", &hello("bad.test")[..40]] {
        assert_eq!(silent(&egress).send(bytes, true), bytes);
    }
}

#[test]
fn a_connection_to_a_virtual_address_cannot_show_another_name() {
    let egress = Egress::with(allow_list());
    let connect = || egress.connect(&format!("{OK}:443"), "");
    let connection = connect();
    assert_eq!(connection.outcome(), to_name("ok.test:443"));
    assert_eq!(connection.send(&hello("bad.test"), false), b"");
    assert_eq!(closed_by(&connection).as_deref(), Some("default deny"));
    for bytes in [hello("ok.test"), hello("a.ok.test"), hello(""), b"x\n".to_vec()] {
        let connection = connect();
        assert_eq!(connection.send(&bytes, false), bytes);
        assert!(connection.is_open());
    }
}

#[test]
fn a_client_that_was_silent_while_the_policy_changed_is_decided_by_the_new_policy() {
    let egress = Egress::with(serde_json::json!({}));
    let (bad, good) = (silent(&egress), silent(&egress));
    egress.configure(&crate::support::configuration(2, &[deny_list()]));
    assert_eq!(bad.send(&hello("bad.test"), false), b"");
    assert_eq!(closed_by(&bad).as_deref(), Some("deny_out bad.test"));
    assert_eq!(good.send(&hello("good.test"), false), hello("good.test"));
}

#[test]
fn a_connection_is_not_inspected_if_no_name_can_change_the_verdict() {
    let egress = Egress::with(serde_json::json!({ "deny_out": ["8.8.4.0/24"] }));
    let connection = silent(&egress);
    assert_eq!(connection.send(&hello("bad.test")[..40], false), &hello("bad.test")[..40]);
    let egress = Egress::with(allow_list());
    let connection = egress.connect("10.1.2.3:443", "");
    assert_eq!(connection.send(b"G", false), b"G");
}
