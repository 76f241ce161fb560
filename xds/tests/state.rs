//! From the file to the resources.

#![cfg(test)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandgate_xds::state::{self, BuildError, Loaded};
use sandgate_xds::wire::DeltaDiscoveryRequest;
use sandgate_xds::{Kind, Session};

fn build(folder: &Path, more: &str) -> Result<Loaded, BuildError> {
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

fn names(built: &Loaded, kind: Kind) -> Vec<&str> {
    built.snapshots.common().of_kind(kind).map(|(name, _)| name).collect()
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
    assert_eq!(state::summary(one.snapshots.common()), state::summary(same.snapshots.common()));
    let other = build(folder.path(), "  stream_idle_timeout_seconds: 7\n").unwrap();
    let of = |built: &Loaded| state::summary(built.snapshots.common());
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
        let error = state::load_next(&state, &active.snapshots).unwrap_err().to_string();
        assert!(error.contains(file), "{error}");
        std::fs::rename(folder.path().join("away"), certificate.join(file)).unwrap();
    }
    let same = state::load_next(&state, &active.snapshots).unwrap();
    assert_eq!(state::summary(same.snapshots.common()), state::summary(active.snapshots.common()));
    // A state without a certificate is what its author wants.
    build(folder.path(), "").unwrap();
    let without = state::load_next(&state, &active.snapshots).unwrap();
    assert_eq!(names(&without, Kind::Listener), ["edge"]);
    // If there was no certificate before, its absence takes nothing away.
    let missing = format!("  certificate: {}\n", folder.path().join("missing").display());
    build(folder.path(), &missing).unwrap();
    let next = state::load_next(&state, &without.snapshots).unwrap();
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
        built.snapshots.common().resource(Kind::Secret, "gateway_token").unwrap().body.value.clone()
    };
    // The first token is sent, and the second is only accepted.
    assert_eq!(sent(&format!("{good}\n{good}1\n")), sent(good));
    assert_ne!(sent(&format!("{good}1\n{good}\n")), sent(good));
}

const GROUPS: &str =
    "groups:\n  eu:\n    nodes: [\"eu-*\", edge-17]\n    edge: { domain: eu.example.com }\n";

#[test]
fn a_group_has_the_common_settings_except_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let more = format!("  trusted_hops: 1\n{GROUPS}");
    build(folder.path(), &more).unwrap();
    let text = std::fs::read_to_string(folder.path().join("state.yaml")).unwrap();
    let state = state::parse(&text).unwrap();
    for (node, domain) in [
        ("eu-1", "eu.example.com"),
        ("edge-17", "eu.example.com"),
        ("edge-170", "sandbox.example.com"),
        ("us-1", "sandbox.example.com"),
    ] {
        let settings = state.of(node);
        assert_eq!((settings.domain.as_str(), settings.trusted_hops), (domain, Some(1)), "{node}");
    }
    let text = text.replace("{ domain:", "{ trusted_hops: ~, domain:");
    assert_eq!(state::parse(&text).unwrap().of("eu-1").trusted_hops, None);
}

#[test]
fn an_error_in_a_group_names_it_and_refuses_the_state() {
    let folder = tempfile::tempdir().unwrap();
    for (from, to, expected) in [
        ("domain: eu", "domian: eu", "`groups.eu.edge.domian`: unknown field"),
        ("edge: {", "edge: { edge_port: many, ", "`groups.eu.edge.edge_port`"),
        ("[\"eu-*\", edge-17]", "[]", "`groups.eu.nodes`: a group has at least one node"),
        ("edge-17", "\"*\"", "`groups.eu.nodes`: `*` is neither"),
        ("nodes", "node", "`groups.eu"),
        (
            "edge: {",
            "edge: { gateway_token_file: /nonexistent, ",
            "group `eu`: the token file /nonexistent",
        ),
    ] {
        let error = build(folder.path(), &GROUPS.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let twice = format!("{GROUPS}  us:\n    nodes: [edge-17]\n    edge: {{}}\n");
    let error = build(folder.path(), &twice).unwrap_err().to_string();
    assert!(error.contains("`groups.us.nodes`: `edge-17` is also in the group `eu`"), "{error}");
}

#[test]
fn a_module_is_a_part_of_the_extension_and_a_wrong_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("module.wasm");
    let module = |more: &str| format!("  module: {{ file: {}{more} }}\n", file.display());
    let version = |more: &str| {
        let loaded = build(folder.path(), more)?;
        let extension =
            loaded.snapshots.common().resource(Kind::Extension, "sandgate.ingress.wasm");
        let extension = extension.unwrap();
        Ok::<_, BuildError>((extension.version.clone(), extension.body.value.clone()))
    };
    std::fs::write(&file, b"\0asm, the first one").unwrap();
    let (first, body) = version(&module("")).unwrap();
    assert!(body.windows(19).any(|part| part == b"\0asm, the first one"));
    assert_eq!(version(&module("")).unwrap().0, first);
    std::fs::write(&file, b"\0asm, the second one").unwrap();
    assert_ne!(version(&module("")).unwrap().0, first);

    let hash = "f97a9ed5d5ac33d8d65d2ba8d0ba4c1bc04d6a7a8e0d3c7d9c7d1a3c8a4c5b2e";
    let error = version(&module(&format!(", sha256: {hash}"))).unwrap_err().to_string();
    let found = error.split("has the SHA-256 ").nth(1).unwrap().split(',').next().unwrap();
    assert!(error.contains(&format!("the state says {hash}")), "{error}");
    for found in [found.to_owned(), found.to_uppercase()] {
        assert!(version(&module(&format!(", sha256: \"{found}\""))).is_ok());
    }
    std::fs::write(&file, "no module").unwrap();
    let error = version(&module("")).unwrap_err().to_string();
    assert!(error.ends_with("is not a wasm module"), "{error}");
    std::fs::remove_file(&file).unwrap();
    let error = version(&module("")).unwrap_err().to_string();
    assert!(error.contains("can't be read"), "{error}");
    let native = format!("  filters: native\n{}", module(""));
    let error = version(&native).unwrap_err().to_string();
    assert!(error.contains("`edge.module`: only the form `wasm`"), "{error}");
}

#[tokio::test]
async fn a_change_of_the_state_or_of_a_file_that_it_names_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("module.wasm");
    std::fs::write(&file, b"\0asm").unwrap();
    let more = format!("  module: {{ file: {} }}\n", file.display());
    let loaded = build(folder.path(), &more).unwrap();
    let (sender, mut receiver) = tokio::sync::watch::channel(Arc::new(loaded.snapshots));
    tokio::spawn(state::follow(folder.path().join("state.yaml"), sender));
    let mut before = Arc::clone(&receiver.borrow_and_update());
    for (name, content) in [
        ("module.wasm", "\0asm, another one"),
        ("token", "gateway-token-9876543210\n"),
        ("state.yaml", ""),
        ("module.wasm", "no module"),
        ("module.wasm", "\0asm, the last one"),
    ] {
        if content.is_empty() {
            build(folder.path(), &format!("{more}  trusted_hops: 1\n")).unwrap();
            std::fs::write(folder.path().join("token"), "gateway-token-9876543210\n").unwrap();
        } else {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        if content == "no module" {
            // So that it is read before the next one replaces it.
            tokio::time::sleep(Duration::from_secs(2)).await;
            assert!(!receiver.has_changed().unwrap());
            continue;
        }
        receiver.changed().await.unwrap();
        let after = Arc::clone(&receiver.borrow_and_update());
        assert!(!after.common().has_same_versions(before.common()), "{name}");
        before = after;
    }
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
    let mut session = Session::new(Arc::clone(built.snapshots.of("edge-1")));
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
        format!("{:?}", built.snapshots),
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
    let of = |built: &Loaded| state::summary(built.snapshots.common());
    let tls = format!("  control_plane_ca: {}\n", issuers.display());
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
fn an_error_names_the_field() {
    let folder = tempfile::tempdir().unwrap();
    for (more, expected) in [
        ("  trusted_hop: 1\n", "unknown field `trusted_hop`"),
        ("  trusted_hops: many\n", "`edge.trusted_hops`"),
        ("  filters: lua\n", "`edge.filters`: expected `wasm` or `native`"),
        ("  listener_filters: [{ nmae: a }]\n", "the listener `edge`"),
        ("other: 1\n", "unknown field `other`"),
        ("  a: [\n", "not YAML"),
        ("  control_plane_name: a.example\n", "`edge.control_plane_ca`: TLS to the control plane"),
        (
            "  control_plane_ca: /nonexistent\n  control_plane_name: 127.0.0.1\n",
            "`edge.control_plane_name`: must be a DNS name",
        ),
        ("  control_plane_ca: /nonexistent\n", "`/nonexistent` can't be read"),
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
