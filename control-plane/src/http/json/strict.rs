//! Reads JSON strictly, because serde_json accepts ambiguous objects.
//!
//! If an object has a key twice, some parsers use the first value, some the last, and some fail (RFC 8259,
//! section 4). If one program checks a request and another one acts on it, the difference is a vulnerability.
//! This reader therefore refuses such a body, and also a body that is not UTF-8 or that is nested too deeply.

use std::fmt;

use serde::de::{
    DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde_json::{Map, Number, Value};

use crate::http::ApiError;

/// The maximum nesting of lists and objects. No field needs more than four levels.
const MAX_DEPTH: usize = 32;
/// The number of characters of a key that an error repeats. A key can be as long as a body.
const MAX_SHOWN: usize = 64;

/// Reads a JSON object.
///
/// # Errors
/// The error says what is wrong and where.
pub(super) fn parse_object(bytes: &[u8]) -> Result<Map<String, Value>, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::invalid("the body is empty; send a JSON object"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let place = error.valid_up_to();
        ApiError::invalid(format!("the body is not UTF-8 (after byte {place}); send JSON in UTF-8"))
    })?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Unambiguous { depth: MAX_DEPTH }
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| into_api_error(&error))?;
    match value {
        Value::Object(fields) => Ok(fields),
        _ => Err(ApiError::invalid("the body must be a JSON object")),
    }
}

/// Omits the parser's messages, because they may repeat values.
fn into_api_error(error: &serde_json::Error) -> ApiError {
    if error.is_data() {
        return ApiError::invalid(format!("the body is not accepted: {error}"));
    }
    let (line, column) = (error.line(), error.column());
    ApiError::invalid(format!("the body is not JSON (line {line}, column {column})"))
}

/// Deserializes a value whose objects have each key once.
#[derive(Clone, Copy)]
struct Unambiguous {
    /// The number of further levels that the value may have.
    depth: usize,
}

impl Unambiguous {
    fn nested<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| {
            E::custom(format_args!("it is nested deeper than {MAX_DEPTH} levels"))
        })?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Unambiguous {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unambiguous {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::invalid_value(Unexpected::Float(value), &self))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let nested = self.nested()?;
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(nested)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let nested = self.nested()?;
        let mut fields = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if fields.contains_key(&key) {
                let shown: String = key.chars().take(MAX_SHOWN).collect();
                return Err(A::Error::custom(format_args!("it has the key `{shown}` twice")));
            }
            let value = entries.next_value_seed(nested)?;
            fields.insert(key, value);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn error(body: &[u8]) -> String {
        format!("{:?}", parse_object(body).unwrap_err())
    }

    #[test]
    fn unambiguous_json_keeps_its_values() {
        let text = r#" {"a": [1, -2, 2.5, "x", "\u00e4", true, null], "b": {"a": {}}} "#;
        let expected = json!({ "a": [1, -2, 2.5, "x", "ä", true, null], "b": { "a": {} } });
        assert_eq!(Value::Object(parse_object(text.as_bytes()).unwrap()), expected);
    }

    #[test]
    fn a_duplicate_key_is_named_however_it_is_escaped() {
        for body in [
            r#"{"exposed_ports": [], "exposed_ports": [22]}"#,
            r#"{"exposed_ports": [], "exposed\u005fports": [22]}"#,
            r#"{"network": {"exposed_ports": 1, "exposed_ports": 1}}"#,
            r#"{"metadata": {"list": [{"exposed_ports": 1, "exposed_ports": 1}]}}"#,
        ] {
            assert!(error(body.as_bytes()).contains("`exposed_ports` twice"), "{body}");
        }
        let long = format!("{{\"{0}\": 1, \"{0}\": 2}}", "k".repeat(10_000));
        assert!(error(long.as_bytes()).len() < 400);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let nested = |levels: usize| {
            format!("{{\"metadata\": {}{}}}", "[".repeat(levels), "]".repeat(levels))
        };
        assert!(parse_object(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        assert!(error(nested(MAX_DEPTH).as_bytes()).contains("32 levels"));
        assert!(error("[".repeat(500_000).as_bytes()).contains("32 levels"));
        assert!(error("{\"a\":".repeat(100_000).as_bytes()).contains("32 levels"));
    }

    #[test]
    fn a_body_that_is_not_a_json_object_is_refused_with_the_position_of_the_error() {
        for (body, named) in [
            (&b""[..], "empty"),
            (b"{\"name\": \"\xff\"}", "UTF-8 (after byte 10)"),
            (b"\xef\xbb\xbf{}", "line 1"),
            (b"{\"name\": \"\\ud800\"}", "line 1"),
            (b"{\"a\": 1e999}", "line 1"),
            (b"{\"a\": NaN}", "line 1"),
            (b"{\"a\": 1,}", "line 1"),
            (b"{}\n{}", "line 2"),
            (b"{", "line 1"),
            (b"[]", "must be a JSON object"),
            (b"null", "must be a JSON object"),
        ] {
            assert!(error(body).contains(named), "{body:?}: {}", error(body));
        }
    }
}
