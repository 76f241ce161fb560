//! Wakes those who wait for a change of one sandbox, and nobody else: a thousand sidecars hold polls, and
//! none of them should ask the store because of another's sandbox.
//!
//! One task reads the change log for all of them. Whoever waits looks for itself what changed: being
//! woken for nothing does no harm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_policy::gateway_api::Change;
use tokio::sync::watch;

use crate::db::Db;
use crate::model::SandboxId;
use crate::store::{ChangesSince, Result, Revision};

/// Changes that are read at once.
const AT_ONCE: usize = 1_000;
/// Pause after the store could not be read.
const AGAIN_AFTER: Duration = Duration::from_millis(500);

/// Who waits, by sandbox. A sandbox that nobody waits for has no entry.
#[derive(Clone, Default)]
pub struct SandboxChanges(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// One who waits.
pub(super) struct Waiter {
    all: SandboxChanges,
    sandbox: String,
    woken: watch::Receiver<()>,
}

impl SandboxChanges {
    /// Begins to wait. What changes from here on is not missed, whatever is read meanwhile.
    pub(super) fn of(&self, sandbox: &SandboxId) -> Waiter {
        let sandbox = sandbox.to_string();
        let woken = self.lock().entry(sandbox.clone()).or_default().subscribe();
        Waiter { all: self.clone(), sandbox, woken }
    }

    /// Follows the change log of a store, from this call on and until the task is dropped.
    pub fn follow(self, db: Db) -> impl Future<Output = ()> + Send {
        let mut feed = db.feed().subscribe();
        let mut reached = db.feed().newest();
        async move {
            loop {
                match self.catch_up(&db, reached).await {
                    Ok(now) if now == reached => {
                        if feed.changed().await.is_err() {
                            return;
                        }
                    }
                    Ok(now) => reached = now,
                    Err(error) => {
                        tracing::error!(%error, "the store can't be asked for changes");
                        // They will find out by themselves.
                        self.wake_all();
                        tokio::time::sleep(AGAIN_AFTER).await;
                    }
                }
            }
        }
    }

    async fn catch_up(&self, db: &Db, reached: Revision) -> Result<Revision> {
        match db.read(move |store| store.changes_since(reached, AT_ONCE)).await? {
            ChangesSince::Known(now, changes) => {
                self.wake(&changes);
                Ok(now)
            }
            ChangesSince::Unknown(now) => {
                self.wake_all();
                Ok(now)
            }
        }
    }

    fn wake(&self, changes: &[Change]) {
        let waiting = self.lock();
        for change in changes {
            let Change::Sandbox { refs } = change else { continue };
            // Of the names among them there is no entry: no name looks like an id.
            refs.iter().filter_map(|id| waiting.get(id)).for_each(|sender| sender.send_replace(()));
        }
    }

    fn wake_all(&self) {
        self.lock().values().for_each(|sender| sender.send_replace(()));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter {
    /// Returns when the sandbox has changed since the last call, or since the wait began.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as there is a receiver.
        let _ = self.woken.changed().await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut waiting = self.all.lock();
        // This one is still counted.
        if waiting.get(&self.sandbox).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.sandbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Writer;
    use crate::model::{NewSandbox, SandboxPatch, Timestamp};
    use crate::store::{Principals as _, SqliteStore, Store};

    const SOON: Duration = Duration::from_secs(20);

    /// A store with sandboxes in it.
    struct World {
        db: Db,
        ids: Vec<SandboxId>,
        _dir: tempfile::TempDir,
    }

    impl World {
        async fn new(sandboxes: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(&dir.path().join("sandgate.db")).unwrap();
            let now = Timestamp::now();
            store.create_organization("org_1", "org", now).unwrap();
            store.create_project("project_1", "org_1", "project", now).unwrap();
            let db = Db::new(Arc::new(store) as Arc<dyn Store>).unwrap();
            let mut ids = Vec::new();
            for _ in 0..sandboxes {
                let id = SandboxId::generate().unwrap();
                ids.push(id.clone());
                let new = NewSandbox {
                    id,
                    name: None,
                    project_id: "project_1".to_owned(),
                    exposed_ports: crate::model::ExposedPorts::default(),
                    allow_unauthenticated_access: false,
                    auto_resume: true,
                    network: sandgate_policy::egress::NetworkPolicy::default(),
                    spec: serde_json::Map::new(),
                    principal: "key_1".to_owned(),
                };
                db.write(Writer::Server, move |store| store.create_sandbox(&new, now))
                    .await
                    .unwrap();
            }
            Self { db, ids, _dir: dir }
        }

        /// Changes a sandbox, in another way each time.
        async fn change(&self, id: &SandboxId, number: usize) {
            let (id, mut patch) = (id.clone(), SandboxPatch::default());
            patch.spec.insert("metadata".to_owned(), serde_json::json!({ "number": number }));
            let now = Timestamp::now();
            let patched =
                self.db.write(Writer::Server, move |s| s.patch_sandbox(&id, &patch, "key_1", now));
            patched.await.unwrap();
        }
    }

    #[tokio::test]
    async fn of_a_thousand_who_wait_a_change_wakes_the_one_whose_sandbox_it_is() {
        let world = World::new(1_000).await;
        let changes = SandboxChanges::default();
        let mut waiting: Vec<_> = world.ids.iter().map(|id| changes.of(id)).collect();
        let following = tokio::spawn(changes.clone().follow(world.db.clone()));
        for (number, which) in [7, 7, 993].into_iter().enumerate() {
            world.change(&world.ids[which], number).await;
            tokio::time::timeout(SOON, waiting[which].changed()).await.unwrap();
            assert!(waiting.iter().all(|waiter| !waiter.woken.has_changed().unwrap()));
        }
        drop(waiting);
        assert!(changes.lock().is_empty(), "nothing is kept for who waits no more");
        following.abort();
    }

    #[tokio::test]
    async fn a_change_between_the_beginning_and_the_wait_is_not_missed() {
        let world = World::new(1).await;
        let changes = SandboxChanges::default();
        let following = tokio::spawn(changes.clone().follow(world.db.clone()));
        let (mut first, mut second) = (changes.of(&world.ids[0]), changes.of(&world.ids[0]));
        world.change(&world.ids[0], 0).await;
        tokio::time::timeout(SOON, first.changed()).await.unwrap();
        drop(first);
        tokio::time::timeout(SOON, second.changed()).await.unwrap();
        world.change(&world.ids[0], 1).await;
        tokio::time::timeout(SOON, second.changed()).await.unwrap();
        following.abort();
    }

    #[tokio::test]
    async fn who_fell_behind_the_change_log_wakes_everybody() {
        let world = World::new(2).await;
        let changes = SandboxChanges::default();
        let mut waiting: Vec<_> = world.ids.iter().map(|id| changes.of(id)).collect();
        let newest = world.db.feed().newest();
        assert_eq!(changes.catch_up(&world.db, newest + 1_000).await.unwrap(), newest);
        for waiter in &mut waiting {
            tokio::time::timeout(SOON, waiter.changed()).await.unwrap();
        }
    }
}
