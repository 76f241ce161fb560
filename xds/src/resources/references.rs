//! Replaces what a listener or cluster contains, or reads from a file, by a name that Envoy looks up on its stream.

use serde_json::{Map, Value, json};

use super::{INGRESS_FILTER, from_ads};
use crate::kind::Kind;

/// What a resource named or contained.
#[derive(Default)]
pub(super) struct References {
    /// The names that the resource has now.
    pub(super) names: Vec<(Kind, String)>,
    /// The resources that were inside it.
    pub(super) contained: Vec<(Kind, String, Value)>,
}

impl References {
    /// Goes through the whole value.
    pub(super) fn replace(&mut self, json: &mut Value) {
        match json {
            Value::Array(items) => items.iter_mut().for_each(|item| self.replace(item)),
            Value::Object(object) => {
                self.replace_route(object);
                self.replace_filter(object);
                self.replace_source(object, "name", "sds_config", Kind::Secret);
                self.replace_source(object, "resource_name", "config_source", Kind::TokenBucket);
                object.values_mut().for_each(|value| self.replace(value));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn replace_route(&mut self, manager: &mut Map<String, Value>) {
        let Some(route) = manager.remove("route_config") else { return };
        let name = text(route.get("name"));
        manager.insert(
            "rds".to_owned(),
            json!({ "route_config_name": name, "config_source": from_ads() }),
        );
        self.names.push((Kind::Route, name.clone()));
        self.contained.push((Kind::Route, name, route));
    }

    fn replace_filter(&mut self, filter: &mut Map<String, Value>) {
        if filter.get("name").is_none_or(|name| name != INGRESS_FILTER) {
            return;
        }
        let Some(configuration) = filter.remove("typed_config") else { return };
        let message = text(configuration.get("@type"));
        filter.insert(
            "config_discovery".to_owned(),
            json!({ "config_source": from_ads(), "type_urls": [message] }),
        );
        // Envoy refuses another type of configuration under the same name, so each form has a name of its own.
        let form = if message.ends_with("DynamicModuleFilter") { "native" } else { "wasm" };
        let name = format!("{INGRESS_FILTER}.{form}");
        filter.insert("name".to_owned(), json!(name));
        self.names.push((Kind::Extension, name.clone()));
        let extension = json!({ "name": name, "typed_config": configuration });
        self.contained.push((Kind::Extension, name, extension));
    }

    /// Replaces `source` in an object that has a name and a file as the source of what has this name.
    fn replace_source(
        &mut self,
        object: &mut Map<String, Value>,
        name: &str,
        source: &str,
        kind: Kind,
    ) {
        let reads_file = |source: &Value| source.get("path_config_source").is_some();
        if !object.get(source).is_some_and(reads_file) {
            return;
        }
        object.insert(source.to_owned(), from_ads());
        let reference = (kind, text(object.get(name)));
        if !self.names.contains(&reference) {
            self.names.push(reference);
        }
    }
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or_default().to_owned()
}
