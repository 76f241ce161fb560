//! The types of what the control plane stores. They can't hold an invalid value.

mod audit;
mod event;
mod label;
mod name;
mod ports;
mod principal;
mod sandbox;
mod time;
mod token_prefix;
mod transition;

pub use audit::{
    ListDifference, NetworkChange, OperatorChange, PolicyDifference, PolicySummary, PortChange,
};
pub use event::{Event, EventClass, EventDetail, PortAccess};
pub use label::parse_label;
pub use name::{InvalidName, SandboxName};
pub(crate) use ports::join_ports;
pub use ports::{ExposedPorts, InvalidPorts};
pub use principal::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Owner, Project, User,
};
pub(crate) use sandbox::state_for_gateways;
pub use sandbox::{NewSandbox, Sandbox, SandboxPatch, Spec};
pub use time::Timestamp;
pub(crate) use token_prefix::{API_KEY_PREFIX, SESSION_PREFIX};
pub use token_prefix::{InvalidTokenPrefix, TokenPrefix};
pub use transition::Transition;

// The filters check the same identifiers.
pub use sandgate_policy::ids::{OrganizationId, PrincipalId, ProjectId, SandboxId};
