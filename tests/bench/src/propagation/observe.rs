//! The steps of a change between the owner's call and the Envoys, seen from outside: the notification of PostgreSQL, and the
//! answer of a poll that each control plane holds.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use http::StatusCode;
use sandgate_stack::{Connection, ControlPlane};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, NoTls};

use super::fleet::{Fleet, SERVERS, TOKEN};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Observer {
    /// The moments of the notifications of commits.
    commits: mpsc::UnboundedReceiver<Instant>,
    /// Keeps the connection to the database open.
    _database: tokio_postgres::Client,
    polls: Vec<Polls>,
}

/// A follower of the change feed of a control plane, which is no watcher: nobody waits for it.
struct Polls {
    connection: Connection,
    server: ControlPlaneAddress,
    since: Option<String>,
}

type ControlPlaneAddress = sandgate_stack::Client;

impl Observer {
    pub(super) async fn connect(fleet: &Fleet) -> Result<Self> {
        let (database, mut connection) = tokio_postgres::connect(&fleet.database, NoTls).await?;
        let (sender, commits) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(message) =
                std::future::poll_fn(|context| connection.poll_message(context)).await
            {
                match message {
                    Ok(AsyncMessage::Notification(_)) => {
                        let _: Result<_, _> = sender.send(Instant::now());
                    }
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
        });
        database.batch_execute("LISTEN sandgate_commits").await?;
        let mut polls = Vec::new();
        for (number, server) in fleet.servers.iter().enumerate() {
            let connection = fleet.gateway(number).await?;
            polls.push(Polls { connection, server: ControlPlane::gateway(server), since: None });
        }
        Ok(Self { commits, _database: database, polls })
    }

    /// Reads the changes so far.
    pub(super) async fn prepare(&mut self, _: &Fleet) -> Result<()> {
        while self.commits.try_recv().is_ok() {}
        for polls in &mut self.polls {
            polls.poll(0).await?;
        }
        Ok(())
    }

    /// When the database announced the next commit, and when each control plane answered a poll with it. The polls begin now.
    pub(super) async fn observe(
        &mut self,
        begun: Instant,
    ) -> Result<(Instant, [Instant; SERVERS.len()])> {
        let commits = &mut self.commits;
        let notified = async {
            loop {
                let at = commits.recv().await.context("the database closed the connection")?;
                if at >= begun {
                    return anyhow::Ok(at);
                }
            }
        };
        let [one, two] = self.polls.as_mut_slice() else { bail!("not two control planes") };
        let observed = async { tokio::try_join!(notified, one.next(), two.next()) };
        let (notified, one, two) =
            tokio::time::timeout(LIMIT, observed).await.context("the change was not seen")??;
        Ok((notified, [one, two]))
    }
}

impl Polls {
    /// Waits for the next change.
    async fn next(&mut self) -> Result<Instant> {
        loop {
            let changes = self.poll(30_000).await?;
            if changes > 0 {
                return Ok(Instant::now());
            }
        }
    }

    /// Polls once; returns the number of changes.
    async fn poll(&mut self, wait_ms: u32) -> Result<usize> {
        let mut path = format!("/gateway/v1/changes?wait_ms={wait_ms}");
        if let Some(since) = &self.since {
            path.push_str("&since=");
            path.push_str(since);
        }
        let call = self.server.get("gateway", &path).bearer(TOKEN);
        let answer = self.connection.send(call).await?;
        anyhow::ensure!(answer.status == StatusCode::OK, "{} {}", answer.status, answer.text());
        let answer = answer.json()?;
        let text = answer.get("revision").and_then(Value::as_str).context("no revision")?;
        self.since = Some(text.to_owned());
        Ok(answer.get("changes").and_then(Value::as_array).map_or(0, Vec::len))
    }
}
