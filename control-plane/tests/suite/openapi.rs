//! The committed descriptions of the two APIs match the code. `scripts/schemathesis` tests that the server conforms to
//! the public one.

use serde_json::{Value, json};

use super::support::World;

#[test]
fn the_committed_descriptions_are_up_to_date() {
    for (api, made) in [
        ("gateway", sandgate::gateway::openapi::description().unwrap()),
        ("public", sandgate::api::openapi::description().unwrap()),
        ("admin", sandgate::admin::openapi::description().unwrap()),
    ] {
        let path = format!("{}/../docs/openapi/{api}.json", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(path).unwrap();
        assert!(
            committed == made,
            "docs/openapi/{api}.json is out of date; run \
             `cargo run -p sandgate -- openapi {api} > docs/openapi/{api}.json`"
        );
    }
}

#[test]
fn each_description_has_the_address_of_the_api() {
    for (api, listen) in [
        (sandgate::gateway::openapi::description().unwrap(), "8901"),
        (sandgate::api::openapi::description().unwrap(), "8900"),
        (sandgate::admin::openapi::description().unwrap(), "8903"),
    ] {
        let api: Value = serde_json::from_str(&api).unwrap();
        let servers = api["servers"].as_array().unwrap();
        let first = servers[0]["url"].as_str().unwrap();
        assert!(first.ends_with(listen), "{first}");
        for server in servers {
            let url = server["url"].as_str().unwrap();
            for name in url.split('{').skip(1) {
                let (name, _) = name.split_once('}').unwrap();
                assert!(server["variables"][name]["default"].is_string(), "{url}: {name}");
            }
        }
    }
}

fn public() -> Value {
    serde_json::from_str(&sandgate::api::openapi::description().unwrap()).unwrap()
}

#[test]
fn the_public_description_has_every_call_in_both_forms() {
    let api = public();
    let mut calls = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        calls.extend(item.as_object().unwrap().keys().map(|method| format!("{method} {path}")));
    }
    let mut expected = vec![
        "post /platform/v1/keys/introspect".to_owned(),
        "get /platform/v1/organizations/{organization}/projects/{project}".to_owned(),
    ];
    for prefix in ["", "/v1/namespaces/{namespace}"] {
        for (method, path) in [
            ("post", "/sandboxes"),
            ("get", "/sandboxes"),
            ("get", "/sandboxes/{sandbox}"),
            ("patch", "/sandboxes/{sandbox}"),
            ("delete", "/sandboxes/{sandbox}"),
            ("post", "/sandboxes/{sandbox}/suspend"),
            ("post", "/sandboxes/{sandbox}/resume"),
            ("get", "/sandboxes/{sandbox}/events"),
            ("get", "/archived-sandboxes/{sandbox}"),
        ] {
            expected.push(format!("{method} {prefix}{path}"));
        }
    }
    calls.sort();
    expected.sort();
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn the_described_fields_are_the_accepted_ones() {
    let world = World::new();
    let id = world.create(json!({})).await;
    let api = public();
    let fields = |body: &str| {
        let properties = &api["components"]["schemas"][body]["properties"];
        properties.as_object().unwrap().keys().cloned().collect::<Vec<_>>()
    };
    for field in fields("CreateSandbox") {
        world.call("POST", "/sandboxes", json!({ field: null })).await.ok();
    }
    for field in fields("PatchSandbox") {
        let value = if field == "name" { json!("my-env") } else { Value::Null };
        world.call("PATCH", &format!("/sandboxes/{id}"), json!({ field: value })).await.ok();
    }
}

#[test]
fn the_description_has_every_call_and_the_marker_on_every_answer() {
    let made = sandgate::gateway::openapi::description().unwrap();
    let api: serde_json::Value = serde_json::from_str(&made).unwrap();
    let mut calls = Vec::new();
    for (path, item) in api["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            calls.push(format!("{method} {path}"));
            for (status, response) in operation["responses"].as_object().unwrap() {
                let marker = &response["headers"]["x-sandgate-control-plane"];
                assert!(marker.is_object(), "{method} {path} {status}");
            }
        }
    }
    calls.sort();
    assert_eq!(
        calls,
        [
            "get /gateway/v1/changes",
            "get /gateway/v1/sandboxes/{sandbox}",
            "get /gateway/v1/sandboxes/{sandbox}/network-policy",
            "post /gateway/v1/credentials/introspect",
            "post /gateway/v1/denials",
            "post /gateway/v1/sandboxes/{sandbox}/denials",
            "post /gateway/v1/sandboxes/{sandbox}/resume",
        ]
    );
}
