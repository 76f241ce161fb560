//! Notifications: each commit of a change notifies all processes. A notification may be lost with a connection, so
//! the change log is polled, too.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Connection, Error, Socket};

use super::connect::Connector;
use super::session::described;
use crate::store::Revision;

/// The channel of `NOTIFY`. The payload is the revision.
pub(super) const CHANNEL: &str = "sandgate_commits";
/// The pause before a lost connection is opened again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Sends each notified revision to `newest`, until the receivers are gone.
pub(super) async fn follow(connector: Connector, newest: watch::Sender<Revision>) {
    // An outage is logged once.
    let mut was_listening = true;
    loop {
        tokio::select! {
            ended = listen(&connector, &newest, &mut was_listening) => {
                if std::mem::take(&mut was_listening) {
                    let error = ended.err().map(|error| described(&error));
                    tracing::warn!(error, "the database sends no notifications of commits; it is polled until it does");
                }
            }
            () = newest.closed() => return,
        }
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// Receives notifications until the connection ends.
async fn listen(
    connector: &Connector,
    newest: &watch::Sender<Revision>,
    is_listening: &mut bool,
) -> Result<(), Error> {
    let (client, connection) = connector.connect().await?;
    tokio::try_join!(forward(connection, newest), async {
        client.batch_execute(&format!("LISTEN {CHANNEL}")).await?;
        *is_listening = true;
        // The connection ends when its client is dropped.
        std::future::pending::<()>().await;
        drop(client);
        Ok(())
    })?;
    Ok(())
}

/// Drives the connection until it ends.
async fn forward<T>(
    mut connection: Connection<Socket, T>,
    newest: &watch::Sender<Revision>,
) -> Result<(), Error>
where
    T: TlsStream + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message?
            && let Ok(revision) = notification.payload().parse()
        {
            newest.send_replace(revision);
        }
    }
    Ok(())
}
