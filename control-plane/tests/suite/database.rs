//! PostgreSQL as the database of the store: TLS, passwords, and tables of another version.

use sandgate::store::{PostgresSettings, PostgresStore, StoreError};

use super::postgres::{Cluster, shared};

/// Why a store can't be opened, with all causes.
fn refusal(settings: &PostgresSettings) -> String {
    let error = PostgresStore::open(settings).err().expect("the database is refused");
    format!("{error} {error:?}")
}

#[test]
fn a_certificate_must_be_of_a_known_authority_and_for_the_name_of_the_host() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let authority = dir.path().join("authority.pem");
    std::fs::write(&authority, certificate.cert.pem()).unwrap();
    let cluster =
        Cluster::with_tls(&certificate.cert.pem(), &certificate.signing_key.serialize_pem());
    let port = cluster.port();
    let of_host = |host: &str, trusts_authority: bool| PostgresSettings {
        url: format!(
            "host={host} hostaddr=127.0.0.1 port={port} user=sandgate dbname=postgres sslmode=require"
        ),
        authorities: trusts_authority.then(|| authority.clone()),
        connections: 2,
    };
    PostgresStore::open(&of_host("localhost", true)).unwrap();
    let errors = refusal(&of_host("localhost", false));
    assert!(errors.contains("certificate"), "{errors}");
    let errors = refusal(&of_host("db.example", true));
    assert!(errors.contains("certificate"), "{errors}");
}

#[test]
fn a_remote_database_without_tls_is_refused() {
    let cluster = Cluster::with_tcp();
    let settings = |options: &str| PostgresSettings {
        url: format!(
            "host=db.example hostaddr=127.0.0.1 port={} user=sandgate dbname=postgres {options}",
            cluster.port()
        ),
        authorities: None,
        connections: 2,
    };
    let errors = refusal(&settings(""));
    assert!(errors.contains("TLS"), "{errors}");
    PostgresStore::open(&settings("sslmode=disable")).unwrap();
}

#[test]
fn a_password_is_in_no_error() {
    let settings = PostgresSettings {
        url: "postgres://u:hunter2@127.0.0.1:1/none?sslmode=disable".to_owned(),
        authorities: None,
        connections: 1,
    };
    let errors = refusal(&settings);
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn tables_of_a_newer_version_are_refused() {
    let settings = shared().database();
    drop(PostgresStore::open(&settings).unwrap());
    shared().run_sql(
        &settings,
        "INSERT INTO refinery_schema_history SELECT 99, 'later', applied_on, checksum \
         FROM refinery_schema_history WHERE version = 1",
    );
    let error = PostgresStore::open(&settings).err().unwrap();
    assert!(matches!(error, StoreError::Newer { found: 99, known: 4 }), "{error}");
}

#[test]
fn a_process_whose_clock_differs_from_the_databases_does_not_use_the_store() {
    use sandgate::store::{ChangeLog as _, Principals as _};

    let settings = shared().database();
    let name = settings.url.rsplit('/').next().unwrap();
    let set_ahead = |by: &str| {
        let function = format!(
            "CREATE OR REPLACE FUNCTION shifted.clock_timestamp() RETURNS timestamptz LANGUAGE sql \
             AS $$ SELECT pg_catalog.clock_timestamp() + interval '{by}' $$"
        );
        shared().run_sql(&settings, &function);
    };
    shared().run_sql(&settings, "CREATE SCHEMA shifted");
    let path = format!("ALTER DATABASE {name} SET search_path = shifted, public, pg_catalog");
    shared().run_sql(&settings, &path);
    set_ahead("-1 minute");
    let errors = refusal(&settings);
    assert!(errors.contains("clock"), "{errors}");
    set_ahead("2 s");
    let store = PostgresStore::open(&settings).unwrap();
    store.poll_revision().unwrap();
    store.projects().unwrap();
    set_ahead("90 days");
    store.poll_revision().unwrap_err();
    store.projects().unwrap_err();
    store.create_organization("org_1", "acme", super::contract::by(1)).unwrap_err();
    set_ahead("0");
    store.poll_revision().unwrap();
    store.projects().unwrap();
}

#[test]
fn several_processes_create_the_tables_at_once() {
    let settings = shared().database();
    let epochs: Vec<_> = std::thread::scope(|scope| {
        let open = || {
            let store = PostgresStore::open(&settings).unwrap();
            sandgate::store::ChangeLog::epoch(&store).to_owned()
        };
        let starts: Vec<_> = (0..4).map(|_| scope.spawn(open)).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{epochs:?}");
}

/// The attack on the fleet: an upgrade during a dump, which reads all tables for hours. All queries on a table wait behind a migration
/// that waits for the dump.
#[test]
fn a_migration_that_waits_for_a_dump_lets_the_other_servers_work() {
    let (cluster, settings) = (shared(), shared().database());
    drop(PostgresStore::open(&settings).unwrap());
    cluster.run_sql(
        &settings,
        "DROP TABLE sandbox_events; ALTER TABLE sandboxes DROP COLUMN events; \
         DELETE FROM refinery_schema_history WHERE version >= 4",
    );
    let dump = cluster.hold(&settings, "LOCK TABLE sandboxes IN ACCESS SHARE MODE");
    std::thread::scope(|scope| {
        let start = scope.spawn(|| PostgresStore::open(&settings).map(drop));
        let waits =
            "SELECT count(*) FROM pg_locks WHERE relation = 'sandboxes'::regclass AND NOT granted";
        while cluster.query(&settings, waits)[0] == "0" {
            assert!(!start.is_finished(), "the migration did not wait for the dump");
        }
        // A lookup of another server.
        cluster.run_sql(&settings, "SET statement_timeout = '8s'; SELECT count(*) FROM sandboxes");
        drop(dump);
        start.join().unwrap().unwrap();
    });
}
