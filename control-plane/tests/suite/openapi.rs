//! The committed description of the gateway API is the one that the code makes.

#[test]
fn the_committed_description_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi/gateway.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let made = sandgate::gateway::openapi::description().unwrap();
    assert!(
        committed == made,
        "docs/openapi/gateway.json is out of date; run \
         `cargo run -p sandgate -- openapi gateway > docs/openapi/gateway.json`"
    );
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
            "post /gateway/v1/credentials/introspect",
            "post /gateway/v1/sandboxes/{sandbox}/resume",
        ]
    );
}
