//! Changes of the operator's settings while the sidecar runs: a newly protected range is denied immediately, also for
//! existing connections.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use sandgate_egress_tests::{Rig, Setup, Sidecar, site};
use serde_json::{Value, json};

use crate::support::{is_answered_with, refused_immediately, tests, with_setup};

tests![
    a_protected_range_is_denied_immediately_and_allowed_again,
    invalid_operators_settings_change_nothing,
];

/// Replaces the operator's settings.
fn write(rig: &Rig, operator: &str) -> Result<()> {
    let partial = rig.folder().join("operator.part");
    std::fs::write(&partial, operator)?;
    Ok(std::fs::rename(partial, rig.folder().join("operator.json"))?)
}

/// Replaces the operator's settings, and waits until they are in force.
fn set(rig: &Rig, sidecar: &Sidecar, operator: &Value) -> Result<()> {
    let before = sidecar.until_ready()?;
    write(rig, &operator.to_string())?;
    sidecar.until("at another generation", |status| {
        (status["generation"].as_u64()? > before && status["ready"] == true).then_some(())
    })
}

fn a_protected_range_is_denied_immediately_and_allowed_again() -> Result<()> {
    // Addresses that the owner allows are denied, too.
    let setup = Setup::new(json!({ "allow_out": ["203.0.113.0/24"] }));
    let (rig, sidecar) = with_setup(&setup)?;
    let connect = |address| -> Result<TcpStream> {
        let stream = rig.sandbox.enter(|| TcpStream::connect((address, site::ECHO_PORT)))??;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(stream)
    };
    let (mut closed, mut other) = (connect(site::OTHER)?, connect(site::OK)?);
    let mut back = [0; 5];
    for stream in [&mut closed, &mut other] {
        stream.write_all(b"hello")?;
        stream.read_exact(&mut back)?;
    }
    let mut protecting = setup.operator.clone();
    protecting["protected"] = json!([format!("{}/32", site::OTHER)]);
    set(&rig, &sidecar, &protecting)?;
    match closed.read(&mut back) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        got => bail!("a connection to a newly protected range got {got:?}"),
    }
    refused_immediately("TCP", || rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, b"hello"))?;
    refused_immediately("UDP", || rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello"))?;
    other.write_all(b"still")?;
    other.read_exact(&mut back)?;
    ensure!(&back == b"still", "{back:?}");
    set(&rig, &sidecar, &setup.operator)?;
    is_answered_with("TCP", &rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, b"hello")?, b"hello")?;
    is_answered_with("UDP", &rig.sandbox.udp(site::OTHER, site::UDP_PORT, b"hello")?, b"hello")
}

fn invalid_operators_settings_change_nothing() -> Result<()> {
    let mut setup = Setup::new(json!({}));
    setup.operator["protected"] = json!([format!("{}/32", site::OTHER)]);
    let (rig, sidecar) = with_setup(&setup)?;
    let before = sidecar.until_ready()?;
    for bad in ["{", r#"{"protected": ["example.com"]}"#, r#"{"protect": []}"#] {
        write(&rig, bad)?;
        sidecar.until("saying what is wrong", |status| {
            status["problem"].as_str()?.contains("operator file").then_some(())
        })?;
        refused_immediately("TCP", || rig.sandbox.tcp(site::OTHER, site::ECHO_PORT, b"hello"))?;
        is_answered_with("TCP", &rig.sandbox.tcp(site::OK, site::ECHO_PORT, b"hello")?, b"hello")?;
        // A valid file, so that the next problem is a new one.
        write(&rig, &setup.operator.to_string())?;
        sidecar.until("without a problem", |status| status["problem"].is_null().then_some(()))?;
    }
    ensure!(sidecar.until_ready()? == before, "another generation is in force");
    Ok(())
}
