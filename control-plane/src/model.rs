//! What the control plane keeps, as types that can't hold a wrong value.

mod name;
mod ports;
mod principal;
mod sandbox;
mod time;

pub use name::{InvalidName, SandboxName};
pub use ports::{ExposedPorts, InvalidPorts};
pub use principal::{
    Credential, CredentialQuery, Member, NewCredential, Organization, Owner, Project, User,
};
pub use sandbox::{
    NetworkChange, NewSandbox, PortChange, Sandbox, SandboxId, SandboxPatch, Spec, Transition,
    state_name, state_named,
};
pub use time::Timestamp;
