//! From the file to the resources.

#![cfg(test)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::state::{self, BuildError, Built};
use sandgate_xds::wire::DeltaDiscoveryRequest;
use sandgate_xds::{Kind, Session};

fn build(folder: &Path, more: &str) -> Result<Built, BuildError> {
    std::fs::write(folder.join("token"), "# the token\ngateway-token-0123456789\n").unwrap();
    let path = folder.join("state.yaml");
    let token = folder.join("token").display().to_string();
    let text = format!(
        "version: 1\nedge:\n  domain: sandbox.example.com\n  sandbox_network: 10.64.0.0/16\n  \
         control_plane_address: control-plane\n  gateway_token_file: {token}\n{more}"
    );
    std::fs::write(&path, text).unwrap();
    state::load(&path)
}

fn names(built: &Built, kind: Kind) -> Vec<&str> {
    built.snapshot.of_kind(kind).map(|(name, _)| name).collect()
}

#[test]
fn the_templates_become_resources_in_each_form_and_with_each_upstream() {
    let folder = tempfile::tempdir().unwrap();
    for (filters, upstream, clusters) in [
        ("wasm", "dynamic_forward_proxy", 4),
        ("native", "dynamic_forward_proxy", 4),
        ("wasm", "original_dst", 514),
        ("native", "original_dst", 514),
    ] {
        let more = format!("  filters: {filters}\n  upstream: {upstream}\n");
        let built = build(folder.path(), &more).unwrap();
        assert_eq!(built.warnings, [""; 0]);
        assert_eq!(names(&built, Kind::Listener), ["edge"]);
        assert_eq!(names(&built, Kind::Route), ["edge"]);
        assert_eq!(names(&built, Kind::Extension), [format!("sandgate.ingress.{filters}")]);
        assert_eq!(names(&built, Kind::Secret), ["gateway_token"]);
        assert_eq!(names(&built, Kind::TokenBucket), ["access_log"]);
        assert_eq!(names(&built, Kind::Cluster).len(), clusters);
    }
}

#[test]
fn the_same_state_has_the_same_versions_and_another_one_changes_only_what_depends_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let one = build(folder.path(), "").unwrap();
    let same = build(folder.path(), "").unwrap();
    assert_eq!(state::summary(&one.snapshot), state::summary(&same.snapshot));
    let other = build(folder.path(), "  stream_idle_timeout_seconds: 7\n").unwrap();
    let of = |built: &Built| state::summary(&built.snapshot);
    let (one, other) = (of(&one), of(&other));
    let changed: Vec<&str> = other
        .lines()
        .filter(|line| !one.contains(line))
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(changed, ["route edge"]);
}

#[test]
fn a_listener_whose_certificate_can_not_be_read_is_left_out_and_the_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("  certificate: {}\n", folder.path().join("missing").display());
    let built = build(folder.path(), &more).unwrap();
    assert_eq!(names(&built, Kind::Listener), ["edge"]);
    assert_eq!(built.warnings.len(), 2, "{:?}", built.warnings);
    assert!(built.warnings[1].contains("`edge_tls` names the secret `edge_certificate`"));
}

#[test]
fn a_certificate_that_can_no_longer_be_read_keeps_the_former_state() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate");
    std::fs::create_dir(&certificate).unwrap();
    for file in ["tls.crt", "tls.key"] {
        std::fs::write(certificate.join(file), "content").unwrap();
    }
    let more = format!("  certificate: {}\n", certificate.display());
    let active = build(folder.path(), &more).unwrap();
    assert_eq!(names(&active, Kind::Listener), ["edge", "edge_tls"]);
    let state = folder.path().join("state.yaml");
    for file in ["tls.crt", "tls.key"] {
        std::fs::rename(certificate.join(file), folder.path().join("away")).unwrap();
        let error = state::load_next(&state, &active.snapshot).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::rename(folder.path().join("away"), certificate.join(file)).unwrap();
    }
    let same = state::load_next(&state, &active.snapshot).unwrap();
    assert_eq!(state::summary(&same.snapshot), state::summary(&active.snapshot));
    // A state without a certificate is what its author wants.
    build(folder.path(), "").unwrap();
    let without = state::load_next(&state, &active.snapshot).unwrap();
    assert_eq!(names(&without, Kind::Listener), ["edge"]);
    // If there was no certificate before, its absence takes nothing away.
    let missing = format!("  certificate: {}\n", folder.path().join("missing").display());
    build(folder.path(), &missing).unwrap();
    let next = state::load_next(&state, &without.snapshot).unwrap();
    assert_eq!(next.warnings.len(), 2, "{:?}", next.warnings);
}

#[test]
fn edges_get_no_token_from_a_file_that_the_gateway_api_refuses() {
    let folder = tempfile::tempdir().unwrap();
    build(folder.path(), "").unwrap();
    let (state, token) = (folder.path().join("state.yaml"), folder.path().join("token"));
    let good = "gateway-token-0123456789";
    let three = format!("{good}\n{good}1\n{good}2\n");
    let short_second = format!("{good}\nshort\n");
    for refused in ["", "# none\n", "short\n", "gateway token 0123456789\n", &three, &short_second]
    {
        std::fs::write(&token, refused).unwrap();
        let error = state::load(&state).unwrap_err();
        assert!(matches!(error, BuildError::Tokens(_)), "{error}");
    }
    let sent = |file: &str| {
        std::fs::write(&token, file).unwrap();
        let built = state::load(&state).unwrap();
        built.snapshot.resource(Kind::Secret, "gateway_token").unwrap().body.value.clone()
    };
    // The first token is sent, and the second is only accepted.
    assert_eq!(sent(&format!("{good}\n{good}1\n")), sent(good));
    assert_ne!(sent(&format!("{good}1\n{good}\n")), sent(good));
}

#[test]
fn nothing_that_holds_a_secret_prints_it() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = folder.path().join("certificate");
    std::fs::create_dir(&certificate).unwrap();
    for file in ["tls.crt", "tls.key"] {
        std::fs::write(certificate.join(file), format!("content-of-{file}")).unwrap();
    }
    let more = format!("  certificate: {}\n", certificate.display());
    let built = build(folder.path(), &more).unwrap();
    let mut session = Session::new(Arc::new(built.snapshot.clone()));
    let request = DeltaDiscoveryRequest {
        type_url: Kind::Secret.type_url(),
        resource_names_subscribe: vec!["gateway_token".to_owned(), "edge_certificate".to_owned()],
        ..DeltaDiscoveryRequest::default()
    };
    let reaction = session.on_request(request, Duration::ZERO).unwrap();
    assert_eq!(
        reaction.responses.iter().map(|response| response.resources.len()).sum::<usize>(),
        2
    );
    for text in [
        format!("{built:?}"),
        format!("{:?}", built.snapshot),
        format!("{session:?}"),
        format!("{reaction:?}"),
        format!("{:?}", reaction.responses),
    ] {
        assert!(text.contains("gateway_token"), "{text}");
        // Bytes are printed as numbers.
        for secret in ["gateway-token-0123456789", "content-of-tls.key"] {
            let numbers = format!("{:?}", secret.as_bytes());
            let numbers = numbers.trim_matches(['[', ']']);
            assert!(!text.contains(secret) && !text.contains(numbers), "{text}");
        }
    }
}

#[test]
fn tls_to_the_control_plane_changes_its_two_clusters_and_follows_the_file_of_issuers() {
    let folder = tempfile::tempdir().unwrap();
    let issuers = folder.path().join("ca.crt");
    let of = |built: &Built| state::summary(&built.snapshot);
    let tls = format!("  control_plane_ca: {}\n", issuers.display());
    let missing = build(folder.path(), &tls).unwrap_err().to_string();
    assert!(
        missing.contains("`edge.control_plane_ca`") && missing.contains("can't be read"),
        "{missing}"
    );
    let plain = of(&build(folder.path(), "").unwrap());
    let changed = |from: &str, to: &str| -> Vec<String> {
        let lines = to.lines().filter(|line| !from.contains(line));
        lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
    };
    std::fs::write(&issuers, "one").unwrap();
    let one = of(&build(folder.path(), &tls).unwrap());
    assert_eq!(changed(&plain, &one), ["cluster gateway_api", "cluster public_api"]);
    std::fs::write(&issuers, "another").unwrap();
    let another = of(&build(folder.path(), &tls).unwrap());
    assert_eq!(changed(&one, &another), ["cluster gateway_api", "cluster public_api"]);
    // The edge's own certificate is for the gateway API only.
    let own =
        of(&build(folder.path(), &format!("{tls}  control_plane_certificate: /etc/edge\n"))
            .unwrap());
    assert_eq!(changed(&another, &own), ["cluster gateway_api"]);
}

#[test]
fn a_forgotten_file_of_issuers_does_not_mean_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    for more in ["  control_plane_name: a.example\n", "  control_plane_certificate: /etc/edge\n"] {
        let error = build(folder.path(), more).unwrap_err().to_string();
        assert!(error.contains("`edge.control_plane_ca`"), "{error}");
    }
    std::fs::write(folder.path().join("ca.crt"), "issuers").unwrap();
    let tls = format!("  control_plane_ca: {}/ca.crt\n", folder.path().display());
    let error = build(folder.path(), &format!("{tls}  control_plane_name: 10.0.0.1\n"));
    let error = error.unwrap_err().to_string();
    assert!(error.contains("`edge.control_plane_name`"), "{error}");
}

#[test]
fn an_error_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    for (more, expected) in [
        ("  trusted_hop: 1\n", "unknown field `trusted_hop`"),
        ("  trusted_hops: many\n", "`edge.trusted_hops`"),
        ("  filters: lua\n", "`edge.filters`: expected `wasm` or `native`"),
        ("  listener_filters: [{ nmae: a }]\n", "the listener `edge`"),
        ("other: 1\n", "unknown field `other`"),
        ("  a: [\n", "not YAML"),
    ] {
        let error = build(folder.path(), more).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn every_field_of_the_state_is_documented() {
    let page = include_str!("../../docs/xds.md");
    let source = include_str!("../src/state/settings.rs");
    let fields = source.split("pub struct EdgeSettings {").nth(1).unwrap();
    let fields = fields.split("\n}").next().unwrap().lines();
    let mut count = 0;
    for line in fields.filter_map(|line| line.trim().strip_prefix("pub ")) {
        let name = line.split(':').next().unwrap();
        assert!(page.contains(&format!("`{name}`")), "`{name}` is missing");
        count += 1;
    }
    assert!(count > 20);
}
