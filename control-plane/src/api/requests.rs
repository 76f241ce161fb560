//! What owners may ask for, checked.

use sandgate_policy::egress::NetworkPolicy;
use serde_json::{Map, Value};

use super::Egress;
use super::fields::{Fields, Update, boolean, list, text, whole};
use super::spec::{self, CHANGEABLE_SPEC, SPEC};
use crate::http::ApiError;
use crate::model::{ExposedPorts, SandboxName, SandboxPatch, Spec};
use crate::store::StoreError;

/// Entries of `exposed_ports`, before duplicates are dropped. Each is stored, listed, sent to every
/// gateway and written to the audit log twice; more than these nobody opens one by one.
pub(super) const MAX_PORTS: usize = 256;

/// Whether a patch that also names `exposed_ports` may make private ports public.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PublicPorts {
    /// It may, and the answer has a warning.
    Allowed,
    /// It may not. A patch that does not name `exposed_ports` confirms the change.
    Confirmed,
}

/// A sandbox to be made.
pub(super) struct CreateRequest {
    pub(super) name: Option<SandboxName>,
    pub(super) exposed_ports: ExposedPorts,
    pub(super) allow_unauthenticated_access: bool,
    pub(super) auto_resume: bool,
    pub(super) network: NetworkPolicy,
    pub(super) spec: Spec,
    /// Answer when it runs, not as soon as it is written down.
    pub(super) wait: bool,
}

impl CreateRequest {
    pub(super) fn parse(body: Map<String, Value>, egress: Egress) -> Result<Self, ApiError> {
        let mut fields = Fields::new(body);
        let name = fields.take("name", name)?;
        let ports = fields.take("exposed_ports", ports)?;
        let public = access(&mut fields)?;
        let auto_resume = fields.take("auto_resume", boolean)?;
        let wait = fields.take("wait", boolean)?;
        let network = fields.take("network", |field, value| egress.parse(field, value))?;
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
            network: network.or_default(NetworkPolicy::default()).unwrap_or_default(),
            wait: wait.or_default(true).unwrap_or(true),
            spec,
        })
    }
}

/// Reads a change: what is absent is kept, `null` means the default.
pub(super) fn parse_patch(
    body: Map<String, Value>,
    egress: Egress,
    public_ports: PublicPorts,
) -> Result<SandboxPatch, ApiError> {
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
    let network = fields.take("network", |field, value| egress.parse(field, value))?;
    let spec = spec::take(&mut fields, &CHANGEABLE_SPEC)?;
    fields.finish()?;
    // Some clients send the flag with each change of the ports, whether or not their user asked for it.
    let unconfirmed = public == Update::Set(true) && ports != Update::Keep;
    Ok(SandboxPatch {
        keep_private: public_ports == PublicPorts::Confirmed && unconfirmed,
        name,
        exposed_ports: ports.or_default(ExposedPorts::default()),
        allow_unauthenticated_access: public.or_default(false),
        auto_resume: auto_resume.or_default(true),
        network: network.or_default(NetworkPolicy::default()),
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
        let count = list.len();
        return Err(ApiError::invalid(format!(
            "`{field}` has {count} entries; a sandbox can have at most {MAX_PORTS} exposed ports"
        )));
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
