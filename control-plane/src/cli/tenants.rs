//! `sandgate orgs`, `projects` and `members`: manages organizations, projects and the users of projects.

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::management::{ManagementOptions, by_command_line, parse_label};
use super::output::Output;
use crate::model::{Member, Organization, Project};
use crate::random::prefixed_id;

/// `sandgate orgs`.
#[derive(Subcommand)]
pub(super) enum Orgs {
    /// Create an organization
    Create {
        /// Name of the organization; unique
        name: String,
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// List all organizations
    List {
        #[command(flatten)]
        options: ManagementOptions,
    },
}

impl Orgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { name, options } => {
                let name = parse_label("the name of an organization", &name)?;
                if let Some(server) = options.server()? {
                    let body = json!({ "name": name });
                    let made = server.call(Method::POST, &["organizations"], &[], Some(&body))?;
                    return Output::new(options.json).one(&made);
                }
                let store = options.open_store()?;
                let made =
                    store.create_organization(&prefixed_id("org")?, name, by_command_line())?;
                Output::new(options.json).one(&organization(&made))
            }
            Self::List { options } => {
                let all: Vec<_> = match options.server()? {
                    Some(server) => server.all("organizations", &[])?,
                    None => {
                        options.open_store()?.organizations()?.iter().map(organization).collect()
                    }
                };
                Output::new(options.json).many("organizations", &all)
            }
        }
    }
}

/// `sandgate projects`.
#[derive(Subcommand)]
pub(super) enum Projects {
    /// Create a project
    Create {
        /// Name of the project; unique in its organization
        name: String,
        /// Organization that owns the project
        #[arg(long, value_name = "ID")]
        organization: String,
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// List all projects
    List {
        #[command(flatten)]
        options: ManagementOptions,
    },
}

impl Projects {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { name, organization, options } => {
                let name = parse_label("the name of a project", &name)?;
                if let Some(server) = options.server()? {
                    let body = json!({ "organization_id": organization, "name": name });
                    let made = server.call(Method::POST, &["projects"], &[], Some(&body))?;
                    return Output::new(options.json).one(&made);
                }
                let store = options.open_store()?;
                let id = prefixed_id("project")?;
                let made = store.create_project(&id, &organization, name, by_command_line())?;
                Output::new(options.json).one(&project(&made))
            }
            Self::List { options } => {
                let all: Vec<_> = match options.server()? {
                    Some(server) => server.all("projects", &[])?,
                    None => options.open_store()?.projects()?.iter().map(project).collect(),
                };
                Output::new(options.json).many("projects", &all)
            }
        }
    }
}

/// A user and a project.
#[derive(Args)]
pub(super) struct Membership {
    /// Mail address or name of the user
    #[arg(long, value_name = "EMAIL-OR-NAME")]
    user: String,
    /// Project
    #[arg(long, value_name = "ID")]
    project: String,
}

/// `sandgate members`.
#[derive(Subcommand)]
pub(super) enum Members {
    /// Add a user to a project; creates the user if necessary
    Add {
        #[command(flatten)]
        membership: Membership,
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// Remove a user from a project; the user's tokens and sessions are no longer valid for it
    Remove {
        #[command(flatten)]
        membership: Membership,
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// List members, of one project or of all
    List {
        /// List only the members of this project
        #[arg(long, value_name = "ID")]
        project: Option<String>,
        #[command(flatten)]
        options: ManagementOptions,
    },
}

impl Members {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Add { membership, options } => {
                let user = parse_label("a user", &membership.user)?;
                if let Some(server) = options.server()? {
                    let path = ["projects", &membership.project, "members", user];
                    let added = server.call(Method::PUT, &path, &[], None)?;
                    return Output::new(options.json).one(&added);
                }
                let store = options.open_store()?;
                let id = prefixed_id("user")?;
                let added = store.add_member(&id, user, &membership.project, by_command_line())?;
                options.wait_until_applied(store.as_ref(), added.revision)?;
                Output::new(options.json).one(&member(&added.value))
            }
            Self::Remove { membership, options } => {
                if let Some(server) = options.server()? {
                    let path = ["projects", &membership.project, "members", &membership.user];
                    let removed = server.call(Method::DELETE, &path, &[], None)?;
                    return Output::new(options.json).one(&removed);
                }
                let store = options.open_store()?;
                let Membership { user, project } = &membership;
                let removed = store.remove_member(user, project, by_command_line())?;
                options.wait_until_applied(store.as_ref(), removed.revision)?;
                Output::new(options.json).one(&member(&removed.value))
            }
            Self::List { project, options } => {
                let all: Vec<_> = match options.server()? {
                    Some(server) => {
                        let filter = project.as_deref().map(|id| ("project_id", id));
                        server.all("members", filter.as_slice())?
                    }
                    None => {
                        let all = options.open_store()?.members(project.as_deref())?;
                        all.iter().map(member).collect()
                    }
                };
                Output::new(options.json).many("members", &all)
            }
        }
    }
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
