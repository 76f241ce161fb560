//! Servers of a single test in the rig's internet, for behaviour that ordinary servers don't have.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;

use crate::rig::Rig;

/// A server that listens until it is dropped.
pub struct CustomServer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Rig {
    /// Serves each connection on its own thread. An error of the handler closes the connection.
    pub fn serve(
        &self,
        address: IpAddr,
        handler: impl Fn(TcpStream) -> Result<()> + Send + Sync + 'static,
    ) -> Result<CustomServer> {
        let listener = self.internet.enter(|| TcpListener::bind((address, 0)))??;
        let address = listener.local_addr()?;
        listener.set_nonblocking(true)?;
        let (accepted, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (count, stopped) = (Arc::clone(&accepted), Arc::clone(&stop));
        let handler = Arc::new(handler);
        std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                };
                count.fetch_add(1, Ordering::Relaxed);
                let handler = Arc::clone(&handler);
                std::thread::spawn(move || {
                    if stream.set_nonblocking(false).is_ok() {
                        drop(handler(stream));
                    }
                });
            }
        });
        Ok(CustomServer { address, accepted, stop })
    }
}

impl CustomServer {
    /// The address that it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The number of accepted connections.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for CustomServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Reads the head of an HTTP message. Returns it with the bytes after it, or `None` at the end of the connection.
pub fn head(stream: &mut TcpStream) -> Result<Option<(String, Vec<u8>)>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok(Some((String::from_utf8_lossy(&bytes).into_owned(), rest)));
        }
        let mut more = [0; 16_384];
        let length = stream.read(&mut more)?;
        if length == 0 {
            return Ok(None);
        }
        bytes.extend(more.get(..length).unwrap_or_default());
    }
}
