//! Converts a JSON value into a type, with error messages for the sender of the value.
//!
//! The messages of serde_json repeat the wrong value, which may be secret or long, and use the terms of Rust (`a
//! sequence`, `u16`). The messages of this module use the terms of JSON, and never a value.
//!
//! The file has more than 300 lines because one trait implementation, and the table that tests it, should stay together.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{self, Deserializer, Expected, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Number, Value};

use super::MAX_WHOLE_NUMBER;

/// A JSON value that checks the types that are requested from it.
pub(super) struct TypedValue(Value);

/// The reason why a value is not of the requested type.
#[derive(Debug)]
pub(super) enum TypeError {
    /// Continues a sentence that starts with the field: `must be a string`.
    Requirement(String),
    /// The object has no field of this name.
    Missing(&'static str),
    /// A sentence of its own, from a type that checks more than JSON's types.
    Other(String),
}

impl TypeError {
    fn must_be(what: impl fmt::Display) -> Self {
        Self::Requirement(format!("must be {what}"))
    }

    /// The message for the field at `path`, which is `.` for the body itself.
    pub(super) fn describe(&self, path: &str) -> String {
        match (self, path) {
            (Self::Requirement(requirement), ".") => format!("the body {requirement}"),
            (Self::Requirement(requirement), _) => format!("`{path}` {requirement}"),
            (Self::Missing(name), ".") => format!("`{name}` is missing"),
            (Self::Missing(name), _) => format!("`{path}.{name}` is missing"),
            (Self::Other(message), ".") => message.clone(),
            (Self::Other(message), _) => format!("`{path}`: {message}"),
        }
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.describe("."))
    }
}

impl std::error::Error for TypeError {}

impl de::Error for TypeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Other(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::must_be(expected)
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::must_be(expected)
    }

    fn unknown_variant(_: &str, expected: &'static [&'static str]) -> Self {
        Self::must_be(format_args!("one of `{}`", expected.join("`, `")))
    }

    fn unknown_field(_: &str, _: &'static [&'static str]) -> Self {
        Self::Requirement("is not a field of this request".to_owned())
    }

    fn missing_field(name: &'static str) -> Self {
        Self::Missing(name)
    }
}

impl From<Value> for TypedValue {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl IntoDeserializer<'_, TypeError> for TypedValue {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl TypedValue {
    /// JSON has one kind of number: `8080.0` is the same whole number as `8080`.
    fn whole_number(&self) -> Option<i64> {
        let Value::Number(number) = &self.0 else { return None };
        let float = || number.as_f64().filter(|float| float.fract() == 0.0);
        // `format!` because no cast from a float to an integer is lossless.
        let whole = number.as_i64().or_else(|| format!("{:.0}", float()?).parse().ok())?;
        (whole.unsigned_abs() <= MAX_WHOLE_NUMBER).then_some(whole)
    }

    fn signed<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let number = self.whole_number().ok_or_else(|| TypeError::must_be("a whole number"))?;
        visitor.visit_i64(number)
    }

    fn unsigned<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        let number = self.whole_number().and_then(|number| u64::try_from(number).ok());
        visitor.visit_u64(number.ok_or_else(|| {
            TypeError::must_be(format_args!("a whole number from 0 to {MAX_WHOLE_NUMBER}"))
        })?)
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, TypeError> {
    match (number.as_u64(), number.as_i64(), number.as_f64()) {
        (Some(number), _, _) => visitor.visit_u64(number),
        (None, Some(number), _) => visitor.visit_i64(number),
        (None, None, Some(number)) => visitor.visit_f64(number),
        (None, None, None) => Err(TypeError::must_be("a number")),
    }
}

impl<'de> Deserializer<'de> for TypedValue {
    type Error = TypeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(number) => visit_number(&number, visitor),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(list) => {
                visitor.visit_seq(SeqDeserializer::new(list.into_iter().map(Self)))
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, Self(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
        }
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(TypeError::must_be("true or false")),
        }
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.signed(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.unsigned(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::String(text) => visitor.visit_string(text),
            _ => Err(TypeError::must_be("a string")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::Array(_) => self.deserialize_any(visitor),
            _ => Err(TypeError::must_be("a list")),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::Object(_) => self.deserialize_any(visitor),
            _ => Err(TypeError::must_be("an object")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        self.deserialize_map(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, TypeError> {
        match self.0 {
            Value::String(variant) => visitor.visit_enum(variant.into_deserializer()),
            _ => Err(TypeError::must_be("a string")),
        }
    }

    // Requests have no fields of these types.
    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct
        identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use serde::Deserialize;
    use serde_json::json;

    use super::super::parse_json;
    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(deny_unknown_fields)]
    struct Request {
        count: u64,
        #[serde(default)]
        flag: Option<bool>,
        #[serde(default)]
        ports: Vec<i64>,
        #[serde(default)]
        address: Option<IpAddr>,
        #[serde(default)]
        kind: Option<Kind>,
        #[serde(default)]
        inner: Option<Box<Self>>,
    }

    #[derive(Debug, Deserialize, PartialEq)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        First,
        Second,
    }

    fn error(body: &Value) -> String {
        let error = parse_json::<Request>(body.to_string().as_bytes()).unwrap_err();
        error.message().to_owned()
    }

    #[test]
    fn an_error_names_the_field_in_the_terms_of_json_and_repeats_no_value() {
        for (body, expected) in [
            (json!({}), "`count` is missing"),
            (
                json!({ "count": "s3cret" }),
                "`count` must be a whole number from 0 to 9007199254740991",
            ),
            (json!({ "count": -1 }), "`count` must be a whole number from 0 to 9007199254740991"),
            (json!({ "count": null }), "`count` must be a whole number from 0 to 9007199254740991"),
            (json!({ "count": 1, "flag": 1 }), "`flag` must be true or false"),
            (json!({ "count": 1, "ports": {} }), "`ports` must be a list"),
            (json!({ "count": 1, "ports": [1, 1.5] }), "`ports[1]` must be a whole number"),
            (json!({ "count": 1, "kind": "s3cret" }), "`kind` must be one of `first`, `second`"),
            (json!({ "count": 1, "kind": 5 }), "`kind` must be a string"),
            (json!({ "count": 1, "address": "s3cret" }), "`address`: invalid IP address syntax"),
            (json!({ "count": 1, "inner": [] }), "`inner` must be an object"),
            (json!({ "count": 1, "inner": {} }), "`inner.count` is missing"),
            (
                json!({ "count": 1, "inner": { "count": 1, "colour": 1 } }),
                "`inner.colour` is not a field of this request",
            ),
        ] {
            assert_eq!(error(&body), expected, "{body}");
        }
        let long = error(&json!({ "count": 1, "x".repeat(10_000): 1 }));
        assert!(long.contains("is not a field") && long.len() < 200, "{long}");
    }

    #[test]
    fn a_whole_number_may_be_written_as_a_float_and_must_be_exact_in_every_parser() {
        let count = |text: &str| {
            let body = format!("{{\"count\": {text}}}");
            parse_json::<Request>(body.as_bytes()).ok().map(|request| request.count)
        };
        for (text, expected) in [
            ("5", Some(5)),
            ("5.0", Some(5)),
            ("5e3", Some(5_000)),
            ("-0.0", Some(0)),
            ("9007199254740991", Some(MAX_WHOLE_NUMBER)),
            ("9007199254740992", None),
            ("18446744073709551615", None),
            ("1e300", None),
            ("5.5", None),
            ("-1.0", None),
        ] {
            assert_eq!(count(text), expected, "{text}");
        }
    }
}
