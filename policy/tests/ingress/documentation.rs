//! `docs/configuration.md` against the types of the filter's configuration.

use sandgate_policy::ingress::config::{Limits, RawControlPlane, RawIngressConfig};
use serde::de::DeserializeOwned;

const PAGE: &str = include_str!("../../../docs/configuration.md");

/// The names of a type's fields, which serde lists when it refuses another name.
fn fields<T: DeserializeOwned>() -> Vec<String> {
    let error = serde_json::from_str::<T>(r#"{"no_such_field":0}"#).err().unwrap().to_string();
    let (_, expected) = error.split_once("expected one of ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn every_field_of_the_filters_configuration_is_documented() {
    let control_plane = fields::<RawControlPlane>();
    let names = fields::<RawIngressConfig>()
        .into_iter()
        .filter(|name| name != "control_plane")
        .chain(control_plane.into_iter().map(|name| format!("control_plane.{name}")))
        .chain(fields::<Limits>());
    let mut count = 0;
    for name in names {
        assert!(PAGE.contains(&format!("`{name}`")), "`{name}` is missing");
        count += 1;
    }
    assert!(count > 20, "only {count} fields were found");
}

#[test]
fn every_limit_is_documented_with_its_default() {
    let defaults = format!("{:#?}", Limits::default());
    let mut count = 0;
    for line in defaults.lines().filter_map(|line| line.trim().strip_suffix(',')) {
        let (name, value) = line.split_once(": ").unwrap();
        let row = format!("| `{name}` | {value} |");
        assert!(PAGE.contains(&row), "the page has no row that begins with {row}");
        count += 1;
    }
    assert_eq!(count, fields::<Limits>().len());
}
