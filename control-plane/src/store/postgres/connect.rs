//! Connections to PostgreSQL: address, TLS, and the bounds on time of each connection.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::{Hook, HookError, Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::store::{Result, StoreError};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for a connection of the pool.
const POOL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time after which a connection counts as lost if the database does not acknowledge what was sent.
const ACKNOWLEDGE_TIMEOUT: Duration = Duration::from_secs(10);
/// The time without traffic after which the operating system checks a connection.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// The database ends a transaction whose process has stalled, because the transaction may keep all other writers
/// waiting. A database that may lose acknowledged changes in a crash (`synchronous_commit = off`) is made durable.
pub(super) const SESSION: &str = "SET statement_timeout = '20s'; SET lock_timeout = '15s';
    SET idle_in_transaction_session_timeout = '5s'; SET client_min_messages = 'warning';
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') = 'off'";

/// How to reach a database.
#[derive(Clone)]
pub struct PostgresSettings {
    /// A connection string: a URL (`postgres://…`) or pairs (`host=… user=…`). It may contain a password.
    pub url: String,
    /// The certificates of authorities that sign the database's certificate; the system's if it is missing.
    pub authorities: Option<PathBuf>,
    /// The most connections of this process, without seven that queries can't use.
    pub connections: usize,
}

/// Opens connections. Clones share the settings.
#[derive(Clone)]
pub(super) struct Connector {
    config: Config,
    tls: MakeRustlsConnect,
}

impl Connector {
    pub(super) fn new(settings: &PostgresSettings) -> Result<Self> {
        let mut config = Config::from_str(&settings.url)?;
        if config.get_application_name().is_none() {
            config.application_name("sandgate");
        }
        if config.get_ssl_mode() == SslMode::Prefer && has_remote_host(&config) {
            // `prefer` sends everything in plain text if somebody on the way answers that there is no TLS.
            config.ssl_mode(SslMode::Require);
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(ACKNOWLEDGE_TIMEOUT)
            .keepalives_idle(KEEPALIVE_IDLE)
            // A standby can't be written.
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        Ok(Self { config, tls: MakeRustlsConnect::new(tls(settings)?) })
    }

    pub(super) fn pool(&self, connections: usize) -> Result<Pool> {
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(self.config.clone(), self.tls.clone(), recycling);
        Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(POOL_TIMEOUT))
            .create_timeout(Some(POOL_TIMEOUT))
            .post_create(Hook::async_fn(|client, _| {
                Box::pin(
                    async move { client.batch_execute(SESSION).await.map_err(HookError::Backend) },
                )
            }))
            .build()
            .map_err(|error| StoreError::Unavailable(Box::new(error)))
    }

    /// A connection apart from the pool.
    pub(super) async fn connect(
        &self,
    ) -> Result<
        (Client, Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>),
        tokio_postgres::Error,
    > {
        self.config.connect(self.tls.clone()).await
    }
}

fn has_remote_host(config: &Config) -> bool {
    let is_local = |host: &Host| match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
        }
        Host::Unix(_) => true,
    };
    let hosts = config.get_hosts();
    let addresses = config.get_hostaddrs();
    !hosts.iter().all(is_local) || !addresses.iter().all(IpAddr::is_loopback)
}

/// TLS always verifies the chain and the name of the certificate, whatever `sslmode` says.
fn tls(settings: &PostgresSettings) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &settings.authorities {
        Some(file) => {
            let unreadable = |error| StoreError::Unavailable(Box::new(error) as Box<_>);
            for certificate in CertificateDer::pem_file_iter(file).map_err(unreadable)? {
                let added = roots.add(certificate.map_err(unreadable)?);
                added.map_err(|error| StoreError::Unavailable(Box::new(error)))?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Unavailable(Box::new(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(url: &str) -> SslMode {
        let settings = PostgresSettings { url: url.to_owned(), authorities: None, connections: 1 };
        Connector::new(&settings).unwrap().config.get_ssl_mode()
    }

    #[test]
    fn a_remote_database_is_reached_by_tls_unless_the_operator_says_otherwise() {
        assert_eq!(mode("postgres://u@db.example/s"), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost,db.example/s"), SslMode::Require);
        assert_eq!(mode("postgres://u@localhost/s?hostaddr=192.0.2.1"), SslMode::Require);
        assert_eq!(mode("postgres://u@db.example/s?sslmode=disable"), SslMode::Disable);
        assert_eq!(mode("postgres://u@127.0.0.1/s"), SslMode::Prefer);
        assert_eq!(mode("postgres://u@%2Frun%2Fpostgresql/s"), SslMode::Prefer);
    }

    #[test]
    fn an_error_of_the_connection_string_does_not_show_the_password() {
        for url in [
            "postgres://u:hunter2@h:port/s",
            "host=h port=x password=hunter2",
            "postgres://u:hunter2@h/?unknown=1",
        ] {
            let settings =
                PostgresSettings { url: url.to_owned(), authorities: None, connections: 1 };
            let error = Connector::new(&settings).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
        }
    }
}
