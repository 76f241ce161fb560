//! Wakes those who wait for a change of one sandbox, and nobody else: thousands of sidecars hold a poll, and
//! a change of one sandbox must not make all of them query the store.
//!
//! One task reads the change log for all waiters. A waiter may be woken although nothing changed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sandgate_policy::gateway_api::Change;
use tokio::sync::watch;

use super::revisions::Revisions;
use crate::db::Db;
use crate::model::SandboxId;
use crate::store::{ChangesSince, Result, Revision};

/// The most changes that one query reads.
const AT_ONCE: usize = 1_000;
/// The pause after a failed query.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// The senders that wake the waiters of each sandbox. A sandbox without waiters has no entry.
#[derive(Clone, Default)]
pub(super) struct SandboxWaiters(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// A subscription to the changes of one sandbox.
pub struct SandboxWaiter {
    waiters: SandboxWaiters,
    sandbox: String,
    woken: watch::Receiver<()>,
}

impl SandboxWaiters {
    /// Subscribes to the changes of a sandbox. No change after this call is missed.
    pub(super) fn wait_for(&self, sandbox: &SandboxId) -> SandboxWaiter {
        let sandbox = sandbox.to_string();
        let woken = self.lock().entry(sandbox.clone()).or_default().subscribe();
        SandboxWaiter { waiters: self.clone(), sandbox, woken }
    }

    /// Wakes waiters for every change after this call, until the future is dropped.
    pub(super) fn follow(
        self,
        db: Db,
        revisions: &Revisions,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut newer = revisions.subscribe();
        let mut reached = revisions.newest();
        async move {
            loop {
                match self.wake_for_changes(&db, reached).await {
                    Ok(now) if now == reached => {
                        if newer.changed().await.is_err() {
                            return;
                        }
                    }
                    Ok(now) => reached = now,
                    Err(error) => {
                        tracing::error!(%error, "the changes of sandboxes can't be read");
                        // The waiters query the store, and report the error if it persists.
                        self.wake_all();
                        tokio::time::sleep(RETRY_AFTER).await;
                    }
                }
            }
        }
    }

    /// Wakes the waiters for changes after `reached`. Returns the revision of the last one.
    async fn wake_for_changes(&self, db: &Db, reached: Revision) -> Result<Revision> {
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
            // Waiters are stored by id, and no name has the form of an id, so names in `refs` match nothing.
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

impl SandboxWaiter {
    /// Returns when the sandbox has changed since the last call, or since the subscription.
    pub async fn changed(&mut self) {
        // The sender exists as long as a receiver.
        let _ = self.woken.changed().await;
    }
}

impl Drop for SandboxWaiter {
    fn drop(&mut self) {
        let mut waiting = self.waiters.lock();
        // The count includes this receiver.
        if waiting.get(&self.sandbox).is_some_and(|sender| sender.receiver_count() <= 1) {
            waiting.remove(&self.sandbox);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Writer;
    use crate::model::{NewSandbox, PrincipalId, ProjectId, SandboxPatch, Timestamp};
    use crate::store::{ChangeLog as _, Principals as _, SqliteStore};

    const SOON: Duration = Duration::from_secs(20);

    /// A store with sandboxes in it.
    struct World {
        db: Db,
        revisions: Revisions,
        ids: Vec<SandboxId>,
        _dir: tempfile::TempDir,
    }

    impl World {
        async fn new(sandboxes: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(&dir.path().join("sandgate.db")).unwrap();
            let now = Timestamp::now();
            let by = crate::store::Author { principal: "test", at: now };
            store.create_organization("org_1", "org", by).unwrap();
            store.create_project("project_1", "org_1", "project", by).unwrap();
            let revisions = Revisions::new(store.revision().unwrap());
            let committed = revisions.clone();
            let db = Db::new(Arc::new(store), move |revision| committed.announce(revision));
            let mut ids = Vec::new();
            for _ in 0..sandboxes {
                let id = crate::random::sandbox_id().unwrap();
                ids.push(id.clone());
                let new = NewSandbox {
                    id,
                    name: None,
                    project_id: ProjectId::parse("project_1").unwrap(),
                    exposed_ports: crate::model::ExposedPorts::default(),
                    allow_unauthenticated_access: false,
                    auto_resume: true,
                    network_policy: sandgate_policy::egress::NetworkPolicy::default(),
                    spec: serde_json::Map::new(),
                    principal: PrincipalId::parse("key_1").unwrap(),
                };
                db.write(Writer::Server, move |store| store.create_sandbox(&new, now))
                    .await
                    .unwrap();
            }
            Self { db, revisions, ids, _dir: dir }
        }

        /// Changes a sandbox. Each `number` makes a different change.
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
    async fn of_a_thousand_waiters_a_change_wakes_the_one_of_its_sandbox() {
        let world = World::new(1_000).await;
        let waiters = SandboxWaiters::default();
        let mut waiting: Vec<_> = world.ids.iter().map(|id| waiters.wait_for(id)).collect();
        let following = tokio::spawn(waiters.clone().follow(world.db.clone(), &world.revisions));
        for (number, which) in [7, 7, 993].into_iter().enumerate() {
            world.change(&world.ids[which], number).await;
            tokio::time::timeout(SOON, waiting[which].changed()).await.unwrap();
            assert!(waiting.iter().all(|waiter| !waiter.woken.has_changed().unwrap()));
        }
        drop(waiting);
        assert!(waiters.lock().is_empty(), "an entry is removed with its last waiter");
        following.abort();
    }

    #[tokio::test]
    async fn a_change_between_the_subscription_and_the_wait_is_not_missed() {
        let world = World::new(1).await;
        let waiters = SandboxWaiters::default();
        let following = tokio::spawn(waiters.clone().follow(world.db.clone(), &world.revisions));
        let (mut first, mut second) =
            (waiters.wait_for(&world.ids[0]), waiters.wait_for(&world.ids[0]));
        world.change(&world.ids[0], 0).await;
        tokio::time::timeout(SOON, first.changed()).await.unwrap();
        drop(first);
        tokio::time::timeout(SOON, second.changed()).await.unwrap();
        world.change(&world.ids[0], 1).await;
        tokio::time::timeout(SOON, second.changed()).await.unwrap();
        following.abort();
    }

    #[tokio::test]
    async fn a_gap_in_the_change_log_wakes_all_waiters() {
        let world = World::new(2).await;
        let waiters = SandboxWaiters::default();
        let mut waiting: Vec<_> = world.ids.iter().map(|id| waiters.wait_for(id)).collect();
        let newest = world.revisions.newest();
        assert_eq!(waiters.wake_for_changes(&world.db, newest + 1_000).await.unwrap(), newest);
        for waiter in &mut waiting {
            tokio::time::timeout(SOON, waiter.changed()).await.unwrap();
        }
    }
}
