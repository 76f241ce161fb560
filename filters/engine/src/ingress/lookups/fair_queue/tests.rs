//! What one project or client takes from the others.

use super::*;

fn owner(project: &str, client: u16) -> Owner {
    Owner {
        project: Some(project.parse().expect("an id")),
        client: ClientAddress::V6([0x2001, 0xdb8, 0, client]),
    }
}

fn resume(name: &str) -> LookupKey {
    LookupKey::Resume { sandbox_id: name.to_owned(), public: true }
}

/// The attack: sandboxes that take as long to resume as the control plane allows, asked for by many clients.
#[test]
fn many_clients_of_one_project_do_not_delay_another_project() {
    let mut queue = FairQueue::new(8, Share::AsManyAsAreFree);
    let attack = |number: u16| (owner("attack", number), resume(&format!("slow{number}")));
    for (owner, key) in (0..20).map(attack) {
        queue.add(&owner, key);
    }
    let sent = std::iter::from_fn(|| queue.next()).count();
    assert_eq!(sent, 4, "half of the capacity");
    queue.add(&owner("victim", 1), resume("victim"));
    assert_eq!(queue.next(), Some(resume("victim")));
    assert_eq!(queue.next(), None, "the attack has more in flight than are free");
    queue.add(&owner("third", 1), resume("third"));
    assert_eq!(queue.next(), Some(resume("third")));
    for (owner, _) in (0..4).map(attack) {
        queue.done(&owner);
    }
    let next = std::iter::from_fn(|| queue.next());
    assert_eq!(next.count(), 3, "the attack has as many in flight as are free");
}

#[test]
fn the_clients_of_a_project_take_turns() {
    let mut queue = FairQueue::new(2, Share::All);
    for number in 0..5 {
        queue.add(&owner("project", 1), resume(&format!("flood{number}")));
    }
    assert_eq!(queue.next(), Some(resume("flood0")));
    queue.add(&owner("project", 2), resume("other"));
    assert_eq!(queue.next(), Some(resume("other")));
    assert!(!queue.can_send());
    queue.done(&owner("project", 2));
    assert_eq!(queue.next(), Some(resume("flood1")));
}

#[test]
fn nothing_is_left_of_a_project_without_lookups() {
    let mut queue = FairQueue::new(8, Share::AsManyAsAreFree);
    let (sent, withdrawn) = (owner("sent", 1), owner("withdrawn", 1));
    queue.add(&sent, resume("sent"));
    assert_eq!(queue.next(), Some(resume("sent")));
    queue.add(&withdrawn, resume("withdrawn"));
    assert!(!queue.withdraw(&sent, &resume("sent")), "it was sent");
    assert!(queue.withdraw(&withdrawn, &resume("withdrawn")));
    queue.done(&sent);
    assert!(queue.projects.is_empty() && queue.turns.is_idle() && queue.in_flight == 0);
}
