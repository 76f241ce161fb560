//! The options that say where the store is.

use std::path::PathBuf;

use clap::Args;

use super::admin::AdminOptions;
use crate::serve::StoreLocation;
use crate::store::PostgresSettings;

/// The store: one of a directory and a database.
#[derive(Args)]
pub(super) struct StoreOptions {
    #[command(flatten)]
    place: Place,
    /// File with the certificates of the authorities that sign the database's certificate; default: the system's
    #[arg(long, value_name = "FILE", env = "SANDGATE_DATABASE_CA")]
    database_ca: Option<PathBuf>,
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// Directory of the store; created if necessary. It has one server
    #[arg(long, value_name = "DIR", env = "SANDGATE_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Connection string of a PostgreSQL database with the store, which several servers may share:
    /// `postgres://USER:PASSWORD@HOST/NAME`. Other users of this machine can see options, so pass a password through the
    /// variable
    #[arg(long, value_name = "URL", env = "SANDGATE_DATABASE", hide_env_values = true)]
    database: Option<String>,
}

/// The store, or a server.
#[derive(Args)]
pub(super) struct StoreOrServer {
    #[command(flatten)]
    place: OptionalPlace,
    #[command(flatten)]
    pub(super) admin: AdminOptions,
    /// File with the certificates of the authorities that sign the database's certificate; default: the system's
    #[arg(long, value_name = "FILE", env = "SANDGATE_DATABASE_CA")]
    database_ca: Option<PathBuf>,
}

#[derive(Args)]
#[group(multiple = false)]
struct OptionalPlace {
    /// Directory of the store. Its server may be running
    #[arg(long, value_name = "DIR", env = "SANDGATE_DATA_DIR", conflicts_with = "admin_url")]
    data_dir: Option<PathBuf>,
    /// Connection string of a PostgreSQL database with the store; pass a password through the variable
    #[arg(
        long,
        value_name = "URL",
        env = "SANDGATE_DATABASE",
        hide_env_values = true,
        conflicts_with = "admin_url"
    )]
    database: Option<String>,
}

impl StoreOrServer {
    /// The place of the store. This process opens at most `connections` to a database.
    pub(super) fn location(&self, connections: usize) -> anyhow::Result<StoreLocation> {
        location(
            self.place.data_dir.as_ref(),
            self.place.database.as_ref(),
            self.database_ca.as_ref(),
            connections,
        )
    }
}

fn location(
    data_dir: Option<&PathBuf>,
    database: Option<&String>,
    authorities: Option<&PathBuf>,
    connections: usize,
) -> anyhow::Result<StoreLocation> {
    match (data_dir, database) {
        (Some(dir), None) => Ok(StoreLocation::DataDir(dir.clone())),
        (None, Some(url)) => Ok(StoreLocation::Database(PostgresSettings {
            url: url.clone(),
            authorities: authorities.cloned(),
            connections,
        })),
        _ => anyhow::bail!("use one of --data-dir and --database"),
    }
}

impl StoreOptions {
    /// The place of the store. This process opens at most `connections` to a database.
    pub(super) fn location(&self, connections: usize) -> anyhow::Result<StoreLocation> {
        location(
            self.place.data_dir.as_ref(),
            self.place.database.as_ref(),
            self.database_ca.as_ref(),
            connections,
        )
    }
}
