//! Envoy's protobuf messages as data: JSON becomes bytes of a message that was checked against its description.
//!
//! `descriptors.bin` is a file of this crate with the descriptions of the messages that an edge can use. The example
//! `descriptors` of this crate makes it. See `docs/decisions/0023-xds-messages.md`.

use std::sync::OnceLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::kind::Kind;
use crate::snapshot::Version;
use crate::wire::Any;

static SET: &[u8] = include_bytes!("../descriptors.bin");

/// A JSON value is not a message.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MessageError {
    #[error("there is no description of `{0}`")]
    Unknown(String),
    #[error("not a `{message}`: {reason}")]
    Invalid { message: String, reason: String },
}

/// Converts the JSON form of a resource.
///
/// # Errors
///
/// If the value has a field that the message does not have, or a value that the field can't have.
pub fn to_any(kind: Kind, json: &Value) -> Result<Any, MessageError> {
    Ok(Any { type_url: kind.type_url(), value: encode(kind.message(), json)?.into() })
}

/// Checks the JSON form of a message.
///
/// # Errors
///
/// As [`to_any`].
pub fn encode(message: &str, json: &Value) -> Result<Vec<u8>, MessageError> {
    let unknown = || MessageError::Unknown(message.to_owned());
    let pool = pool().ok_or_else(unknown)?;
    let descriptor = pool.get_message_by_name(message).ok_or_else(unknown)?;
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let parsed = DynamicMessage::deserialize_with_options(descriptor, json, &options);
    let parsed = parsed.map_err(|error| MessageError::Invalid {
        message: message.to_owned(),
        reason: error.to_string(),
    })?;
    Ok(parsed.encode_to_vec())
}

/// The JSON form of a resource, with the names of the templates.
///
/// # Errors
///
/// If the bytes are not the message that the type names.
pub fn to_json(body: &Any) -> Result<Value, MessageError> {
    let message = body.type_url.rsplit('/').next().unwrap_or_default();
    let unknown = || MessageError::Unknown(message.to_owned());
    let pool = pool().ok_or_else(unknown)?;
    let descriptor = pool.get_message_by_name(message).ok_or_else(unknown)?;
    let invalid = |reason: String| MessageError::Invalid { message: message.to_owned(), reason };
    let decoded = DynamicMessage::decode(descriptor, body.value.clone())
        .map_err(|error| invalid(error.to_string()))?;
    let options =
        SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    decoded
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|error| invalid(error.to_string()))
}

/// The version of a resource: a hash of its JSON, whose keys are sorted. The bytes of the message may differ from one
/// encoding to the next, because protobuf does not order maps.
#[must_use]
pub fn version(kind: Kind, json: &Value) -> Version {
    let mut hash = Sha256::new();
    hash.update(kind.message());
    hash.update([0]);
    hash.update(json.to_string());
    let hash = hash.finalize();
    let text = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect::<String>();
    Version(text.into())
}

fn pool() -> Option<&'static DescriptorPool> {
    static POOL: OnceLock<Option<DescriptorPool>> = OnceLock::new();
    POOL.get_or_init(|| DescriptorPool::decode(SET).ok()).as_ref()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_has_a_description() {
        for kind in Kind::ALL {
            assert!(encode(kind.message(), &json!({})).is_ok(), "{kind}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused_also_in_an_extension() {
        let of_cluster = to_any(Kind::Cluster, &json!({ "nmae": "a" })).unwrap_err();
        assert!(of_cluster.to_string().contains("nmae"), "{of_cluster}");
        let secret = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
        let extension = json!({ "name": "a", "typed_config": { "@type": secret, "nmae": "a" } });
        assert!(to_any(Kind::Extension, &extension).is_err());
    }

    #[test]
    fn a_version_follows_the_content_and_not_the_order_of_keys() {
        let one: Value = serde_json::from_str(r#"{ "a": 1, "b": 2 }"#).unwrap();
        let same: Value = serde_json::from_str(r#"{ "b": 2, "a": 1 }"#).unwrap();
        assert_eq!(version(Kind::Cluster, &one), version(Kind::Cluster, &same));
        assert_ne!(version(Kind::Cluster, &one), version(Kind::Cluster, &json!({ "a": 1 })));
        assert_ne!(version(Kind::Cluster, &one), version(Kind::Listener, &one));
    }
}
