//! The port of the server: plain text on loopback, TLS with certificates of clients elsewhere.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::tls::Tls;
use super::{CertifiedNames, DeltaService, Shared};

/// The longest time of a handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The most handshakes at once.
const HANDSHAKES: usize = 512;

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
    Tls(#[from] super::tls::TlsError),
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
    pub async fn serve(self, shared: Arc<Shared>, mut stopping: watch::Receiver<bool>) {
        let age = shared.limits.stream_age;
        let (sender, connections) = mpsc::channel(64);
        let accepting = tokio::spawn(accept(self.listener, self.tls, sender));
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .http2_max_header_list_size(16 << 10)
            // Envoy has one stream; a second one while the first ends.
            .max_concurrent_streams(8)
            // The connection closes when its streams end, so that the next one may go to another replica.
            .max_connection_age(age.mul_f64(0.9))
            .add_service(DeltaService::new(shared))
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), async move {
                // An error means that the server was dropped, which is a stop too.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            })
            .await;
        accepting.abort();
        if let Err(error) = served {
            tracing::error!(%error, "the xDS server ended");
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    let tls = tls.map(Arc::new);
    loop {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Usually no file descriptor is left.
                tracing::warn!(%error, "an xDS connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            let connection = tokio::time::timeout(HANDSHAKE, establish(stream, tls)).await;
            drop(permit);
            match connection {
                Ok(Ok(connection)) => drop(connections.send(Ok(connection)).await),
                Ok(Err(error)) => tracing::debug!(%error, "a handshake of xDS failed"),
                Err(_) => tracing::debug!("a handshake of xDS took too long"),
            }
        });
    }
}

async fn establish(stream: TcpStream, tls: Option<Arc<Tls>>) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let names = CertifiedNames(Arc::new(|_: &str| false));
        return Ok(Connection { stream: Box::pin(stream), names });
    };
    let (stream, names) = tls.accept(stream).await?;
    Ok(Connection { stream: Box::pin(stream), names })
}

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// A connection after its handshake.
struct Connection {
    stream: Pin<Box<dyn Stream>>,
    names: CertifiedNames,
}

impl Connected for Connection {
    type ConnectInfo = CertifiedNames;

    fn connect_info(&self) -> CertifiedNames {
        self.names.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}
