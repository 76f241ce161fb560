//! HTTP/2 over plain TCP (prior knowledge). The test controls all flow-control windows and the end of each stream.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use http::Request;

use crate::custom_server::CustomServer;
use crate::netns::Namespace;
use crate::rig::Rig;

impl Rig {
    /// Serves HTTP/2. Calls of `handler` run concurrently.
    pub fn serve_h2c<F, R>(&self, address: std::net::IpAddr, handler: F) -> Result<CustomServer>
    where
        F: Fn(Request<h2::RecvStream>, SendResponse<Bytes>) -> R + Send + Sync + 'static,
        R: Future<Output = Result<()>> + 'static,
    {
        let handler = Arc::new(handler);
        self.serve(address, move |stream| {
            let handler = Arc::clone(&handler);
            run(async move {
                let mut server = h2::server::Builder::new();
                server.initial_window_size(1 << 20).initial_connection_window_size(1 << 24);
                let mut connection = server.handshake(nonblocking(stream)?).await?;
                while let Some(accepted) = connection.accept().await {
                    let (request, respond) = accepted?;
                    let handler = Arc::clone(&handler);
                    tokio::task::spawn_local(async move { handler(request, respond).await });
                }
                Ok(())
            })
        })
    }
}

/// Opens a connection from a namespace. A task in the caller's [`run`] drives it.
pub async fn connect(
    from: &Namespace,
    to: SocketAddr,
    client: &h2::client::Builder,
) -> Result<SendRequest<Bytes>> {
    let stream = from.enter(|| TcpStream::connect(to))??;
    stream.set_nodelay(true)?;
    let (send, connection) = client.handshake(nonblocking(stream)?).await?;
    tokio::task::spawn_local(async move { drop(connection.await) });
    send.ready().await.context("the connection ends at once")
}

/// Runs a future on this thread, with its own runtime.
pub fn run<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, work)
}

fn nonblocking(stream: TcpStream) -> Result<tokio::net::TcpStream> {
    stream.set_nonblocking(true)?;
    Ok(tokio::net::TcpStream::from_std(stream)?)
}
