//! Random streams: after any history, a client that reads everything has what it should have.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use sandgate_xds::session::REMOVAL_DELAY;
use sandgate_xds::{Kind, Snapshot};

use crate::client::{BAD, Client, snapshot};

const NAMES: [&str; 3] = ["a", "b", "c"];
const KINDS: [Kind; 5] =
    [Kind::Cluster, Kind::Endpoints, Kind::Extension, Kind::Listener, Kind::Route];

#[derive(Clone, Debug)]
enum Event {
    Publish(Vec<Option<u8>>),
    SubscribeToAll(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    Read(usize),
    Wait,
    Reconnect,
}

fn contents() -> impl Strategy<Value = Vec<Option<u8>>> {
    vec(proptest::option::weighted(0.7, 0..4_u8), KINDS.len() * NAMES.len())
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => contents().prop_map(Event::Publish),
        1 => (0..2_usize).prop_map(Event::SubscribeToAll),
        4 => (0..KINDS.len(), 0..NAMES.len()).prop_map(|(kind, name)| Event::Subscribe(kind, name)),
        2 => (0..KINDS.len(), 0..NAMES.len()).prop_map(|(kind, name)| Event::Unsubscribe(kind, name)),
        4 => (1..6_usize).prop_map(Event::Read),
        1 => Just(Event::Wait),
        1 => Just(Event::Reconnect),
    ]
}

/// Content 0 is refused by clients.
fn resources(contents: &[Option<u8>]) -> Arc<Snapshot> {
    let text = |content: u8| if content == 0 { BAD.to_owned() } else { content.to_string() };
    let each = contents.iter().enumerate();
    let owned: Vec<(Kind, &str, String)> = each
        .filter_map(|(index, content)| {
            let (kind, name) = (index / NAMES.len(), index % NAMES.len());
            Some((KINDS[kind], NAMES[name], text((*content)?)))
        })
        .collect();
    let borrowed: Vec<_> =
        owned.iter().map(|(kind, name, content)| (*kind, *name, content.as_str())).collect();
    snapshot(&borrowed)
}

fn wildcard(index: usize) -> Kind {
    if index == 0 { Kind::Cluster } else { Kind::Listener }
}

fn apply(client: &mut Client, current: &mut Arc<Snapshot>, event: Event) {
    match event {
        Event::Publish(contents) => {
            *current = resources(&contents);
            client.publish(Arc::clone(current));
        }
        Event::SubscribeToAll(kind) => {
            if !client.wants.contains_key(&wildcard(kind)) {
                client.subscribe_to_all(wildcard(kind));
            }
        }
        Event::Subscribe(kind, name) => client.subscribe(KINDS[kind], NAMES[name]),
        Event::Unsubscribe(kind, name) => {
            let wants = client.wants.get(&KINDS[kind]);
            if wants.is_some_and(|wants| wants.names.contains(NAMES[name])) {
                client.unsubscribe(KINDS[kind], NAMES[name]);
            }
        }
        Event::Read(count) => {
            for _ in 0..count {
                client.read();
            }
        }
        Event::Wait => client.wait(REMOVAL_DELAY / 2),
        Event::Reconnect => client.reconnect(Arc::clone(current)),
    }
}

proptest! {
    #[test]
    fn a_client_that_reads_everything_has_what_it_should_have(
        events in vec(event(), 1..40),
        last in contents(),
    ) {
        let mut current = snapshot(&[]);
        let mut client = Client::connect(Arc::clone(&current));
        for event in events {
            apply(&mut client, &mut current, event);
        }
        current = resources(&last);
        client.publish(Arc::clone(&current));
        client.settle();
        client.wait(REMOVAL_DELAY);
        client.settle();
        client.wait(REMOVAL_DELAY);
        client.settle();
        for kind in KINDS {
            let Some(wants) = client.wants.get(&kind) else { continue };
            for name in NAMES {
                let wanted = wants.all || wants.names.contains(name);
                let content = current
                    .resource(kind, name)
                    .filter(|_| wanted)
                    .map(|resource| resource.version.0.to_string());
                let has = client.content(kind, name);
                match content {
                    // The client keeps what it had before, if anything.
                    Some(content) if content == BAD => {
                        prop_assert!(client.session.status()[&kind].rejected.contains_key(name));
                    }
                    Some(content) => prop_assert_eq!(has, Some(content.as_str())),
                    None if kind == Kind::Extension => {}
                    None => prop_assert_eq!(has, None, "{} {}", kind, name),
                }
            }
        }
        prop_assert_eq!(client.session.wake_at(), None);
        // At rest, the server sends nothing more.
        client.publish(Arc::clone(&current));
        prop_assert!(client.queue.is_empty());
    }
}
