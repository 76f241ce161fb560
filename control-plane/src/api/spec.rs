//! What the clients send along and networking has no use for: image, resources and the like. It is
//! kept, repeated in answers as it was sent, and handed to the runtime.
//!
//! Clients parse it again when it comes back, so its types are checked here: one sandbox with an
//! `image` of 5 would break every list that holds it.

use serde_json::Value;

use super::fields::{Fields, MAX_WHOLE, size, whole};
use crate::http::ApiError;
use crate::model::Spec;
use crate::store::SPEC_MAX;

/// Every such field.
pub(super) const SPEC: [&str; 11] = [
    "resources",
    "image",
    "timeout_secs",
    "entrypoint",
    "snapshot_id",
    "file_systems",
    "max_pending_secs",
    "secret_names",
    "template_id",
    "pool_id",
    "metadata",
];
/// Those of them that can be changed.
pub(super) const CHANGEABLE_SPEC: [&str; 3] = ["resources", "timeout_secs", "metadata"];
/// Numbers of `resources` that clients read as whole numbers.
const SIZES: [&str; 3] = ["memory_mb", "disk_mb", "ephemeral_disk_mb"];

/// Takes the fields of `names`, checked. `null` stays: it says that there is nothing.
pub(super) fn take(fields: &mut Fields, names: &[&str]) -> Result<Spec, ApiError> {
    let mut spec = fields.keep(names);
    for (name, value) in &mut spec {
        check(name, value)?;
    }
    if size(&spec) > SPEC_MAX {
        let all = names.join("`, `");
        return Err(ApiError::invalid(format!(
            "`{all}` take more than {SPEC_MAX} bytes together; send less"
        )));
    }
    Ok(spec)
}

fn check(name: &str, value: &mut Value) -> Result<(), ApiError> {
    match name {
        _ if value.is_null() => Ok(()),
        "resources" => resources(name, value),
        "metadata" => object(name, value),
        "timeout_secs" | "max_pending_secs" => number(name, value),
        "entrypoint" | "secret_names" => each(name, value, string),
        "file_systems" => each(name, value, object),
        _ => string(name, value),
    }
}

fn resources(name: &str, value: &mut Value) -> Result<(), ApiError> {
    object(name, value)?;
    let cpus = value.get("cpus").filter(|cpus| !cpus.is_null());
    if cpus.is_some_and(|cpus| !cpus.as_f64().is_some_and(|cpus| cpus > 0.0)) {
        return Err(ApiError::invalid(format!("`{name}.cpus` must be a number greater than 0")));
    }
    for key in SIZES {
        if let Some(size) = value.get_mut(key).filter(|size| !size.is_null()) {
            number(&format!("{name}.{key}"), size)?;
        }
    }
    Ok(())
}

fn object(name: &str, value: &mut Value) -> Result<(), ApiError> {
    let good = value.is_object();
    good.then_some(()).ok_or_else(|| ApiError::invalid(format!("`{name}` must be an object")))
}

fn string(name: &str, value: &mut Value) -> Result<(), ApiError> {
    let good = value.is_string();
    good.then_some(()).ok_or_else(|| ApiError::invalid(format!("`{name}` must be a string")))
}

/// Clients that read `600` may not read `600.0`.
fn number(name: &str, value: &mut Value) -> Result<(), ApiError> {
    *value = whole(value).map(Value::from).ok_or_else(|| {
        ApiError::invalid(format!("`{name}` must be a whole number from 0 to {MAX_WHOLE}"))
    })?;
    Ok(())
}

fn each(
    name: &str,
    value: &mut Value,
    check: impl Fn(&str, &mut Value) -> Result<(), ApiError>,
) -> Result<(), ApiError> {
    let Value::Array(entries) = value else {
        return Err(ApiError::invalid(format!("`{name}` must be a list")));
    };
    let mut entries = entries.iter_mut().enumerate();
    entries.try_for_each(|(index, entry)| check(&format!("{name}[{index}]"), entry))
}
