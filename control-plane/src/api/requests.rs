//! What owners may ask for, checked.

use serde_json::{Map, Value};

use super::fields::{Fields, Update, boolean, list, text, whole};
use super::spec::{self, CHANGEABLE_SPEC, SPEC};
use crate::http::ApiError;
use crate::model::{ExposedPorts, SandboxName, SandboxPatch, Spec};
use crate::store::StoreError;

/// Entries of `exposed_ports`, before duplicates are dropped.
pub(super) const MAX_PORTS: usize = 65_535;

/// A sandbox to be made.
pub(super) struct CreateRequest {
    pub(super) name: Option<SandboxName>,
    pub(super) exposed_ports: ExposedPorts,
    pub(super) allow_unauthenticated_access: bool,
    pub(super) auto_resume: bool,
    pub(super) spec: Spec,
    /// Answer when it runs, not as soon as it is written down.
    pub(super) wait: bool,
}

impl CreateRequest {
    pub(super) fn parse(body: Map<String, Value>) -> Result<Self, ApiError> {
        let mut fields = Fields::new(body);
        let name = fields.take("name", name)?;
        let ports = fields.take("exposed_ports", ports)?;
        let public = access(&mut fields)?;
        let auto_resume = fields.take("auto_resume", boolean)?;
        let wait = fields.take("wait", boolean)?;
        fields.take("network", network)?;
        let mut spec = spec::take(&mut fields, &SPEC)?;
        spec.retain(|_, value| !value.is_null());
        fields.finish()?;
        let name = match name {
            Update::Set(name) => Some(name),
            Update::Keep | Update::Clear => None,
        };
        if auto_resume == Update::Set(false) && name.is_none() {
            return Err(ApiError::invalid(StoreError::AutoResumeNeedsName.to_string()));
        }
        Ok(Self {
            name,
            exposed_ports: ports.or_default(ExposedPorts::default()).unwrap_or_default(),
            allow_unauthenticated_access: public.or_default(false).unwrap_or(false),
            auto_resume: auto_resume.or_default(true).unwrap_or(true),
            wait: wait.or_default(true).unwrap_or(true),
            spec,
        })
    }
}

/// Reads a change: what is absent is kept, `null` means the default.
pub(super) fn parse_patch(body: Map<String, Value>) -> Result<SandboxPatch, ApiError> {
    let mut fields = Fields::new(body);
    if fields.is_empty() {
        return Err(ApiError::invalid(
            "the body names nothing to change; send `exposed_ports`, \
             `allow_unauthenticated_access`, `name`, `auto_resume` or `network`",
        ));
    }
    let name = match fields.take("name", name)? {
        Update::Keep => None,
        Update::Set(name) => Some(name),
        Update::Clear => {
            return Err(ApiError::invalid("`name` can be changed but not taken away"));
        }
    };
    let ports = fields.take("exposed_ports", ports)?;
    let public = access(&mut fields)?;
    let auto_resume = fields.take("auto_resume", boolean)?;
    fields.take("network", network)?;
    let spec = spec::take(&mut fields, &CHANGEABLE_SPEC)?;
    fields.finish()?;
    Ok(SandboxPatch {
        name,
        exposed_ports: ports.or_default(ExposedPorts::default()),
        allow_unauthenticated_access: public.or_default(false),
        auto_resume: auto_resume.or_default(true),
        spec,
    })
}

fn access(fields: &mut Fields) -> Result<Update<bool>, ApiError> {
    let older = "allow_unauthenticated_proxy_access";
    fields.take_renamed("allow_unauthenticated_access", older, boolean)
}

fn name(field: &str, value: Value) -> Result<SandboxName, ApiError> {
    let text = text(field, value)?;
    SandboxName::parse(&text).map_err(|error| ApiError::invalid(error.to_string()))
}

fn ports(field: &str, value: Value) -> Result<ExposedPorts, ApiError> {
    let list = list(field, value)?;
    if list.len() > MAX_PORTS {
        return Err(ApiError::invalid(format!("`{field}` has more than {MAX_PORTS} entries")));
    }
    let numbers = list.iter().enumerate().map(|(index, entry)| {
        // A negative number has a better error than one that is none.
        let number = whole(entry).map(i128::from).or_else(|| entry.as_i64().map(i128::from));
        number.ok_or_else(|| {
            ApiError::invalid(format!("`{field}[{index}]` must be a whole number from 1 to 65535"))
        })
    });
    let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
    ExposedPorts::parse(numbers).map_err(|error| ApiError::invalid(error.to_string()))
}

/// Only the default policy is enforced yet. Accepting another one would be a promise of isolation
/// that is not kept.
fn network(field: &str, value: Value) -> Result<(), ApiError> {
    let Value::Object(policy) = value else {
        return Err(ApiError::invalid(format!("`{field}` must be an object or null")));
    };
    let mut policy = Fields::new(policy);
    let internet = policy
        .take("allow_internet_access", |name, value| boolean(&format!("{field}.{name}"), value))?;
    let mut entries = |name: &'static str| -> Result<(&'static str, Vec<Value>), ApiError> {
        let entries = policy.take(name, |name, value| list(&format!("{field}.{name}"), value))?;
        Ok((name, entries.or_default(Vec::new()).unwrap_or_default()))
    };
    let lists = [entries("allow_out")?, entries("deny_out")?];
    policy.finish()?;
    let refused = |name: &str| {
        ApiError::new(
            axum::http::StatusCode::BAD_REQUEST,
            "NETWORK_POLICY_UNSUPPORTED",
            format!(
                "`{field}.{name}`: outbound rules are not enforced in this version, so only the \
                 default policy is accepted (`allow_internet_access` true, no `allow_out`, no \
                 `deny_out`)"
            ),
        )
    };
    if internet == Update::Set(false) {
        return Err(refused("allow_internet_access"));
    }
    for (name, entries) in lists {
        if !entries.is_empty() {
            return Err(refused(name));
        }
    }
    Ok(())
}
