//! Clients that open connections at a constant rate, independent of their outcome.

use std::io::{Error, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

use crate::netns::Namespace;

/// A running load. Dropping it stops the clients.
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Result<Vec<Attempt>>>>,
}

/// A connection with one HTTP request.
#[derive(Debug)]
pub struct Attempt {
    /// The start time.
    pub begun: Instant,
    pub time: Duration,
    /// The status of the response, or the error. A connection that ends without data is an
    /// [`std::io::ErrorKind::UnexpectedEof`].
    pub outcome: Result<u16, Error>,
    /// The client's port, with which a test finds the connection in a capture or a log.
    pub port: u16,
}

/// The timeout of a connection.
const PATIENCE: Duration = Duration::from_secs(20);

impl Load {
    /// Opens up to `rate` connections a second from `clients` threads in a namespace.
    #[must_use]
    pub fn start(from: &Namespace, to: (Ipv4Addr, u16), rate: u32, clients: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_secs(1) * clients / rate;
        let client = |at: u32| {
            let (from, stop) = (from.clone(), Arc::clone(&stop));
            let request = format!("GET / HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", to.0);
            std::thread::spawn(move || {
                from.join()?;
                let mut attempts = Vec::new();
                let mut due = Instant::now() + pause * at / clients;
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    due += pause;
                    attempts.push(attempt(to, request.as_bytes()));
                }
                Ok(attempts)
            })
        };
        Self { stop: Arc::clone(&stop), clients: (0..clients).map(client).collect() }
    }

    /// Stops the load, and returns all attempts.
    pub fn stop(mut self) -> Result<Vec<Attempt>> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in self.clients.drain(..) {
            all.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
        }
        Ok(all)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn attempt(to: (Ipv4Addr, u16), request: &[u8]) -> Attempt {
    let begun = Instant::now();
    let mut port = 0;
    let outcome =
        TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE).and_then(|mut stream| {
            port = stream.local_addr()?.port();
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(request)?;
            // `HTTP/1.1 200`
            let mut answer = [0; 12];
            stream.read_exact(&mut answer)?;
            let text = String::from_utf8_lossy(&answer);
            text.rsplit(' ')
                .next()
                .and_then(|status| status.parse().ok())
                .ok_or_else(|| Error::other(format!("`{text}` is no answer by HTTP")))
        });
    Attempt { begun, time: begun.elapsed(), outcome, port }
}
