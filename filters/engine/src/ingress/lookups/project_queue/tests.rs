//! What one project takes from the others.

use super::*;

fn project(name: &str) -> ProjectId {
    name.parse().expect("an id")
}

fn client(number: u16) -> ClientAddress {
    ClientAddress::V6([0x2001, 0xdb8, 0, number])
}

fn resume(name: &str) -> LookupKey {
    LookupKey::Resume { sandbox_id: name.to_owned(), public: true }
}

/// The attack: sandboxes that take as long to resume as the control plane allows, asked for by many clients.
#[test]
fn many_clients_of_one_project_do_not_delay_another_project() {
    let mut queue = ProjectQueue::new(8);
    for number in 0..20 {
        queue.add(&project("attack"), client(number), resume(&format!("slow{number}")));
    }
    let sent = std::iter::from_fn(|| queue.next()).count();
    assert_eq!(sent, 4, "half of the capacity");
    for other in ["victim", "third"] {
        queue.add(&project(other), client(1), resume(other));
        assert_eq!(queue.next(), Some(resume(other)));
        assert_eq!(queue.next(), None, "the attack has more in flight than are free");
    }
    (0..4).for_each(|number| queue.done(&project("attack"), client(number)));
    let sent = std::iter::from_fn(|| queue.next()).count();
    assert_eq!(sent, 3, "as many as are free");
}

#[test]
fn the_clients_of_a_project_take_turns() {
    let mut queue = ProjectQueue::new(4);
    let project = project("project");
    for number in 0..5 {
        queue.add(&project, client(1), resume(&format!("flood{number}")));
    }
    assert_eq!(queue.next(), Some(resume("flood0")));
    queue.add(&project, client(2), resume("other"));
    assert_eq!(queue.next(), Some(resume("other")));
    assert!(!queue.can_send());
    queue.done(&project, client(2));
    assert_eq!(queue.next(), Some(resume("flood1")));
}

#[test]
fn nothing_is_left_of_a_project_without_lookups() {
    let mut queue = ProjectQueue::new(8);
    let (sent, withdrawn) = (project("sent"), project("withdrawn"));
    queue.add(&sent, client(1), resume("sent"));
    assert_eq!(queue.next(), Some(resume("sent")));
    queue.add(&withdrawn, client(1), resume("withdrawn"));
    assert!(!queue.withdraw(&sent, client(1), &resume("sent")), "it was sent");
    assert!(queue.withdraw(&withdrawn, client(1), &resume("withdrawn")));
    queue.done(&sent, client(1));
    assert!(queue.projects.is_empty() && queue.turns.is_idle() && queue.in_flight == 0);
}
