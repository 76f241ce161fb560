//! Notifications: each commit of a change notifies all processes. A notification may be lost with a connection, so
//! the change log is polled, too.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Connection, Error, Socket};

use super::connect::Connector;
use super::session::described;
use crate::store::{Result, StoreError};

/// The channel of `NOTIFY`. The payload is not used: every role that can connect to the database may notify.
pub(super) const CHANNEL: &str = "sandgate_commits";
/// The longest wait for a connection, and for the start of the notifications.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before a lost connection is opened again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Changes `hints` with each notification, until the receivers are gone.
pub(super) async fn follow(connector: Connector, hints: watch::Sender<()>) {
    // An outage is logged once.
    let mut was_listening = true;
    loop {
        tokio::select! {
            ended = listen(&connector, &hints, &mut was_listening) => {
                if std::mem::take(&mut was_listening) {
                    let error = ended.err().map(|error| described(&error));
                    tracing::warn!(error, "the database sends no notifications of commits; it is polled until it does");
                }
            }
            () = hints.closed() => return,
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Receives notifications until the connection ends.
async fn listen(
    connector: &Connector,
    hints: &watch::Sender<()>,
    is_listening: &mut bool,
) -> Result<()> {
    let (client, connection) = in_time(connector.connect()).await?;
    tokio::try_join!(forward(connection, hints), async {
        in_time(client.batch_execute(&format!("LISTEN {CHANNEL}"))).await?;
        *is_listening = true;
        // The connection ends when its client is dropped.
        std::future::pending::<()>().await;
        drop(client);
        Ok(())
    })?;
    Ok(())
}

/// Waits for an answer of the database, which may hang.
async fn in_time<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T> {
    match timeout(ANSWER_TIMEOUT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(elapsed) => Err(StoreError::Unavailable(Box::new(elapsed))),
    }
}

/// Drives the connection until it ends.
async fn forward<T>(mut connection: Connection<Socket, T>, hints: &watch::Sender<()>) -> Result<()>
where
    T: TlsStream + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(_) = message? {
            hints.send_replace(());
        }
    }
    Ok(())
}
