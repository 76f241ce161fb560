//! Random interleavings of events.

use std::collections::BTreeMap;

use proptest::prelude::*;
use sandgate_engine::egress::{Connection, DataEffect, Engine, NewConnectionEffect, RequestEffect};
use serde_json::{Value, json};

use super::{at, configure, get, send};

const DESTINATIONS: [&str; 4] = ["8.8.8.8:80", "1.1.1.1:443", "198.18.0.10:22", "192.168.0.1:22"];
const NAMES: [&str; 3] = ["", "ok.test", "bad.test"];
const BYTES: [&[u8]; 4] = [b"\x16\x03\x01", b"GET ", b"/ HTTP/1.1\r\n", b"\x00\n"];

#[derive(Clone, Debug)]
enum Event {
    Configure(usize),
    Connect(usize, usize),
    Request(usize, usize),
    /// Bytes of the client of one of the open connections.
    Data(usize, usize),
    End(usize),
    /// Re-evaluates some live streams.
    Tick(usize),
}

fn policies() -> [Value; 4] {
    [
        json!({}),
        json!({ "deny_out": ["bad.test", "1.1.1.1"] }),
        json!({ "allow_internet_access": false, "allow_out": ["ok.test", "8.8.8.8"] }),
        json!({ "allow_internet_access": false }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => (0..4_usize).prop_map(Event::Configure),
        4 => (0..4_usize, 0..3_usize).prop_map(|(to, name)| Event::Connect(to, name)),
        2 => (0..4_usize, 0..3_usize).prop_map(|(to, name)| Event::Request(to, name)),
        4 => (any::<usize>(), 0..4_usize).prop_map(|(which, bytes)| Event::Data(which, bytes)),
        3 => any::<usize>().prop_map(Event::End),
        3 => (1..4_usize).prop_map(Event::Tick),
    ]
}

/// A host with a model of its open streams: `None` is a request.
#[derive(Default)]
struct Model {
    engine: Engine,
    open: BTreeMap<u32, Option<Connection>>,
    last_id: u32,
    generation: u64,
}

impl Model {
    fn run(&mut self, event: &Event) {
        match *event {
            Event::Configure(policy) => {
                self.generation += 1;
                configure(&mut self.engine, self.generation, policies()[policy].clone());
            }
            Event::Connect(to, name) => self.connect(to, name),
            Event::Request(to, name) => self.request(to, name),
            Event::Data(which, bytes) => self.data(which, BYTES[bytes]),
            Event::End(which) => {
                if let Some(id) = self.pick(which) {
                    self.end(id);
                }
            }
            Event::Tick(count) => {
                for _ in 0..count {
                    self.reevaluate_one();
                }
            }
        }
    }

    fn next_id(&mut self) -> u32 {
        self.last_id += 1;
        self.last_id
    }

    fn pick(&self, which: usize) -> Option<u32> {
        self.open.keys().nth(which % self.open.len().max(1)).copied()
    }

    fn connect(&mut self, to: usize, name: usize) {
        let id = self.next_id();
        let mut connection = Connection::new(id);
        let name = NAMES[name].as_bytes();
        let effect = connection.on_new_connection(&mut self.engine, at(DESTINATIONS[to]), name);
        if matches!(effect, NewConnectionEffect::Connect { .. }) {
            self.open.insert(id, Some(connection));
        } else {
            self.engine.on_stream_end(id);
        }
    }

    fn request(&mut self, to: usize, name: usize) {
        let id = self.next_id();
        match get(&mut self.engine, id, DESTINATIONS[to], NAMES[name]) {
            RequestEffect::Forward(_) => {
                self.open.insert(id, None);
            }
            _ => self.engine.on_stream_end(id),
        }
    }

    fn data(&mut self, which: usize, bytes: &[u8]) {
        let Some(id) = self.pick(which) else { return };
        let Some(Some(connection)) = self.open.get_mut(&id) else { return };
        match send(connection, &mut self.engine, bytes, false) {
            DataEffect::Continue | DataEffect::Hold => {}
            DataEffect::Close(_) => {
                let after = send(connection, &mut self.engine, bytes, false);
                assert_eq!(after, DataEffect::Hold, "bytes after a denial are not forwarded");
                self.end(id);
            }
            DataEffect::Fail => panic!("a permitted connection is always decidable"),
        }
    }

    fn reevaluate_one(&mut self) {
        let Some(id) = self.engine.next_to_reevaluate() else { return };
        assert!(self.open.contains_key(&id), "{id} has ended");
        if self.engine.reevaluate(id, None).is_some() {
            self.end(id);
        }
    }

    fn end(&mut self, id: u32) {
        self.open.remove(&id);
        self.engine.on_stream_end(id);
    }
}

proptest! {
    #[test]
    fn no_effect_targets_an_ended_stream_and_every_open_stream_ends_up_permitted(
        events in prop::collection::vec(event(), 1..120)
    ) {
        let mut model = Model::default();
        for event in &events {
            model.run(event);
        }
        while model.engine.is_reevaluating() {
            model.reevaluate_one();
        }
        for id in model.open.keys() {
            prop_assert_eq!(model.engine.reevaluate(*id, None), None);
        }
        // A policy that denies everything reaches every open stream: the engine has lost none.
        model.run(&Event::Configure(3));
        while model.engine.is_reevaluating() {
            model.reevaluate_one();
        }
        prop_assert!(model.open.is_empty(), "{:?}", model.open.keys());
    }
}
