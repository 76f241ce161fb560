//! `sandgate orgs | projects | members`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Common;
use super::output::Output;
use crate::model::{Member, Organization, Project, Timestamp};
use crate::random::prefixed_id;
use crate::serve::open_store;
use crate::store::Principals as _;

/// `sandgate orgs`.
#[derive(Subcommand)]
pub(super) enum Orgs {
    /// Make an organization
    Create {
        /// What it is called; unique
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// List all organizations
    List {
        #[command(flatten)]
        common: Common,
    },
}

impl Orgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { name, common } => {
                let store = open_store(&common.data_dir)?;
                let name = label("the name of an organization", &name)?;
                let made =
                    store.create_organization(&prefixed_id("org")?, name, Timestamp::now())?;
                Output::new(common.json).one(&organization(&made))
            }
            Self::List { common } => {
                let all = open_store(&common.data_dir)?.organizations()?;
                let all: Vec<_> = all.iter().map(organization).collect();
                Output::new(common.json).many("organizations", &all)
            }
        }
    }
}

/// `sandgate projects`.
#[derive(Subcommand)]
pub(super) enum Projects {
    /// Make a project
    Create {
        /// What it is called; unique in its organization
        name: String,
        /// Whose it is
        #[arg(long, value_name = "ID")]
        organization: String,
        #[command(flatten)]
        common: Common,
    },
    /// List all projects
    List {
        #[command(flatten)]
        common: Common,
    },
}

impl Projects {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { name, organization, common } => {
                let store = open_store(&common.data_dir)?;
                let name = label("the name of a project", &name)?;
                let id = prefixed_id("project")?;
                let made = store.create_project(&id, &organization, name, Timestamp::now())?;
                Output::new(common.json).one(&project(&made))
            }
            Self::List { common } => {
                let all = open_store(&common.data_dir)?.projects()?;
                let all: Vec<_> = all.iter().map(project).collect();
                Output::new(common.json).many("projects", &all)
            }
        }
    }
}

/// Which membership.
#[derive(Args)]
pub(super) struct Membership {
    /// Mail address or name
    #[arg(long, value_name = "EMAIL-OR-NAME")]
    user: String,
    /// Which project
    #[arg(long, value_name = "ID")]
    project: String,
}

/// `sandgate members`.
#[derive(Subcommand)]
pub(super) enum Members {
    /// Make a user a member of a project; a new user is made known by this
    Add {
        #[command(flatten)]
        membership: Membership,
        #[command(flatten)]
        common: Common,
    },
    /// End a membership; tokens and sessions of the user stop working for the project
    Remove {
        #[command(flatten)]
        membership: Membership,
        #[command(flatten)]
        common: Common,
    },
    /// List members, of one project or of all
    List {
        /// Only of this project
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        #[command(flatten)]
        common: Common,
    },
}

impl Members {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add { membership, common } => {
                let store = open_store(&common.data_dir)?;
                let user = label("a user", &membership.user)?;
                let id = prefixed_id("user")?;
                let added = store.add_member(&id, user, &membership.project, Timestamp::now())?;
                super::keys::wait_until_applied(&store, &common.data_dir, added.revision)?;
                Output::new(common.json).one(&member(&added.value))
            }
            Self::Remove { membership, common } => {
                let store = open_store(&common.data_dir)?;
                let removed = store.remove_member(&membership.user, &membership.project)?;
                super::keys::wait_until_applied(&store, &common.data_dir, removed.revision)?;
                Output::new(common.json).one(&member(&removed.value))
            }
            Self::List { project, common } => {
                let all = open_store(&common.data_dir)?.members(project.as_deref())?;
                let all: Vec<_> = all.iter().map(member).collect();
                Output::new(common.json).many("members", &all)
            }
        }
    }
}

/// A name for people: something to read, on one line.
pub(super) fn label<'t>(what: &str, text: &'t str) -> anyhow::Result<&'t str> {
    let text = text.trim();
    if text.is_empty() || text.len() > 200 || text.chars().any(char::is_control) {
        anyhow::bail!("{what} must be 1 to 200 characters on one line");
    }
    Ok(text)
}

fn organization(value: &Organization) -> Value {
    json!({ "id": value.id, "name": value.name, "created_at": value.created_at.millis() })
}

fn project(value: &Project) -> Value {
    json!({
        "id": value.id,
        "name": value.name,
        "organization_id": value.organization_id,
        "created_at": value.created_at.millis(),
    })
}

fn member(value: &Member) -> Value {
    json!({
        "user_id": value.user.id,
        "user": value.user.name,
        "project_id": value.project_id,
        "created_at": value.created_at.millis(),
    })
}
