//! TLS ClientHellos with a hidden or ambiguous server name: encrypted, repeated, or parsed differently by two parsers.
//! The visible name decides, and the connection goes only to that name.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use sandgate_egress_tests::{Capture, ClientHello, Rig, Sidecar, site};
use serde_json::json;

use crate::support::{dig, tests, with};

tests![
    the_outer_name_decides_where_an_encrypted_hello_goes,
    an_encrypted_hello_without_an_outer_name_does_not_match_a_wildcard,
    a_second_hello_goes_to_the_destination_of_the_first_one,
    ambiguous_names_are_refused,
];

/// Longer than any record, so that messages are not split.
const WHOLE: usize = 16_000;

/// Sends messages one after the other, and returns the echo of each.
fn echoes(rig: &Rig, address: IpAddr, messages: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    rig.sandbox.enter(|| {
        let mut stream = TcpStream::connect((address, site::ECHO_PORT))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut echoes = Vec::new();
        for message in messages {
            let mut back = vec![0; message.len()];
            // A refused connection gets no echo.
            let done = stream.write_all(message).and_then(|()| stream.read_exact(&mut back));
            echoes.push(if done.is_ok() { back } else { Vec::new() });
        }
        Ok(echoes)
    })?
}

/// A rig with internet access off and these allowed names.
fn only(allowed: &[&str]) -> Result<(Rig, Sidecar, Capture)> {
    let (rig, sidecar) = with(json!({ "allow_internet_access": false, "allow_out": allowed }))?;
    let capture = rig.capture()?;
    Ok((rig, sidecar, capture))
}

fn resolved(rig: &Rig, name: &str) -> Result<IpAddr> {
    let said = dig(rig, site::RESOLVER, &[name, "A", "+short"])?;
    said.trim().parse().with_context(|| format!("{name}: `{said}`"))
}

fn others_saw_nothing(capture: &Capture) -> Result<()> {
    for address in [site::OTHER, site::OTHER6, site::EXAMPLE, site::EXAMPLE6, site::METADATA] {
        ensure!(capture.to(address).is_empty(), "{address} saw {:?}", capture.to(address));
    }
    Ok(())
}

fn the_outer_name_decides_where_an_encrypted_hello_goes() -> Result<()> {
    let (rig, sidecar, capture) = only(&["ok.test"])?;
    let encrypted = |name: &str| ClientHello::of(name)?.encrypted()?.records(WHOLE);
    let ok = resolved(&rig, "ok.test")?;
    // The inner name may be any name: the connection goes to the outer name.
    let allowed = encrypted("ok.test")?;
    let back = echoes(&rig, ok, std::slice::from_ref(&allowed))?;
    ensure!(back[0] == allowed);
    for (address, name) in [(ok, "other.test"), (ok, "example.com"), (site::OTHER, "other.test")] {
        let back = echoes(&rig, address, &[encrypted(name)?])?;
        ensure!(back[0].is_empty(), "{name} at {address}");
    }
    // A connection with the allowed name to another address goes to the name.
    ensure!(echoes(&rig, site::OTHER, std::slice::from_ref(&allowed))? == [allowed]);
    others_saw_nothing(&capture)?;
    // A denied outer name is denied, whatever the inner name is.
    sidecar.set(&json!({ "deny_out": ["example.com"] }))?;
    let back = echoes(&rig, site::EXAMPLE, &[encrypted("example.com")?])?;
    ensure!(back[0].is_empty(), "a denied name");
    let innocent = encrypted("other.test")?;
    ensure!(echoes(&rig, site::OTHER, std::slice::from_ref(&innocent))? == [innocent]);
    Ok(())
}

fn an_encrypted_hello_without_an_outer_name_does_not_match_a_wildcard() -> Result<()> {
    let (rig, _sidecar, capture) = only(&["*.ok.test"])?;
    let shared = resolved(&rig, "a.ok.test")?;
    let nameless = ClientHello::default().encrypted()?.records(WHOLE)?;
    ensure!(echoes(&rig, shared, &[nameless])?[0].is_empty());
    let named = ClientHello::of("a.ok.test")?.encrypted()?.records(WHOLE)?;
    ensure!(echoes(&rig, shared, std::slice::from_ref(&named))? == [named]);
    others_saw_nothing(&capture)
}

/// After a HelloRetryRequest, a client sends a second ClientHello. The destination of a connection never changes.
fn a_second_hello_goes_to_the_destination_of_the_first_one() -> Result<()> {
    let (rig, sidecar, capture) = only(&["ok.test"])?;
    let [first, second] =
        ["ok.test", "other.test"].map(|name| ClientHello::of(name)?.records(WHOLE));
    let messages = [first?, second?];
    let ok = resolved(&rig, "ok.test")?;
    ensure!(echoes(&rig, ok, &messages)? == messages);
    ensure!(!capture.to(site::OK).is_empty(), "the capture sees nothing");
    others_saw_nothing(&capture)?;
    // The same with denied names only: the host that the second ClientHello names receives nothing.
    sidecar.set(&json!({ "deny_out": ["example.com"] }))?;
    let denied = ClientHello::of("example.com")?.records(WHOLE)?;
    let messages = [messages[0].clone(), denied];
    ensure!(echoes(&rig, site::OK, &messages)? == messages);
    others_saw_nothing(&capture)
}

fn ambiguous_names_are_refused() -> Result<()> {
    let (rig, sidecar, capture) = only(&["ok.test"])?;
    let ok = resolved(&rig, "ok.test")?;
    let odd = |names: &[&[u8]]| ClientHello::default().server_names(names);
    let hellos = [
        ("two names", odd(&[b"ok.test", b"other.test"])?),
        ("the same name twice", odd(&[b"ok.test", b"ok.test"])?),
        ("two lists", odd(&[b"ok.test"])?.server_names(&[b"other.test"])?),
        ("a name and a NUL", odd(&[b"ok.test\0.other.test"])?),
        ("a NUL at the end", odd(&[b"ok.test\0"])?),
        ("no UTF-8", odd(&[b"ok.test\xff"])?),
        ("other bytes", odd(&[b"ok\xc0\x80.test"])?),
        ("a letter beyond ASCII", odd(&["\u{1d5c8}k.test".as_bytes()])?),
        ("nothing", odd(&[b""])?),
        ("an empty list", odd(&[])?),
        ("a line's end", odd(&[b"ok.test\r\n"])?),
        ("a space", odd(&[b"ok.test "])?),
        ("two dots", odd(&[b"ok.test.."])?),
        ("an address", odd(&[b"203.0.113.20"])?),
        ("a port", odd(&[b"ok.test:443"])?),
    ];
    for (what, hello) in &hellos {
        for record in [WHOLE, 1] {
            let back = echoes(&rig, ok, &[hello.records(record)?])?;
            ensure!(back[0].is_empty(), "{what}, in records of {record}");
        }
    }
    others_saw_nothing(&capture)?;
    // None of these hides a denied name either.
    sidecar.set(&json!({ "deny_out": ["example.com"] }))?;
    for names in [
        &[b"example.com\0".as_slice()][..],
        &[b"example.com\xff"],
        &[b"other.test", b"example.com"],
        &[b"example.com", b"other.test"],
    ] {
        let back = echoes(&rig, site::EXAMPLE, &[odd(names)?.records(WHOLE)?])?;
        ensure!(back[0].is_empty(), "{names:?}");
    }
    Ok(())
}
