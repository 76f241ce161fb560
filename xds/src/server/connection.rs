//! A connection after its handshake.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

use super::CertifiedNames;
use super::admission::Place;
use super::tls::Tls;

trait Stream: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Stream for T {}

/// What the service knows of the connection of a call.
#[derive(Clone)]
pub(super) struct Client {
    pub(super) names: CertifiedNames,
    pub(super) place: Arc<Place>,
}

/// A connection, which ends if it has no stream for a time.
pub(super) struct Connection {
    stream: Pin<Box<dyn Stream>>,
    client: Client,
    idle: Duration,
    next_check: Pin<Box<Sleep>>,
}

impl Connection {
    /// Performs the handshake.
    pub(super) async fn establish(
        stream: TcpStream,
        tls: Option<Arc<Tls>>,
        place: Arc<Place>,
        idle: Duration,
    ) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (stream, names): (Pin<Box<dyn Stream>>, _) = match tls {
            None => (Box::pin(stream), CertifiedNames(Arc::new(|_: &str| false))),
            Some(tls) => {
                let (stream, names) = tls.accept(stream).await?;
                (Box::pin(stream), names)
            }
        };
        let client = Client { names, place };
        Ok(Self { stream, client, idle, next_check: Box::pin(sleep(idle)) })
    }

    /// Fails if the connection has no stream when it is time to check.
    fn check_idle(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.next_check.as_mut().poll(context).is_ready() {
            if !self.client.place.has_stream() {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the client opens no stream"));
            }
            self.next_check.as_mut().reset(Instant::now() + self.idle);
        }
        Ok(())
    }
}

impl Connected for Connection {
    type ConnectInfo = Client;

    fn connect_info(&self) -> Client {
        self.client.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_idle(context)?;
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
