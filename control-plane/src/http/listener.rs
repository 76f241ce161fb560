//! A listener for HTTP/1.1 and HTTP/2 without TLS: bounded connections, of which idle ones make room,
//! bounded header time, and a shutdown that lets requests finish.

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
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tower::ServiceExt;

use super::held::Held;
use super::places::{Connection, Places};

/// How long a new connection may be silent.
const FIRST_BYTE_WITHIN: Duration = Duration::from_secs(5);
/// How long a new connection may be without its first request's complete head.
const FIRST_HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long an old connection may be without a complete request head. It also ends idle ones, so it is
/// longer than proxies keep theirs between two requests of a busy client.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
/// Streams of one HTTP/2 connection: Envoy sends all its lookups and polls over few connections.
const MAX_STREAMS: u32 = 2_048;
/// Bytes of all headers of one request.
const MAX_HEADERS: u32 = 64 * 1_024;
/// An HTTP/2 connection whose peer is silent for so long is asked whether it lives, and closed if it
/// does not answer: a dead gateway must not count as a live watcher.
const PING_EVERY: Duration = Duration::from_secs(5);
const PING_WITHIN: Duration = Duration::from_secs(5);
/// How long requests may go on after a shutdown began, unless the operator says otherwise.
const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound port.
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    drain_within: Duration,
    places: Places,
}

/// A port can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another program does.
    #[error(
        "{option} {address}: the port is in use; stop the program that listens there, or choose another port with {option}"
    )]
    InUse {
        /// The command line option.
        option: &'static str,
        /// What it says.
        address: SocketAddr,
    },
    /// For another reason.
    #[error(
        "{option} {address}: can't listen there ({source}); choose another address with {option}"
    )]
    Other {
        /// The command line option.
        option: &'static str,
        /// What it says.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}

impl Listener {
    /// Connections at once, unless the operator says otherwise. A further one takes the place of the
    /// one that has been idle for longest; where none is, it waits.
    pub const CONNECTIONS: usize = 1_024;

    /// Binds `address`, which `option` of the command line gave.
    ///
    /// # Errors
    /// [`ListenError`] names the option, the address and what to do.
    pub async fn bind(option: &'static str, address: SocketAddr) -> Result<Self, ListenError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => ListenError::InUse { option, address },
            _ => ListenError::Other { option, address, source },
        };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        let places = Places::new(Self::CONNECTIONS);
        Ok(Self { socket, address, drain_within: DRAIN_WITHIN, places })
    }

    /// Lets requests go on for as long after a shutdown began.
    #[must_use]
    pub fn draining_within(self, drain_within: Duration) -> Self {
        Self { drain_within, ..self }
    }

    /// Has at most so many connections at once.
    #[must_use]
    pub fn at_most(mut self, connections: usize) -> Self {
        self.places = Places::new(connections);
        self
    }

    /// Where it listens; the real port if 0 was asked for.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `router` until `stopped` is done, and then until its requests are.
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
                tokio::spawn(async move {
                    tokio::select! {
                        () = converse(stream, router, watcher, &connection) => {}
                        () = connection.told_to_close() => {}
                        () = never_asks(&connection) => {}
                    }
                    connection.end();
                });
            }
        }
        drop(self.socket);
        if tokio::time::timeout(self.drain_within, graceful.shutdown()).await.is_err() {
            tracing::warn!(address = %self.address, "requests were cut off by the shutdown");
        }
    }

    async fn accept(&self) -> Option<(TcpStream, Arc<Connection>)> {
        match self.socket.accept().await {
            Ok((stream, _)) => Some((stream, self.places.connection().await?)),
            Err(error) => {
                tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                // Out of file descriptors, mostly: without a pause this would spin.
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Ends when a connection has not asked for anything in time.
async fn never_asks(connection: &Connection) {
    tokio::time::sleep(FIRST_HEAD_WITHIN).await;
    if connection.has_asked() {
        std::future::pending().await
    }
}

/// Serves one connection to its end. A client that breaks the protocol or goes away is no error.
async fn converse(
    stream: TcpStream,
    router: Router,
    watcher: Watcher,
    connection: &Arc<Connection>,
) {
    // Answers are small and waited for; a failure costs milliseconds, no more.
    let _ = stream.set_nodelay(true);
    // Whether it speaks HTTP/1.1 or 2 shows in its first bytes, which must come.
    if !matches!(timeout(FIRST_BYTE_WITHIN, stream.peek(&mut [0])).await, Ok(Ok(1))) {
        return;
    }
    let connection = Arc::clone(connection);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let (router, busy) = (router.clone(), connection.request());
        request.extensions_mut().insert(Arc::clone(&connection));
        async move {
            let response = router.oneshot(request.map(Body::new)).await?;
            Ok::<_, Infallible>(response.map(|body| Held::new(body, busy)))
        }
    });
    let builder = builder();
    let served = builder.serve_connection(TokioIo::new(stream), service);
    let _ = watcher.watch(served).await;
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_WITHIN);
    builder
}
