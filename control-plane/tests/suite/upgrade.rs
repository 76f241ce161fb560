//! An upgrade of servers that share a database: they are restarted one after the other, behind a load balancer that follows their
//! health checks, and no request is lost.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::command_line::Served;
use super::fleet::{Fleet, client};
use super::postgres::shared;
use super::support::TOKEN;

/// The least number of requests after a step.
const MORE: u64 = 40;
const SOON: Duration = Duration::from_secs(60);

/// The URLs of both APIs of a server.
type Urls = (String, String);

/// A load balancer: it sends requests only to servers whose last health check was good.
#[derive(Default)]
struct Balancer {
    known: Mutex<Vec<Urls>>,
    healthy: Mutex<Vec<Urls>>,
    answered: AtomicU64,
    stop: AtomicBool,
}

impl Balancer {
    fn add(&self, server: &Served) {
        self.known.lock().unwrap().push((server.api.clone(), server.gateway.clone()));
    }

    fn remove(&self, api: &str) {
        self.known.lock().unwrap().retain(|known| known.0 != api);
    }

    async fn check_health(self: Arc<Self>) {
        let client = client();
        while !self.stop.load(Ordering::Relaxed) {
            let known = self.known.lock().unwrap().clone();
            let mut healthy = Vec::new();
            for urls in known {
                let ready = client.get(format!("{}/readyz", urls.0)).send().await;
                if ready.is_ok_and(|response| response.status() == 200) {
                    healthy.push(urls);
                }
            }
            *self.healthy.lock().unwrap() = healthy;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A server for request `number`.
    fn pick(&self, number: usize) -> Urls {
        let healthy = self.healthy.lock().unwrap();
        assert!(!healthy.is_empty(), "no server is healthy");
        healthy[number % healthy.len()].clone()
    }

    /// Waits until more requests were answered.
    async fn continues(&self) {
        let before = self.answered.load(Ordering::Relaxed);
        let more = async {
            while self.answered.load(Ordering::Relaxed) < before + MORE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(SOON, more).await.expect("requests go on");
    }
}

/// Sends requests of owners and lookups of edges, each of which must succeed.
async fn request(balancer: Arc<Balancer>, key: String, first: usize) {
    // Keeps connections, as owners' clients and edges do.
    let client = client();
    let mut number = first;
    while !balancer.stop.load(Ordering::Relaxed) {
        number += 1;
        let (api, gateway) = balancer.pick(number);
        let request = match number % 3 {
            0 => {
                let change = json!({ "exposed_ports": [1_024 + number % 1_000] }).to_string();
                client.patch(format!("{api}/sandboxes/env")).bearer_auth(&key).body(change)
            }
            1 => client.get(format!("{api}/sandboxes")).bearer_auth(&key),
            _ => client.get(format!("{gateway}/gateway/v1/sandboxes/env")).bearer_auth(TOKEN),
        };
        let response = request.send().await.unwrap_or_else(|error| panic!("{number}: {error:?}"));
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{number}: {text}");
        balancer.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Follows the change feed. A revision of one server is known to the others.
async fn follow(balancer: Arc<Balancer>) {
    let client = client();
    let (mut since, mut number) = (None::<String>, 0);
    while !balancer.stop.load(Ordering::Relaxed) {
        number += 1;
        let (_, gateway) = balancer.pick(number);
        let from = since.as_ref().map(|since| format!("&since={since}")).unwrap_or_default();
        let url = format!("{gateway}/gateway/v1/changes?watcher=edge&wait_ms=60000{from}");
        let response = client.get(url).bearer_auth(TOKEN).send().await.unwrap();
        assert_eq!(response.status(), 200);
        let feed: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert!(since.is_none() || feed["reset"] == json!(false), "{feed}");
        since = Some(feed["revision"].as_str().unwrap().to_owned());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_restart_one_after_the_other_and_no_request_is_lost() {
    let fleet = Fleet::new(shared()).await;
    let serve = || fleet.serve_with(&["--drain-pause-seconds", "2"]);
    let mut servers = vec![serve(), serve()];
    let balancer = Arc::new(Balancer::default());
    servers.iter().for_each(|server| balancer.add(server));
    fleet.ok(&servers[0], "POST", "/sandboxes", json!({ "name": "env" })).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&balancer).check_health());
    while balancer.healthy.lock().unwrap().len() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for first in 0..4 {
        tasks.spawn(request(Arc::clone(&balancer), fleet.key.clone(), first * 100));
    }
    tasks.spawn(follow(Arc::clone(&balancer)));
    balancer.continues().await;
    for _ in 0..2 {
        let mut leaving = servers.remove(0);
        let api = leaving.api.clone();
        let code = tokio::task::spawn_blocking(move || leaving.signal("-TERM")).await.unwrap();
        assert_eq!(code, 0);
        balancer.remove(&api);
        balancer.continues().await;
        let server = serve();
        balancer.add(&server);
        servers.push(server);
        balancer.continues().await;
    }
    balancer.stop.store(true, Ordering::Relaxed);
    // The poll of the feed ends with a change.
    fleet.ok(&servers[0], "PATCH", "/sandboxes/env", json!({ "exposed_ports": [1] })).await;
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}
