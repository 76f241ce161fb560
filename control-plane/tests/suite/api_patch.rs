//! Changing sandboxes: ports, public access, names, and fields that a patch does not contain.

use serde_json::{Value, json};

use super::contract::port_log;
use super::support::World;

#[tokio::test]
async fn a_patch_of_the_ports_exposes_and_unexposes_them() {
    let world = World::new();
    let id = world.create(json!({ "name": "my-env" })).await;
    let expose = json!({ "allow_unauthenticated_access": false, "exposed_ports": [8080] });
    let info = world.call("PATCH", &format!("/sandboxes/{id}"), expose).await.ok();
    assert_eq!((&info["id"], &info["exposed_ports"]), (&json!(id), &json!([8080])));
    assert_eq!(info["allow_unauthenticated_access"], false);
    let unexpose = json!({ "allow_unauthenticated_access": false, "exposed_ports": [] });
    let info = world.call("PATCH", "/sandboxes/my-env", unexpose).await.ok();
    assert_eq!(info["exposed_ports"], json!([]));
}

#[tokio::test]
async fn an_absent_field_is_kept_and_null_means_the_default() {
    let world = World::new();
    let body = json!({
        "name": "my-env", "exposed_ports": [1, 2], "allow_unauthenticated_access": true,
        "auto_resume": false,
    });
    world.create(body).await;
    let patch = |body| world.call("PATCH", "/sandboxes/my-env", body);
    let fields = |info: &Value| {
        let names = ["name", "exposed_ports", "allow_unauthenticated_access", "auto_resume"];
        names.map(|name| info[name].clone())
    };
    let info = patch(json!({ "network": null })).await.ok();
    assert_eq!(fields(&info), [json!("my-env"), json!([1, 2]), json!(true), json!(false)]);
    let info = patch(json!({ "exposed_ports": null })).await.ok();
    assert_eq!(fields(&info), [json!("my-env"), json!([]), json!(true), json!(false)]);
    let nulls = json!({ "allow_unauthenticated_access": null, "auto_resume": null });
    let info = patch(nulls).await.ok();
    assert_eq!(fields(&info), [json!("my-env"), json!([]), json!(false), json!(true)]);
    patch(json!({ "name": null })).await.refused(400, "INVALID_REQUEST");
}

#[tokio::test]
async fn the_older_name_of_the_flag_works_too() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let body = json!({ "allow_unauthenticated_proxy_access": true });
    let info = world.call("PATCH", &format!("/sandboxes/{id}"), body).await.ok();
    assert_eq!(info["allow_unauthenticated_access"], true);
}

#[tokio::test]
async fn an_invalid_field_is_named_and_changes_nothing() {
    let world = World::new();
    let id = world.create(json!({ "exposed_ports": [8080] })).await;
    let path = format!("/sandboxes/{id}");
    for (body, named) in [
        (json!({ "exposed_ports": [3000, 9501] }), "9501"),
        (json!({ "exposed_ports": [3000], "allow_unauthenticated_access": 1 }), "allow_unauth"),
        (json!({ "exposed_ports": [3000], "image": "x" }), "image"),
        (json!({ "exposed_ports": [3000], "colour": "x" }), "colour"),
        (json!({ "exposed_ports": [3000], "resources": { "cpus": "2" } }), "resources.cpus"),
        (json!({ "exposed_ports": [3000], "timeout_secs": -1 }), "timeout_secs"),
        (json!({}), "exposed_ports"),
    ] {
        let error = world.call("PATCH", &path, body).await.refused(400, "INVALID_REQUEST");
        assert!(error.contains(named), "{error}");
    }
    let body = json!({ "exposed_ports": [3000], "auto_resume": false });
    let error = world.call("PATCH", &path, body).await.refused(409, "AUTO_RESUME_NEEDS_NAME");
    assert!(error.contains("`auto_resume`"), "{error}");
    let policy = json!({ "exposed_ports": [3000], "network": { "allow_internet_access": false } });
    world.call("PATCH", &path, policy).await.refused(400, "NETWORK_POLICY_UNSUPPORTED");
    let info = world.call("GET", &path, Value::Null).await.ok();
    assert_eq!(info["exposed_ports"], json!([8080]));
}

#[tokio::test]
async fn a_renamed_sandbox_is_found_only_by_its_new_name() {
    let world = World::new();
    let others = world.others();
    let id = world.create(json!({ "name": "old-name" })).await;
    let rename = json!({ "name": "new-name" });
    world.call("PATCH", "/sandboxes/old-name", rename).await.ok();
    let info = world.call("GET", "/sandboxes/new-name", Value::Null).await.ok();
    assert_eq!(info["id"], json!(id));
    let gone = world.call("GET", "/sandboxes/old-name", Value::Null).await;
    gone.refused(404, "SANDBOX_NOT_FOUND");
    let body = json!({ "name": "old-name" });
    world.call_as(&others.key, "POST", "/sandboxes", body).await.refused(409, "NAME_TAKEN");
    world.create(json!({ "name": "other" })).await;
    let taken = json!({ "name": "new-name" });
    world.call("PATCH", "/sandboxes/other", taken).await.refused(409, "NAME_TAKEN");
}

#[tokio::test]
async fn a_rename_validates_the_new_name() {
    let world = World::new();
    let others = world.others();
    let id = world.create(json!({ "name": "old-name" })).await;
    let path = format!("/sandboxes/{id}");
    for name in ["api", "www", "xn--env", "abcdefghijklmnopqrstu", "Env", "1env", "env-", "", "e.v"]
    {
        let error = world.call("PATCH", &path, json!({ "name": name })).await;
        let error = error.refused(400, "INVALID_REQUEST");
        assert!(error.contains("`name`"), "{error}");
    }
    let body = json!({ "name": "a".repeat(58) });
    world.call("PATCH", &path, body).await.refused(400, "INVALID_REQUEST");
    // The current name is not a change, and the old name is still reserved for the project.
    world.call("PATCH", &path, json!({ "name": "old-name" })).await.ok();
    world.call("PATCH", &path, json!({ "name": "new-name" })).await.ok();
    world.call("PATCH", &path, json!({ "name": "old-name" })).await.ok();
    // A name that it had for a moment is reserved too. The error does not reveal this to other projects.
    let body = json!({ "name": "new-name" });
    let held = world.call_as(&others.key, "POST", "/sandboxes", body).await;
    let held = held.refused(409, "NAME_TAKEN");
    let used =
        world.call_as(&others.key, "POST", "/sandboxes", json!({ "name": "old-name" })).await;
    let used = used.refused(409, "NAME_TAKEN");
    assert_eq!(held.replace("new-name", "old-name"), used);
    // A sandbox without a name gets one, and can be suspended from then on.
    let id = world.create(json!({})).await;
    let body = json!({ "name": "new-name", "auto_resume": false });
    let info = world.call("PATCH", &format!("/sandboxes/{id}"), body).await.ok();
    assert_eq!((&info["name"], &info["auto_resume"]), (&json!("new-name"), &json!(false)));
    world.call("POST", "/sandboxes/new-name/suspend", Value::Null).await.ok();
}

#[tokio::test]
async fn changes_of_ports_are_logged_with_their_principal() {
    use sandgate::model::SandboxId;
    let world = World::new();
    let id = world.create(json!({ "name": "my-env", "exposed_ports": [8080] })).await;
    let path = format!("/sandboxes/{id}");
    world.call("PATCH", &path, json!({ "name": "renamed" })).await.ok();
    world.call("PATCH", &path, json!({ "allow_unauthenticated_access": true })).await.ok();
    world.call("DELETE", &path, Value::Null).await.ok();
    let log = port_log(world.store.as_ref(), &SandboxId::parse(&id).unwrap());
    let seen: Vec<_> = log
        .iter()
        .map(|change| {
            (change.before.0.as_slice(), change.before.1, change.after.0.as_slice(), change.after.1)
        })
        .collect();
    let ports = &[8080][..];
    assert_eq!(
        seen,
        [
            (&[][..], false, ports, false),
            (ports, false, ports, true),
            (ports, true, &[][..], false)
        ]
    );
    assert!(log.iter().all(|change| change.principal == world.ours.key_id));
}

/// Returns the log of `work`.
async fn logged(work: impl Future<Output = ()>) -> String {
    use tracing::instrument::WithSubscriber as _;
    let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let writer = std::sync::Arc::clone(&lines);
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || Lines(std::sync::Arc::clone(&writer)))
        .finish();
    work.with_subscriber(subscriber).await;
    let lines = lines.lock().unwrap().clone();
    String::from_utf8(lines).unwrap()
}

struct Lines(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_patch_that_makes_private_ports_public_is_logged_as_a_warning() {
    let world = World::new();
    let warning = "ports that needed a credential are public now";
    let patch = async |body: Value| {
        logged(async {
            world.call("PATCH", "/sandboxes/my-env", body).await.ok();
        })
        .await
    };
    world.create(json!({ "name": "my-env", "exposed_ports": [3000, 8080] })).await;
    // `tl sbx port rm my-env 8080` sends this.
    let log = patch(json!({ "allow_unauthenticated_access": true, "exposed_ports": [3000] })).await;
    assert!(log.contains("WARN") && log.contains(warning) && log.contains("[3000]"), "{log}");
    // No warning for ports that were public before, or that are exposed as public ports.
    let log = patch(json!({ "allow_unauthenticated_access": true, "exposed_ports": [1] })).await;
    assert!(!log.contains(warning), "{log}");
    patch(json!({ "allow_unauthenticated_access": false, "exposed_ports": [] })).await;
    let log = patch(json!({ "allow_unauthenticated_access": true, "exposed_ports": [8080] })).await;
    assert!(!log.contains(warning), "{log}");
}

#[tokio::test]
async fn the_response_warns_about_private_ports_that_become_public() {
    let world = World::new();
    world.create(json!({ "name": "my-env", "exposed_ports": [3000, 8080, 9000] })).await;
    let patch = async |body: Value| world.call("PATCH", "/sandboxes/my-env", body).await.ok();
    // `tl sbx port rm my-env 8080` sends this.
    let removes = json!({ "allow_unauthenticated_access": true, "exposed_ports": [3000, 9000] });
    let info = patch(removes).await;
    let [warning] = info["warnings"].as_array().unwrap().as_slice() else { panic!("{info}") };
    let warning = warning.as_str().unwrap();
    assert!(warning.contains("3000, 9000") && !warning.contains("8080"), "{warning}");
    assert!(warning.contains(r#"{"allow_unauthenticated_access": false}"#), "{warning}");
    // A port that was public before, or is new, causes no warning.
    for body in [
        json!({ "allow_unauthenticated_access": true, "exposed_ports": [1, 3000] }),
        json!({ "allow_unauthenticated_access": false }),
    ] {
        assert_eq!(patch(body).await["warnings"], Value::Null);
    }
    let info = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(info["warnings"], Value::Null);
}

#[tokio::test]
async fn with_confirmation_only_a_patch_of_the_flag_alone_makes_private_ports_public() {
    let world = World::with_confirmation();
    world.create(json!({ "name": "my-env", "exposed_ports": [3000, 8080] })).await;
    let patch = async |body: Value| world.call("PATCH", "/sandboxes/my-env", body).await;
    // `tl sbx port rm my-env 8080`, the same for a port that is not exposed, and `port expose` send these.
    for ports in [json!([3000]), json!([3000, 8080]), json!([3000, 8080, 9000])] {
        let body = json!({ "allow_unauthenticated_access": true, "exposed_ports": ports });
        let error = patch(body).await.refused(409, "PUBLIC_NOT_CONFIRMED");
        assert!(error.contains("3000") && !error.contains("9000"), "{error}");
        assert!(error.contains(r#"`{"allow_unauthenticated_access": true}` alone"#), "{error}");
    }
    let info = world.call("GET", "/sandboxes/my-env", Value::Null).await.ok();
    assert_eq!(info["exposed_ports"], json!([3000, 8080]), "the refused patch changed nothing");
    // A change that makes no private port public needs no confirmation.
    patch(json!({ "exposed_ports": [3000] })).await.ok();
    let sdk = json!({ "allow_unauthenticated_access": false, "exposed_ports": [3000, 9000] });
    patch(sdk).await.ok();
    let info = patch(json!({ "allow_unauthenticated_access": true })).await.ok();
    assert_eq!(info["warnings"].as_array().unwrap().len(), 1);
    patch(json!({ "allow_unauthenticated_access": true, "exposed_ports": [1, 3000] })).await.ok();
    patch(json!({ "allow_unauthenticated_access": false, "exposed_ports": [] })).await.ok();
    patch(json!({ "allow_unauthenticated_access": true, "exposed_ports": [8080] })).await.ok();
}
