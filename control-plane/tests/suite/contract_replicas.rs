//! The store that several servers share: what they know of each other. SQLite has one server.

use sandgate::model::Timestamp;
use sandgate::store::{
    ChangeLog as _, PostgresStore, Principals as _, Replicas as _, StoreError, Upkeep as _,
};

use super::postgres::shared;

fn pair() -> (PostgresStore, PostgresStore) {
    let settings = shared().database();
    (PostgresStore::open(&settings).unwrap(), PostgresStore::open(&settings).unwrap())
}

#[test]
fn a_change_waits_for_the_live_replicas_that_have_not_applied_it() {
    let (one, two) = pair();
    let revision = one.revision().unwrap();
    assert_eq!(one.others_applied().unwrap(), None, "nobody else is there");
    one.record_applied(revision).unwrap();
    assert_eq!(one.others_applied().unwrap(), None, "this replica does not count");
    two.record_applied(revision + 1).unwrap();
    assert_eq!(one.others_applied().unwrap(), Some(revision + 1));
    assert_eq!(two.others_applied().unwrap(), Some(revision));
    two.leave().unwrap();
    assert_eq!(one.others_applied().unwrap(), None);
}

#[test]
fn a_new_history_begins_only_without_a_live_replica() {
    let (one, two) = pair();
    assert!(two.join(false).unwrap());
    let refused = one.begin_history(Timestamp::now()).unwrap_err();
    assert!(matches!(refused, StoreError::InUse), "{refused}");
    two.poll_revision().unwrap();
    two.leave().unwrap();
    one.begin_history(Timestamp::now()).unwrap();
}

/// The attack: a server has opened the database before a restore, or was cut off during it. It would announce the former epoch,
/// and edges that move between servers would drop their caches each time.
#[test]
fn a_replica_of_a_former_history_neither_joins_nor_continues() {
    let (one, two) = pair();
    one.begin_history(Timestamp::now()).unwrap();
    let refused = two.join(false).unwrap_err().to_string();
    assert!(refused.contains("start the server again"), "{refused}");
    two.poll_revision().unwrap_err();
    two.record_applied(1).unwrap_err();
    two.projects().unwrap_err();
    two.create_organization("org_1", "acme", super::contract::by(1)).unwrap_err();
}

#[test]
fn one_replica_at_a_time_has_the_claim_of_a_sandbox() {
    let (one, two) = pair();
    for store in [&one, &two] {
        store.record_applied(1).unwrap();
    }
    let id = sandgate::random::sandbox_id().unwrap();
    assert!(one.claim(&id).unwrap());
    assert!(one.claim(&id).unwrap(), "it has the claim already");
    assert!(!two.claim(&id).unwrap());
    two.release(&id).unwrap();
    assert!(!two.claim(&id).unwrap(), "only the holder releases it");
    one.release(&id).unwrap();
    assert!(two.claim(&id).unwrap());
    two.leave().unwrap();
    assert!(one.claim(&id).unwrap(), "claims end with their replica");
}

#[test]
fn a_replica_that_came_a_moment_ago_gets_no_claim_of_a_silent_one() {
    let (one, two) = pair();
    let id = sandgate::random::sandbox_id().unwrap();
    // It has never shown that it is live, so it counts as silent.
    assert!(one.claim(&id).unwrap());
    two.record_applied(1).unwrap();
    assert!(!two.claim(&id).unwrap());
}

#[test]
fn replicas_that_ended_long_ago_are_forgotten_with_the_claims_of_removed_sandboxes() {
    let settings = shared().database();
    let open = || PostgresStore::open(&settings).unwrap();
    let (ended, live) = (open(), open());
    super::contract::add_projects(&live);
    let existing = super::contract_sandboxes::create(&live, None);
    let removed = sandgate::random::sandbox_id().unwrap();
    for store in [&ended, &live] {
        store.record_applied(1).unwrap();
    }
    assert!(ended.claim(&removed).unwrap() && ended.claim(&existing).unwrap());
    live.forget_ended().unwrap();
    assert_eq!(ended.own_claims().unwrap().len(), 2, "it was live a moment ago");
    let age = "UPDATE replicas SET seen_at = seen_at - interval '2 days' \
               WHERE id = (SELECT replica FROM claims LIMIT 1)";
    shared().run_sql(&settings, age);
    live.forget_ended().unwrap();
    assert_eq!(ended.own_claims().unwrap(), [existing]);
    assert_eq!(shared().query(&settings, "SELECT count(*) FROM replicas"), ["1"]);
}

#[test]
fn commits_are_announced_to_other_processes() {
    let (one, two) = pair();
    super::contract::add_projects(&one);
    let mut announced = two.announced_commits().unwrap();
    announced.mark_unchanged();
    let began = std::time::Instant::now();
    while !announced.has_changed().unwrap() {
        // The listener may have begun after the first commits.
        assert!(began.elapsed() < std::time::Duration::from_secs(30));
        one.add_member("user_2", "eve", "project_1", super::contract::by(5)).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        one.remove_member("eve", "project_1", super::contract::by(5)).unwrap();
    }
}

#[test]
fn a_stricter_isolation_level_of_the_database_does_not_make_replicas_fail() {
    let settings = shared().database();
    let name = settings.url.rsplit('/').next().unwrap();
    shared().run_sql(
        &settings,
        &format!("ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"),
    );
    let stores: Vec<_> = (0..4).map(|_| PostgresStore::open(&settings).unwrap()).collect();
    let id = sandgate::random::sandbox_id().unwrap();
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(|| {
                for round in 0..50 {
                    store.record_applied(round).unwrap();
                    if store.claim(&id).unwrap() {
                        store.release(&id).unwrap();
                    }
                }
            });
        }
    });
}
