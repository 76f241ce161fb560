//! Conversion of rows to types. A value that does not parse was not written by this program, and is an error.

use std::net::IpAddr;
use std::str::FromStr;

use sandgate_policy::egress::NetworkPolicy;
use sandgate_policy::gateway_api::{self, SandboxState};
use sandgate_policy::ids::InvalidId;
use serde_json::Value;

use super::{Row, unsigned};
use crate::model::{
    Credential, Event, EventDetail, ExposedPorts, Member, NetworkChange, OperatorChange,
    Organization, Owner, PortChange, Project, Sandbox, SandboxName, Spec, Timestamp, User,
    state_for_gateways,
};
use crate::store::{Result, StoreError};

/// Columns that [`sandbox`] reads, of `sandboxes s` joined with `projects p`.
pub(in crate::store) const SANDBOX: &str = "s.sequence, s.id, s.name, p.organization_id, s.project_id, \
     s.state, s.address, s.generation, s.exposed_ports, s.public, s.auto_resume, s.spec, s.created_at, \
     s.network, s.network_revision, s.placement, s.unconfirmed \
     FROM sandboxes s JOIN projects p ON p.id = s.project_id";

pub(in crate::store) fn sandbox(row: &Row<'_>) -> Result<Sandbox> {
    let name: Option<String> = row.get(2)?;
    let spec: String = row.get(11)?;
    Ok(Sandbox {
        sequence: row.get(0)?,
        name: name
            .map(|name| SandboxName::parse(&name).map_err(|_| corrupt("name", &name)))
            .transpose()?,
        organization_id: id(row, 3)?,
        project_id: id(row, 4)?,
        state: state(&row.get::<String>(5)?)?,
        address: address(row.get(6)?)?,
        generation: unsigned(row.get(7)?)?,
        exposed_ports: ports(&row.get::<String>(8)?)?,
        allow_unauthenticated_access: row.get(9)?,
        auto_resume: row.get(10)?,
        spec: parse_spec(&spec)?,
        created_at: time(row.get(12)?),
        network_policy: network(&row.get::<String>(13)?)?,
        network_policy_revision: unsigned(row.get(14)?)?,
        placement: unsigned(row.get(15)?)?,
        suspension_unconfirmed: row.get(16)?,
        id: id(row, 1)?,
    })
}

/// Columns that [`gateway_sandbox`] reads. They don't include kept fields and policies, which may be large. So the
/// time of a response is the same for all sandboxes, and almost the same for one that does not exist.
pub(super) const GATEWAY_SANDBOX: &str = "s.id, s.name, p.organization_id, s.project_id, s.state, \
     s.address, s.generation, s.exposed_ports, s.public, s.auto_resume \
     FROM sandboxes s JOIN projects p ON p.id = s.project_id";

pub(super) fn gateway_sandbox(row: &Row<'_>) -> Result<gateway_api::Sandbox> {
    let name: Option<String> = row.get(1)?;
    let generation = unsigned(row.get(6)?)?;
    let auto_resume = row.get(9)?;
    Ok(gateway_api::Sandbox {
        id: id(row, 0)?,
        organization_id: id(row, 2)?,
        project_id: id(row, 3)?,
        state: state_for_gateways(
            state(&row.get::<String>(4)?)?,
            generation,
            auto_resume && name.is_some(),
        ),
        address: address(row.get(5)?)?,
        exposed_ports: ports(&row.get::<String>(7)?)?.as_slice().to_vec(),
        allow_unauthenticated_access: row.get(8)?,
        auto_resume,
        generation,
        name,
    })
}

/// The bytes of a sandbox in a list that depend on its owner: its ports, its kept fields, and its network policy,
/// which a list shows under two names.
pub(super) fn sandbox_size(row: &Row<'_>) -> Result<usize> {
    let size = |column| Ok::<_, StoreError>(row.get::<String>(column)?.len());
    Ok(size(8)? + size(11)? + 2 * size(13)?)
}

/// Reads an identifier.
pub(super) fn id<T: FromStr<Err = InvalidId>>(row: &Row<'_>, column: usize) -> Result<T> {
    parse_id(&row.get::<String>(column)?)
}

pub(super) fn parse_id<T: FromStr<Err = InvalidId>>(text: &str) -> Result<T> {
    text.parse().map_err(|_| corrupt("id", text))
}

fn state(text: &str) -> Result<SandboxState> {
    SandboxState::parse(text).ok_or_else(|| corrupt("state", text))
}

fn address(text: Option<String>) -> Result<Option<IpAddr>> {
    text.map(|text| text.parse().map_err(|_| corrupt("address", &text))).transpose()
}

pub(super) fn ports(text: &str) -> Result<ExposedPorts> {
    let list: Vec<u16> = serde_json::from_str(text).map_err(|_| corrupt("port list", text))?;
    ExposedPorts::parse(list.into_iter().map(i128::from)).map_err(|_| corrupt("port list", text))
}

pub(super) fn ports_text(ports: &ExposedPorts) -> String {
    Value::from(ports.as_slice()).to_string()
}

pub(in crate::store) fn network(text: &str) -> Result<NetworkPolicy> {
    NetworkPolicy::from_accepted_json(text).map_err(|_| corrupt("network policy", text))
}

pub(super) fn network_text(network: &NetworkPolicy) -> Result<String> {
    serde_json::to_string(network).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(super) fn spec_text(spec: &Spec) -> String {
    Value::Object(spec.clone()).to_string()
}

fn parse_spec(text: &str) -> Result<Spec> {
    serde_json::from_str(text).map_err(|_| corrupt("specification", text))
}

pub(super) fn organization(row: &Row<'_>) -> Result<Organization> {
    Ok(Organization { id: row.get(0)?, name: row.get(1)?, created_at: time(row.get(2)?) })
}

/// Columns that [`project`] reads.
pub(super) const PROJECT: &str = "p.id, p.organization_id, o.name, p.name, p.created_at \
     FROM projects p JOIN organizations o ON o.id = p.organization_id";

pub(super) fn project(row: &Row<'_>) -> Result<Project> {
    Ok(Project {
        id: row.get(0)?,
        organization_id: row.get(1)?,
        organization_name: row.get(2)?,
        name: row.get(3)?,
        created_at: time(row.get(4)?),
    })
}

pub(super) fn user(row: &Row<'_>) -> Result<User> {
    Ok(User { id: row.get(0)?, name: row.get(1)?, created_at: time(row.get(2)?) })
}

/// Columns that [`member`] reads.
pub(super) const MEMBER: &str = "u.id, u.name, u.created_at, m.project_id, m.created_at \
     FROM memberships m JOIN users u ON u.id = m.user_id";

pub(super) fn member(row: &Row<'_>) -> Result<Member> {
    Ok(Member { user: user(row)?, project_id: row.get(3)?, created_at: time(row.get(4)?) })
}

/// Columns that [`credential`] reads.
pub(super) const CREDENTIAL: &str =
    "id, project_id, user_id, session, name, created_at, expires_at, revoked_at FROM credentials";

pub(super) fn credential(row: &Row<'_>) -> Result<Credential> {
    let id: String = row.get(0)?;
    let owner = match (row.get(1)?, row.get(2)?) {
        (Some(project_id), None) => Owner::Project { project_id },
        (None, Some(user_id)) => Owner::User { user_id, session: row.get(3)? },
        _ => return Err(corrupt("owner of credential", &id)),
    };
    Ok(Credential {
        id,
        owner,
        name: row.get(4)?,
        created_at: time(row.get(5)?),
        expires_at: row.get::<Option<i64>>(6)?.map(time),
        revoked_at: row.get::<Option<i64>>(7)?.map(time),
    })
}

/// Columns that [`port_change`] reads, after the id of the line.
pub(super) const PORT_CHANGE: &str = "at, sandbox_id, project_id, principal, ports_before, \
     public_before, ports_after, public_after";

pub(super) fn port_change(row: &Row<'_>) -> Result<PortChange> {
    Ok(PortChange {
        at: time(row.get(1)?),
        sandbox_id: row.get(2)?,
        project_id: row.get(3)?,
        principal: row.get(4)?,
        before: (ports(&row.get::<String>(5)?)?, row.get(6)?),
        after: (ports(&row.get::<String>(7)?)?, row.get(8)?),
    })
}

/// Columns that [`network_change`] reads, after the id of the line.
pub(in crate::store) const NETWORK_CHANGE: &str =
    "at, sandbox_id, project_id, principal, difference";

pub(in crate::store) fn network_change(row: &Row<'_>) -> Result<NetworkChange> {
    let difference: String = row.get(5)?;
    Ok(NetworkChange {
        at: time(row.get(1)?),
        sandbox_id: row.get(2)?,
        project_id: row.get(3)?,
        principal: row.get(4)?,
        difference: serde_json::from_str(&difference)
            .map_err(|_| corrupt("difference of policies", &difference))?,
    })
}

/// Columns that [`operator_change`] reads, after the id of the line.
pub(super) const OPERATOR_CHANGE: &str = "at, principal, action, subject, belongs_to";

pub(super) fn operator_change(row: &Row<'_>) -> Result<OperatorChange> {
    Ok(OperatorChange {
        at: time(row.get(1)?),
        principal: row.get(2)?,
        action: row.get(3)?,
        subject: row.get(4)?,
        of: row.get(5)?,
    })
}

/// Reads the columns `number, at, last_at, count, detail`.
pub(super) fn event(row: &Row<'_>) -> Result<Event> {
    let detail: String = row.get(4)?;
    Ok(Event {
        number: unsigned(row.get(0)?)?,
        at: time(row.get(1)?),
        last_at: time(row.get(2)?),
        count: unsigned(row.get(3)?)?,
        // One event that does not parse must not hide the others.
        detail: serde_json::from_str(&detail).unwrap_or(EventDetail::Unknown),
    })
}

fn time(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn corrupt(what: &str, text: &str) -> StoreError {
    StoreError::Corrupt(format!("the {what} `{text}`"))
}
