//! The bodies of create and patch: their schema, and their conversion into the types of [`crate::model`].
//!
//! Both bodies are strict: an unknown field is an error, so that a typo can't disable a protection unnoticed.

mod kept;
mod network;
mod patch_field;
mod ports;

use sandgate_policy::egress::NetworkPolicy;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::kept::{RequestedResources, SpecBuilder, WholeNumber};
use self::network::RequestedNetworkPolicy;
use self::patch_field::PatchField;
use self::ports::RequestedPorts;
use crate::http::ApiError;
use crate::model::{
    ExposedPorts, NewSandbox, PrincipalId, ProjectId, SandboxId, SandboxName, SandboxPatch,
};
use crate::store::StoreError;

/// A sandbox to create. Null has the same meaning as an absent field: the default.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateSandbox {
    name: Option<RequestedName>,
    exposed_ports: Option<RequestedPorts>,
    /// Whether the exposed ports accept requests without a credential. Applies to all of them. Off by default.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    allow_unauthenticated_access: PatchField<bool>,
    /// The older name of `allow_unauthenticated_access`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    allow_unauthenticated_proxy_access: PatchField<bool>,
    /// Whether a request resumes the sandbox while it is suspended. On by default. Only a sandbox with a name
    /// can switch it off.
    auto_resume: Option<bool>,
    network: Option<RequestedNetworkPolicy>,
    /// Whether the response waits until the sandbox runs. On by default.
    wait: Option<bool>,
    resources: Option<RequestedResources>,
    /// Kept, repeated in responses, and passed to the runtime.
    image: Option<String>,
    /// Kept, repeated in responses, and passed to the runtime.
    timeout_secs: Option<WholeNumber>,
    /// Kept, repeated in responses, and passed to the runtime.
    entrypoint: Option<Vec<String>>,
    /// Kept, repeated in responses, and passed to the runtime.
    snapshot_id: Option<String>,
    /// Kept, repeated in responses, and passed to the runtime.
    #[schema(value_type = Option<Vec<Object>>)]
    file_systems: Option<Vec<Map<String, Value>>>,
    /// Kept, repeated in responses, and passed to the runtime.
    max_pending_secs: Option<WholeNumber>,
    /// Kept, repeated in responses, and passed to the runtime.
    secret_names: Option<Vec<String>>,
    /// Kept, repeated in responses, and passed to the runtime.
    template_id: Option<String>,
    /// Kept, repeated in responses, and passed to the runtime.
    pool_id: Option<String>,
    /// Kept, repeated in responses, and passed to the runtime.
    #[schema(value_type = Option<Object>)]
    metadata: Option<Map<String, Value>>,
}

/// A change of a sandbox. An absent field keeps its value, and null sets the default.
#[derive(Default, Deserialize, PartialEq, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PatchSandbox {
    #[serde(default)]
    #[schema(value_type = RequestedName)]
    name: PatchField<RequestedName>,
    #[serde(default)]
    #[schema(value_type = Option<RequestedPorts>)]
    exposed_ports: PatchField<RequestedPorts>,
    /// Whether the exposed ports accept requests without a credential. Applies to all of them. Off by default.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    allow_unauthenticated_access: PatchField<bool>,
    /// The older name of `allow_unauthenticated_access`.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    allow_unauthenticated_proxy_access: PatchField<bool>,
    /// Whether a request resumes the sandbox while it is suspended. On by default. Only a sandbox with a name
    /// can switch it off.
    #[serde(default)]
    #[schema(value_type = Option<bool>)]
    auto_resume: PatchField<bool>,
    #[serde(default)]
    #[schema(value_type = Option<RequestedNetworkPolicy>)]
    network: PatchField<RequestedNetworkPolicy>,
    #[serde(default)]
    #[schema(value_type = Option<RequestedResources>)]
    resources: PatchField<RequestedResources>,
    /// Kept, repeated in responses, and passed to the runtime.
    #[serde(default)]
    #[schema(value_type = Option<WholeNumber>)]
    timeout_secs: PatchField<WholeNumber>,
    /// Kept, repeated in responses, and passed to the runtime.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: PatchField<Map<String, Value>>,
}

/// A host name, unique in the deployment. It can't be `api` or `www`, look like an id (21 letters and digits),
/// or start with `xn--`. A name that is no longer in use remains reserved for its project for 30 days.
#[derive(Deserialize, PartialEq, ToSchema)]
#[schema(
    as = SandboxName,
    min_length = 1,
    max_length = 57,
    pattern = "^(?!(?:api|www)$)(?!xn--)(?![a-z0-9]{21}$)[a-z](?:[a-z0-9-]*[a-z0-9])?$"
)]
struct RequestedName(String);

const _: () = assert!(SandboxName::MAX_LENGTH == 57, "also in the schema of `RequestedName`");

impl TryFrom<RequestedName> for SandboxName {
    type Error = ApiError;

    fn try_from(RequestedName(name): RequestedName) -> Result<Self, ApiError> {
        Self::parse(&name).map_err(|error| ApiError::invalid(error.to_string()))
    }
}

impl CreateSandbox {
    /// Whether the response waits until the sandbox runs.
    pub(super) fn waits(&self) -> bool {
        self.wait.unwrap_or(true)
    }

    /// The sandbox to create in `project_id` for `principal`.
    pub(super) fn into_new_sandbox(
        self,
        id: SandboxId,
        project_id: ProjectId,
        principal: PrincipalId,
    ) -> Result<NewSandbox, ApiError> {
        let spec = SpecBuilder::default()
            .add("resources", self.resources)
            .add("image", self.image)
            .add("timeout_secs", self.timeout_secs)
            .add("entrypoint", self.entrypoint)
            .add("snapshot_id", self.snapshot_id)
            .add("file_systems", self.file_systems)
            .add("max_pending_secs", self.max_pending_secs)
            .add("secret_names", self.secret_names)
            .add("template_id", self.template_id)
            .add("pool_id", self.pool_id)
            .add("metadata", self.metadata)
            .build()?;
        let name = self.name.map(SandboxName::try_from).transpose()?;
        let auto_resume = self.auto_resume.unwrap_or(true);
        if !auto_resume && name.is_none() {
            return Err(ApiError::invalid(StoreError::AutoResumeNeedsName.to_string()));
        }
        let is_public =
            one_name(self.allow_unauthenticated_access, self.allow_unauthenticated_proxy_access)?;
        Ok(NewSandbox {
            id,
            name,
            project_id,
            exposed_ports: self
                .exposed_ports
                .map(ExposedPorts::try_from)
                .transpose()?
                .unwrap_or_default(),
            allow_unauthenticated_access: is_public.new_value().unwrap_or_default(),
            auto_resume,
            network_policy: self
                .network
                .map(NetworkPolicy::try_from)
                .transpose()?
                .unwrap_or_default(),
            spec,
            principal,
        })
    }
}

impl PatchSandbox {
    /// Whether the patch sets the flag that makes ports public together with a list of ports. Some clients send
    /// the flag with each change of the ports, even if their user did not ask for it.
    pub(super) fn sets_ports_and_public_flag(&self) -> bool {
        let flags = [&self.allow_unauthenticated_access, &self.allow_unauthenticated_proxy_access];
        flags.contains(&&PatchField::Value(true)) && !self.exposed_ports.is_absent()
    }
}

impl TryFrom<PatchSandbox> for SandboxPatch {
    type Error = ApiError;

    fn try_from(body: PatchSandbox) -> Result<Self, ApiError> {
        if body == PatchSandbox::default() {
            return Err(ApiError::invalid(
                "the body has no field to change; send `exposed_ports`, \
                 `allow_unauthenticated_access`, `name`, `auto_resume` or `network`",
            ));
        }
        // A null removes the field.
        let spec = SpecBuilder::default()
            .add("resources", body.resources.into_nullable())
            .add("timeout_secs", body.timeout_secs.into_nullable())
            .add("metadata", body.metadata.into_nullable())
            .build()?;
        let name = match body.name {
            PatchField::Absent => None,
            PatchField::Null => {
                return Err(ApiError::invalid("`name` can be changed, but not removed"));
            }
            PatchField::Value(name) => Some(name.try_into()?),
        };
        let is_public =
            one_name(body.allow_unauthenticated_access, body.allow_unauthenticated_proxy_access)?;
        Ok(Self {
            name,
            exposed_ports: body.exposed_ports.try_map(ExposedPorts::try_from)?.new_value(),
            allow_unauthenticated_access: is_public.new_value(),
            auto_resume: body.auto_resume.new_value_or(true),
            network_policy: body.network.try_map(NetworkPolicy::try_from)?.new_value(),
            spec,
            keep_private: false,
        })
    }
}

/// The flag that makes ports public, which has two names. Sending both is an error.
fn one_name(
    current: PatchField<bool>,
    older: PatchField<bool>,
) -> Result<PatchField<bool>, ApiError> {
    match (current.is_absent(), older.is_absent()) {
        (false, false) => Err(ApiError::invalid(
            "`allow_unauthenticated_proxy_access` is the older name of \
             `allow_unauthenticated_access`; send only one of them",
        )),
        (true, false) => Ok(older),
        (_, true) => Ok(current),
    }
}
