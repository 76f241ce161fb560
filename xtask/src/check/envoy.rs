//! The check of Envoy's configurations: Envoy itself, the newest and the oldest that is supported, validates the edge's and a
//! sidecar's, with the values of a local run.

use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use sandgate_envoy_config::{
    EGRESS_LOG, Edge, EgressFilter, Filters, GatewayToken, Sidecar, TlsCertificate, Upstream,
};
use serde_json::json;

use super::Outcome;
use crate::process::{command, output};
use crate::{native, tree, wasm};

pub(super) fn check() -> Result<Outcome> {
    wasm::build()?;
    native::build()?;
    let newest = output(&mut command("scripts/envoy")).context("there is no Envoy to ask")?;
    let oldest = output(command("scripts/envoy").arg("--oldest"))
        .context("the oldest supported Envoy can't be asked")?;
    let folder = tempfile::tempdir()?;
    let edge = edge(folder.path())?;
    let original_dst = Edge { upstream: Upstream::OriginalDst, ..edge.clone() };
    let native = Edge { filters: Filters::Native, ..edge.clone() };
    for (name, bootstrap) in [
        ("edge.yaml", edge.render()?),
        ("edge-original-dst.yaml", original_dst.render()?),
        ("edge-native.yaml", native.render()?),
        ("sidecar.yaml", sidecar(&folder.path().join("wasm"), Filters::Wasm)?),
        ("sidecar.yaml", sidecar(&folder.path().join("native"), Filters::Native)?),
    ] {
        let path = folder.path().join(name);
        // The module's ABI is that of the newest Envoy.
        let is_native = bootstrap.contains("dynamic_module_config");
        std::fs::write(&path, bootstrap)?;
        for envoy in [Some(&newest), (!is_native).then_some(&oldest)].into_iter().flatten() {
            let mut validate = command(envoy.trim());
            validate.args(["--mode", "validate", "--disable-hot-restart", "--config-path"]);
            let done = validate.arg(&path).output().context("Envoy can't be started")?;
            if !done.status.success() {
                eprint!("{}", String::from_utf8_lossy(&done.stderr));
                bail!("{} refuses envoy/{name} (its reason is above)", envoy.trim());
            }
        }
    }
    Ok(Outcome::Ok)
}

/// The edge's values, and the files in the folder to which they point.
fn edge(folder: &Path) -> Result<Edge> {
    make_certificate(folder)?;
    let token_sds = folder.join("gateway-token.yaml");
    let tls_sds = folder.join("tls-certificate.yaml");
    std::fs::write(&token_sds, GatewayToken("not-a-real-token".to_owned()).render()?)?;
    std::fs::write(&tls_sds, TlsCertificate(folder.to_owned()).render()?)?;
    Ok(Edge {
        tls_sds,
        gateway_token_sds: token_sds,
        wasm: wasm::built("sandgate_ingress"),
        native: native::built(),
        log: tree::root().join("envoy/edge-log.yaml"),
        ..Edge::new("sandbox.localhost", "127.0.0.1", ([127, 64, 0, 0].into(), 16))
    })
}

/// The bootstrap of a sidecar's Envoy, and the files in the folder to which it points.
fn sidecar(folder: &Path, filters: Filters) -> Result<String> {
    std::fs::create_dir(folder)?;
    let config = json!({
        "version": 1,
        "generation": 1,
        "policies": [{ "allow_out": ["10.0.0.0/8", "*.example.com"] }],
        "virtual_addresses": { "198.18.0.2": "*" },
    });
    let module = match filters {
        Filters::Wasm => wasm::built("sandgate_egress"),
        Filters::Native => native::built(),
    };
    let filter = EgressFilter { config: &config.to_string(), filters, module };
    let sidecar = Sidecar::usual(folder, filters);
    for (path, text) in [&sidecar.tcp_ecds, &sidecar.http_ecds].into_iter().zip(filter.render()?) {
        std::fs::write(path, text)?;
    }
    std::fs::write(&sidecar.log, EGRESS_LOG)?;
    Ok(sidecar.render()?)
}

/// A self-signed certificate, because Envoy needs one to validate the configuration.
fn make_certificate(folder: &Path) -> Result<()> {
    let mut openssl = command("openssl");
    openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
    openssl.args(["-nodes", "-subj", "/CN=sandbox.localhost", "-days", "1", "-keyout"]);
    openssl.arg(folder.join("tls.key")).arg("-out").arg(folder.join("tls.crt"));
    // It reports progress on standard error, too.
    let done = openssl.output().context("openssl can't be started")?;
    let said = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "openssl makes no certificate: {said}");
    Ok(())
}
