//! What a decision changes and the routes of `edge.yaml`.

use std::collections::BTreeSet;

use yaml_rust2::{Yaml, YamlLoader};

use super::*;

/// The template without its values, which would not all be YAML.
fn template() -> Yaml {
    let text = include_str!("../../../../../envoy/edge.yaml");
    let mut plain = String::new();
    for (index, piece) in text.split("${").enumerate() {
        let rest = piece.split_once('}').map_or(piece, |(_, rest)| rest);
        plain.extend(if index == 0 { ["", piece] } else { ["0", rest] });
    }
    // A part can stand for an entry of a list or for fields of a map.
    let is_part = |line: &&str| line.trim() != "0";
    let plain: Vec<&str> = plain.lines().filter(is_part).collect();
    YamlLoader::load_from_str(&plain.join("\n")).expect("valid YAML").remove(0)
}

/// Calls `visit` with the values of all fields of this name.
fn each(yaml: &Yaml, name: &str, visit: &mut dyn FnMut(&Yaml)) {
    match yaml {
        Yaml::Array(list) => list.iter().for_each(|it| each(it, name, visit)),
        Yaml::Hash(map) => map.iter().for_each(|(key, value)| {
            if key.as_str() == Some(name) {
                visit(value);
            }
            each(value, name, visit);
        }),
        _ => {}
    }
}

#[test]
fn envoy_selects_the_route_again_if_a_header_is_removed_that_a_route_matches() {
    let (mut headers, mut states) = (BTreeSet::new(), BTreeSet::new());
    each(&template(), "route_config", &mut |routes| {
        each(routes, "match", &mut |route| {
            let names = |list: &str, name: &str| -> Vec<String> {
                let list = route[list].as_vec().into_iter().flatten();
                list.filter_map(|it| it[name].as_str().map(str::to_owned)).collect()
            };
            headers.extend(names("headers", "name"));
            states.extend(names("filter_state", "key"));
        });
    });
    // The filter state stands for this header.
    assert_eq!(states, BTreeSet::from([SANDBOX_HEADER.to_owned()]));
    headers.insert(SANDBOX_ID_HEADER.to_owned());
    // A decision does not change the method.
    headers.remove(":method");
    assert_eq!(headers, ROUTED.map(str::to_owned).into());
}
