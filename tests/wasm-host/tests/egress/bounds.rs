//! Memory is bounded, whatever a sandbox sends.

use crate::hello::hello;
use crate::support::{Egress, allow_list, deny_list};

#[test]
fn ended_connections_leave_no_memory_behind() {
    let egress = Egress::with(deny_list());
    let come_and_go = |rounds: u32| {
        for round in 0..rounds {
            let name = format!("n{round}.{}.test", "x".repeat(60));
            let late = egress.connect("8.8.8.8:443", "");
            late.send(&hello(&name)[..30], false);
            late.leave();
            egress.connect("8.8.8.8:443", &name).leave();
            egress.connect("8.8.8.8:443", "bad.test").leave();
            egress.get("8.8.8.8:80", &name).complete();
            egress.get("8.8.8.8:80", "bad.test");
        }
    };
    come_and_go(300);
    let memory = egress.host.memory_bytes();
    come_and_go(3_000);
    assert!(egress.host.memory_bytes() <= memory + (64 << 10), "{memory} grew");
}

#[test]
fn ten_thousand_connections_at_once_take_a_few_megabytes() {
    let egress = Egress::with(allow_list());
    egress.connect("10.1.2.3:22", "").leave();
    let before = egress.host.memory_bytes();
    let connections: Vec<_> = (0..10_000)
        .map(|_| egress.connect("10.1.2.3:443", "a-name-of-usual-length.test"))
        .collect();
    let grown = egress.host.memory_bytes() - before;
    assert!(grown < 10 << 20, "{grown} bytes for {} connections", connections.len());
}

#[test]
fn a_client_that_never_ends_its_first_line_takes_no_memory() {
    let egress = Egress::with(deny_list());
    let connection = egress.connect("8.8.8.8:80", "");
    assert_eq!(connection.send(&[b'A'; 1_000], false), [b'A'; 1_000]);
    let before = egress.host.memory_bytes();
    for _ in 0..1_000 {
        assert_eq!(connection.send(&[b'A'; 1_000], false), [b'A'; 1_000]);
    }
    assert_eq!(egress.host.memory_bytes(), before);
}

#[test]
fn a_client_that_never_completes_its_client_hello_is_closed_at_a_limit() {
    let egress = Egress::with(deny_list());
    let connection = egress.connect("8.8.8.8:443", "");
    let endless = [&[22, 3, 1, 0xff, 0xff, 1, 0xff, 0xff, 0xff][..], &[0; 100_000]].concat();
    let before = egress.host.memory_bytes();
    for part in endless.chunks(1_000) {
        if connection.is_open() {
            assert_eq!(connection.send(part, false), b"", "held");
        }
    }
    assert!(!connection.is_open());
    assert!(egress.host.memory_bytes() <= before + (1 << 20));
}
