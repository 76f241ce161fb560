//! YAML as a JSON value.

use serde_json::{Map, Number, Value};
use yaml_rust2::{Yaml, YamlLoader};

/// A text is not one YAML document with the types of JSON.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum YamlError {
    #[error("{0}")]
    Syntax(String),
    #[error("expected one document")]
    Documents,
    #[error("a value has no equal in JSON")]
    Type,
}

/// Parses YAML with aliases resolved.
///
/// # Errors
///
/// If the text is not one document, or a key is not a string.
pub fn parse_yaml(text: &str) -> Result<Value, YamlError> {
    let documents =
        YamlLoader::load_from_str(text).map_err(|error| YamlError::Syntax(error.to_string()))?;
    match documents.as_slice() {
        [document] => to_json(document),
        _ => Err(YamlError::Documents),
    }
}

fn to_json(yaml: &Yaml) -> Result<Value, YamlError> {
    Ok(match yaml {
        Yaml::Null => Value::Null,
        Yaml::Boolean(boolean) => Value::Bool(*boolean),
        Yaml::Integer(integer) => Value::from(*integer),
        Yaml::Real(text) => {
            let number = text.parse().ok().and_then(Number::from_f64);
            Value::Number(number.ok_or(YamlError::Type)?)
        }
        Yaml::String(text) => Value::String(text.clone()),
        Yaml::Array(items) => Value::Array(items.iter().map(to_json).collect::<Result<_, _>>()?),
        Yaml::Hash(pairs) => {
            let mut object = Map::new();
            for (key, value) in pairs {
                let key = key.as_str().ok_or(YamlError::Type)?;
                object.insert(key.to_owned(), to_json(value)?);
            }
            Value::Object(object)
        }
        Yaml::Alias(_) | Yaml::BadValue => return Err(YamlError::Type),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn aliases_are_resolved_and_types_are_kept() {
        let text = "a: &a { x: 1, y: \"1\", z: 0.5 }\nb: [*a, true, ~, 1s]\n";
        let a = json!({ "x": 1, "y": "1", "z": 0.5 });
        assert_eq!(parse_yaml(text), Ok(json!({ "a": a, "b": [a, true, null, "1s"] })));
    }

    #[test]
    fn a_key_that_is_not_a_string_and_a_second_document_are_refused() {
        assert_eq!(parse_yaml("1: 2"), Err(YamlError::Type));
        assert_eq!(parse_yaml("a: 1\n---\nb: 1\n"), Err(YamlError::Documents));
        assert!(matches!(parse_yaml("a: [1"), Err(YamlError::Syntax(_))));
    }
}
