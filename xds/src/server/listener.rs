//! The port of the server: plain text on loopback, TLS with certificates of clients elsewhere.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::admission::Connections;
use super::connection::Connection;
use super::tls::Tls;
use super::{DeltaService, Shared};

/// The port, bound but not served yet.
pub struct Port {
    listener: TcpListener,
    tls: Option<Tls>,
}

/// The port can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    #[error("{address} can't be bound: {source}")]
    Bind { address: SocketAddr, source: io::Error },
    #[error(
        "{0} is not a loopback address, and xDS carries secrets: name a folder with `tls.crt`, `tls.key` and `ca.crt`"
    )]
    PlainText(SocketAddr),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
}

impl Port {
    /// Binds an address. `tls` is a folder with the server's `tls.crt` and `tls.key`, and `ca.crt`, the issuers of the nodes'
    /// certificates.
    ///
    /// # Errors
    ///
    /// If the address can't be bound, the files are not valid, or the address needs TLS and has none.
    pub async fn bind(address: SocketAddr, tls: Option<PathBuf>) -> Result<Self, PortError> {
        if tls.is_none() && !address.ip().is_loopback() {
            return Err(PortError::PlainText(address));
        }
        let tls = tls.map(Tls::load).transpose()?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.map_err(|source| PortError::Bind { address, source })?;
        Ok(Self { listener, tls })
    }

    /// The address, with the port that the system chose.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Whether nodes need certificates.
    #[must_use]
    pub fn needs_certificate(&self) -> bool {
        self.tls.is_some()
    }

    /// Serves until `stopping` is true.
    pub async fn serve(self, shared: Arc<Shared>, stopping: watch::Receiver<bool>) {
        let limits = shared.limits;
        let age = limits.stream_age;
        let (sender, connections) = mpsc::channel(64);
        let accepting = tokio::spawn(accept(self.listener, self.tls, Arc::clone(&shared), sender));
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 << 10)
            // Envoy has one stream; a second one while the first ends.
            .max_concurrent_streams(8)
            // The connection closes when its streams end, so that the next one may go to another replica.
            .max_connection_age(age.mul_f64(0.9))
            // A client that does not read keeps a stream from ending.
            .max_connection_age_grace(age)
            .add_service(DeltaService::new(shared))
            .serve_with_incoming_shutdown(
                ReceiverStream::new(connections),
                until_stop(stopping.clone()),
            );
        // The server waits for all connections, and a client can keep one open by not reading from it.
        let overdue = async {
            until_stop(stopping).await;
            tokio::time::sleep(limits.stop).await;
        };
        tokio::select! {
            served = served => if let Err(error) = served {
                tracing::error!(%error, "the xDS server ended");
            },
            () = overdue => tracing::warn!("some xDS connections did not end in time"),
        }
        accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    shared: Arc<Shared>,
    established: mpsc::Sender<io::Result<Connection>>,
) {
    let limits = shared.limits;
    let connections = Connections::new(limits.connections);
    let tls = tls.map(Arc::new);
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Usually no file descriptor is left.
                tracing::warn!(%error, "an xDS connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(place) = connections.admit(address.ip()) else {
            shared.nodes.count_refused_connection();
            continue;
        };
        let (tls, established) = (tls.clone(), established.clone());
        tokio::spawn(async move {
            let connection = Connection::establish(stream, tls, place, limits.idle);
            match tokio::time::timeout(limits.handshake, connection).await {
                Ok(Ok(connection)) => drop(established.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(%error, "a handshake of xDS failed"),
                Err(_) => tracing::debug!("a handshake of xDS took too long"),
            }
        });
    }
}

async fn until_stop(mut stopping: watch::Receiver<bool>) {
    // An error means that the server was dropped, which is a stop too.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
