//! A listener for HTTP/1.1 and HTTP/2, in plain text or over TLS. It limits the number of connections and the time for request heads,
//! and lets requests finish when it shuts down.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use sandgate_xds::tls::ServerTls;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

use super::connection_limit::{Connection, ConnectionLimit};
use super::guarded_body::GuardedBody;

/// The maximum time from the start of a connection to its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum time from the start of a connection to the end of its first request head.
const FIRST_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum time of a later connection without a complete request head. It also closes idle connections, so it
/// is longer than proxies keep a connection between two requests of a busy client.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum number of streams of one HTTP/2 connection. Envoy sends all its lookups and polls over few
/// connections.
const MAX_STREAMS: u32 = 2_048;
/// The maximum number of bytes of all headers of one request.
const MAX_HEADERS: u32 = 64 * 1_024;
/// An HTTP/2 connection that receives nothing for this long gets a PING, and is closed if it does not answer. A dead
/// gateway must not count as a live watcher.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// The default time for requests to finish after a shutdown began.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    drain_timeout: Duration,
    connections: ConnectionLimit,
    tls: Option<Arc<ServerTls>>,
}

/// The reason why a listener can't be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program uses the port.
    #[error(
        "{option} {address}: the port is in use; stop the program that listens there, or choose another port with {option}"
    )]
    InUse {
        option: &'static str,
        /// Its value.
        address: SocketAddr,
    },
    /// The bind failed for another reason.
    #[error(
        "{option} {address}: the address can't be used ({source}); choose another one with {option}"
    )]
    Other {
        option: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
}

impl Listener {
    /// The default number of connections.
    pub const MAX_CONNECTIONS: usize = 1_024;

    /// Binds `address`, the value of `option` of the command line.
    ///
    /// # Errors
    /// [`ListenError`] names the option and the address, and says what to do.
    pub async fn bind(option: &'static str, address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { option, address },
            _ => ListenError::Other { option, address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let connections = ConnectionLimit::new(Self::MAX_CONNECTIONS);
        Ok(Self { socket, address, drain_timeout: DRAIN_TIMEOUT, connections, tls: None })
    }

    /// Sets the maximum time for requests to finish after a shutdown began.
    #[must_use]
    pub fn drain_timeout(self, drain_timeout: Duration) -> Self {
        Self { drain_timeout, ..self }
    }

    /// Sets the maximum number of connections. A further connection closes the one that has been idle for the longest
    /// time; if none is idle, it waits.
    #[must_use]
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.connections = ConnectionLimit::new(connections);
        self
    }

    /// Serves over TLS only, unless `tls` is `None`.
    #[must_use]
    pub fn tls(self, tls: Option<ServerTls>) -> Self {
        Self { tls: tls.map(Arc::new), ..self }
    }

    /// The URL of the local address.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Whether clients need no TLS.
    #[must_use]
    pub fn is_plain_text(&self) -> bool {
        self.tls.is_none()
    }

    /// The local address. It has the actual port if the option had port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stopped` completes and the requests in flight have finished.
    pub async fn serve(self, router: Router, stopped: impl Future<Output = ()>) {
        let mut stopped = std::pin::pin!(stopped);
        let graceful = GracefulShutdown::new();
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => break,
                accepted = self.accept() => accepted,
            };
            if let Some((stream, connection)) = accepted {
                let (router, watcher) = (router.clone(), graceful.watcher());
                let tls = self.tls.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = serve_connection(stream, tls, router, watcher, &connection) => {}
                        () = connection.close_requested() => {}
                        () = first_head_timeout(&connection) => {}
                    }
                    connection.release();
                });
            }
        }
        drop(self.socket);
        if tokio::time::timeout(self.drain_timeout, graceful.shutdown()).await.is_err() {
            tracing::warn!(address = %self.address, "the shutdown aborted requests that did not finish in time");
        }
    }

    async fn accept(&self) -> Option<(TcpStream, Arc<Connection>)> {
        match self.socket.accept().await {
            Ok((stream, _)) => Some((stream, self.connections.admit().await?)),
            Err(error) => {
                tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                // The usual cause is a lack of file descriptors. Without a pause, this loop would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Completes if the connection has no request in time.
async fn first_head_timeout(connection: &Connection) {
    tokio::time::sleep(FIRST_HEAD_TIMEOUT).await;
    if connection.has_had_request() {
        std::future::pending().await
    }
}

/// Serves one connection until it is closed. A client that violates the protocol or disconnects is not an error.
async fn serve_connection(
    stream: TcpStream,
    tls: Option<Arc<ServerTls>>,
    router: Router,
    watcher: Watcher,
    connection: &Arc<Connection>,
) {
    // Responses are small, and clients wait for them. A failure only delays them by milliseconds.
    let _ = stream.set_nodelay(true);
    // `auto` reads the first bytes to tell HTTP/1.1 from HTTP/2, and has no timeout for them.
    if !matches!(timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut [0])).await, Ok(Ok(1))) {
        return;
    }
    let Some(tls) = tls else {
        return serve_http(stream, router, watcher, connection).await;
    };
    match timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => serve_http(stream, router, watcher, connection).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

async fn serve_http(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    router: Router,
    watcher: Watcher,
    connection: &Arc<Connection>,
) {
    let connection = Arc::clone(connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (router, guard) = (router.clone(), connection.begin_request());
        request.extensions_mut().insert(Arc::clone(&connection));
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(response.map(|body| GuardedBody::new(body, guard)))
        }
    });
    let builder = builder();
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(served).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
