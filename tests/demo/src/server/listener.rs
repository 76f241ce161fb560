//! Accepts and numbers connections, so that a test can detect whether a gateway reused one.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};

/// Larger than the limits of any gateway, so that only the gateway refuses a request because of its
/// size.
const MAX_HEADERS: usize = 4096;
const MAX_HTTP1_HEAD_BYTES: usize = 1 << 20;
const MAX_HTTP2_HEADER_BYTES: u32 = 1 << 20;

/// The facts of an accepted connection that responses contain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// Numbered from 1, over all four ports.
    pub(super) number: u64,
    pub(super) peer: SocketAddr,
}

/// The connection counter of the four listeners.
#[derive(Clone, Debug, Default)]
pub(super) struct Connections(Arc<AtomicU64>);

/// An open port.
#[derive(Debug)]
pub(super) struct Listener {
    listener: TcpListener,
    address: SocketAddr,
    connections: Connections,
}

impl Listener {
    pub(super) async fn bind(
        address: SocketAddr,
        connections: Connections,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, connections })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves every request with `respond`, without end. An error of `respond` closes the
    /// connection (HTTP/1.1) or resets the stream (HTTP/2) without a response.
    pub(super) async fn serve_http<R, F, B, E>(self, respond: R)
    where
        R: Fn(Request<Incoming>, Connection) -> F + Clone + Send + 'static,
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        loop {
            let (stream, connection) = self.accept().await;
            let respond = respond.clone();
            let service = service_fn(move |request| respond(request, connection));
            tokio::spawn(async move {
                let mut builder = auto::Builder::new(TokioExecutor::new());
                builder.http1().max_headers(MAX_HEADERS).max_buf_size(MAX_HTTP1_HEAD_BYTES);
                builder.http2().max_header_list_size(MAX_HTTP2_HEADER_BYTES);
                // The result is ignored: a connection ends with an error if its client disconnects,
                // or if the client requests it (`/close`).
                let _: Result<_, _> =
                    builder.serve_connection_with_upgrades(TokioIo::new(stream), service).await;
            });
        }
    }

    async fn accept(&self) -> (TcpStream, Connection) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Sends small writes (an event, an echoed frame) without delay. This fails only
                    // if the connection is already closed.
                    let _: std::io::Result<()> = stream.set_nodelay(true);
                    let number = self.connections.0.fetch_add(1, Ordering::Relaxed) + 1;
                    return (stream, Connection { number, peer });
                }
                Err(error) => {
                    eprintln!("cannot accept a connection on {}: {error}", self.address);
                    // Usually the process has no file descriptor left. Waits until some are closed.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
