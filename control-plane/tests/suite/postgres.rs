//! A real PostgreSQL for tests: one server for this process, and a database for each test.
//!
//! A test without PostgreSQL fails. `scripts/setup postgres` installs it.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use sandgate::store::PostgresSettings;
use sandgate_stack::postgres;
pub(crate) use sandgate_stack::postgres::{Held, Paused};

/// A running server, which ends with this value or with this process. Its methods fail the test instead of returning an
/// error.
pub(crate) struct Cluster(postgres::Cluster);

/// The server that the tests of this process share.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Deref for Cluster {
    type Target = postgres::Cluster;

    fn deref(&self) -> &postgres::Cluster {
        &self.0
    }
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self(postgres::Cluster::start().unwrap())
    }

    pub(crate) fn with_tcp() -> Self {
        Self(postgres::Cluster::with_tcp().unwrap())
    }

    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        Self(postgres::Cluster::with_tls(certificate, key).unwrap())
    }

    pub(crate) fn standby(&self) -> Self {
        Self(self.0.standby().unwrap())
    }

    pub(crate) fn port(&self) -> u16 {
        self.0.port().unwrap()
    }

    /// An empty database that no other test uses.
    pub(crate) fn database(&self) -> PostgresSettings {
        settings(self.url(&self.new_database().unwrap()))
    }

    /// As [`Self::database`], for servers that follow the database to a standby.
    pub(crate) fn database_with(&self, standby: &Self) -> PostgresSettings {
        settings(self.url_with(standby, &self.new_database().unwrap()))
    }

    pub(crate) fn run_sql(&self, database: &PostgresSettings, sql: &str) {
        self.0.run_sql(&database.url, sql).unwrap();
    }

    pub(crate) fn query(&self, database: &PostgresSettings, sql: &str) -> Vec<String> {
        self.0.query(&database.url, sql).unwrap()
    }

    pub(crate) fn hold(&self, database: &PostgresSettings, sql: &str) -> Held {
        self.0.hold(&database.url, sql).unwrap()
    }

    /// A new file that the server's user may write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.file(name)
    }

    /// Dumps a database, as `docs/operations.md` says.
    pub(crate) fn dump(&self, database: &PostgresSettings, file: &Path) {
        let file = file.to_str().unwrap();
        self.0.run("pg_dump", &["--format=custom", "--file", file, &database.url]).unwrap();
    }

    /// Restores a dump into an empty database, as `docs/operations.md` says.
    pub(crate) fn restore(&self, file: &Path, database: &PostgresSettings) {
        let file = file.to_str().unwrap();
        let options = ["--exit-on-error", "--single-transaction", "--no-owner", "--dbname"];
        self.0.run("pg_restore", &[&options[..], &[&database.url, file]].concat()).unwrap();
    }

    pub(crate) fn stop(&self) {
        self.0.stop().unwrap();
    }

    pub(crate) fn crash(&self) {
        self.0.crash().unwrap();
    }

    pub(crate) fn start_again(&self) {
        self.0.start_again().unwrap();
    }

    pub(crate) fn promote(&self) {
        self.0.promote().unwrap();
    }

    pub(crate) fn pause(&self) -> Paused {
        self.0.pause().unwrap()
    }
}

fn settings(url: String) -> PostgresSettings {
    PostgresSettings { url, authorities: None, connections: 16 }
}
