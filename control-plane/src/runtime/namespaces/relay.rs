//! The way from a gateway to the gateway API: a listener on loopback of the gateway's namespace, whose connections this
//! process continues to the gateway API. So the gateway has no route to the API, and the API needs no further address.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// The port in the gateway's namespace.
pub(super) const PORT: u16 = 8_901;
/// The most connections at once. A sidecar needs one, and another one when it renews it.
const CONNECTIONS: usize = 8;

/// Opens the listener. Call it in the gateway's namespace.
pub(super) fn listen() -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Continues connections to `control_plane`. Ends when it is dropped.
pub(super) async fn serve(listener: tokio::net::TcpListener, control_plane: SocketAddr) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((mut from, _)) => {
                connections.spawn(async move {
                    let _permit = permit;
                    // An error means that one end is gone, and the other one is closed too.
                    if let Ok(mut to) = TcpStream::connect(control_plane).await {
                        drop(copy_bidirectional(&mut from, &mut to).await);
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection of a sidecar can't be accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
