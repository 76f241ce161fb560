//! Several servers on one database: each is a process of its own, and a platform in the test's process runs their
//! sandboxes.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use sandgate::store::PostgresSettings;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::Notify;

use super::command_line::{Served, exchange, secret};
use super::postgres::{Cluster, shared};
use super::receiver::SECRET;
use super::support::TOKEN;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandgate");
/// The longest wait for something that must happen.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Runs sandboxes: each start and resume gets an address of its own.
#[derive(Clone, Default)]
struct Platform(Arc<Mutex<Calls>>, Arc<Notify>);

#[derive(Default)]
struct Calls {
    /// All calls: the action and the sandbox.
    made: Vec<(String, String)>,
    in_progress: HashSet<String>,
    overlapping: usize,
    /// The platform does not answer these actions until they are removed.
    held: HashSet<&'static str>,
}

impl Platform {
    async fn listen(&self) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new().route("/hook", post(Self::answer)).with_state(self.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        address
    }

    async fn answer(State(platform): State<Self>, Json(call): Json<Value>) -> Json<Value> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (action, sandbox) = (text(&call["action"]), text(&call["sandbox"]["id"]));
        {
            let mut calls = platform.0.lock().unwrap();
            calls.made.push((action.clone(), sandbox.clone()));
            if !calls.in_progress.insert(sandbox.clone()) {
                calls.overlapping += 1;
            }
        }
        // Ends when the caller is gone, too.
        let _progress = InProgress(platform.clone(), sandbox);
        loop {
            let released = platform.1.notified();
            if !platform.0.lock().unwrap().held.contains(action.as_str()) {
                break;
            }
            released.await;
        }
        let placement = call["sandbox"]["placement"].as_u64().unwrap();
        let [.., b, c, d] = placement.to_be_bytes();
        Json(match action.as_str() {
            "suspend" => json!({ "state": "suspended" }),
            "stop" => json!({ "state": "terminated" }),
            _ => json!({ "state": "running", "address": format!("10.{b}.{c}.{d}") }),
        })
    }

    fn hold(&self, action: &'static str) {
        self.0.lock().unwrap().held.insert(action);
    }

    fn release(&self) {
        self.0.lock().unwrap().held.clear();
        self.1.notify_waiters();
    }

    fn count(&self, action: &str) -> usize {
        self.0.lock().unwrap().made.iter().filter(|call| call.0 == action).count()
    }
}

struct InProgress(Platform, String);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().in_progress.remove(&self.1);
    }
}

/// A database, a platform, and a project with a key.
pub(crate) struct Fleet {
    dir: TempDir,
    pub(crate) database: PostgresSettings,
    platform: Platform,
    hook: SocketAddr,
    pub(crate) key: String,
    key_id: String,
}

impl Fleet {
    pub(crate) async fn new(cluster: &Cluster) -> Self {
        Self::on(cluster.database()).await
    }

    pub(crate) async fn on(database: PostgresSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        std::fs::write(dir.path().join("secret"), SECRET).unwrap();
        let platform = Platform::default();
        let hook = platform.listen().await;
        let (key, key_id) = (String::new(), String::new());
        let mut fleet = Self { dir, database, platform, hook, key, key_id };
        let id = |value: Value| value["id"].as_str().unwrap().to_owned();
        let organization = id(fleet.manage(&["orgs", "create", "acme"]));
        let project =
            id(fleet.manage(&["projects", "create", "web", "--organization", &organization]));
        let key = fleet.manage(&["keys", "create", "--project", &project]);
        fleet.key = secret(&key).to_owned();
        fleet.key_id = id(key);
        fleet
    }

    fn manage(&self, arguments: &[&str]) -> Value {
        let output = self.program(arguments).arg("--json").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn program(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(arguments).env("SANDGATE_DATABASE", &self.database.url);
        command
    }

    pub(crate) fn serve(&self) -> Served {
        self.serve_with(&[])
    }

    /// Starts a server with more options.
    pub(crate) fn serve_with(&self, options: &[&str]) -> Served {
        let mut command = self.serve_command();
        command.args(options);
        Served::start(command)
    }

    fn serve_command(&self) -> Command {
        let mut command = self.program(&["serve", "--runtime", "webhook"]);
        command
            .args(["--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"])
            .args(["--sandbox-cidr", "10.0.0.0/8"])
            .args(["--webhook-url", &format!("http://{}/hook", self.hook)])
            .arg("--webhook-secret-file")
            .arg(self.dir.path().join("secret"))
            .arg("--gateway-token-file")
            .arg(self.dir.path().join("token"))
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        command
    }

    /// Calls the public API of a server. Returns `None` if there was no complete response.
    pub(crate) async fn call(
        &self,
        server: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> Option<(u16, Value)> {
        let client = client();
        let request = client
            .request(method.parse().unwrap(), format!("{server}{path}"))
            .bearer_auth(&self.key)
            .body(if body.is_null() { String::new() } else { body.to_string() });
        let response = request.send().await.ok()?;
        let status = response.status().as_u16();
        Some((status, serde_json::from_str(&response.text().await.ok()?).ok()?))
    }

    pub(crate) async fn ok(&self, server: &Served, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(&server.api, method, path, body).await.unwrap();
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    }

    /// Creates a sandbox with a name and suspends it.
    async fn create_suspended(&self, server: &Served, name: &str) {
        self.ok(server, "POST", "/sandboxes", json!({ "name": name })).await;
        let suspend = format!("/sandboxes/{name}/suspend");
        self.ok(server, "POST", &suspend, Value::Null).await;
    }
}

pub(crate) fn client() -> reqwest::Client {
    // The HTTP client requires a provider even for http. It can be installed only once in a process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Polls the change feed of a server.
pub(crate) async fn poll(server: &Served, since: Option<&str>, wait_ms: u64) -> (u16, Value) {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let path = format!("/gateway/v1/changes?watcher=w&wait_ms={wait_ms}{since}");
    exchange(&server.gateway, TOKEN, "GET", &path, Value::Null).await
}

/// The newest revision, without becoming a watcher.
pub(crate) async fn revision(server: &Served) -> String {
    let path = "/gateway/v1/changes";
    let (_, feed) = exchange(&server.gateway, TOKEN, "GET", path, Value::Null).await;
    feed["revision"].as_str().unwrap().to_owned()
}

/// Polls the network policy of a sandbox, as its sidecar does.
async fn network_policy(
    server: &Served,
    id: &str,
    since: Option<&str>,
    wait_ms: u64,
) -> (u16, Value) {
    let since = since.map(|since| format!("&since={since}")).unwrap_or_default();
    let path = format!("/gateway/v1/sandboxes/{id}/network-policy?wait_ms={wait_ms}{since}");
    exchange(&server.gateway, TOKEN, "GET", &path, Value::Null).await
}

async fn state(server: &Served, name: &str) -> Value {
    let path = format!("/gateway/v1/sandboxes/{name}");
    exchange(&server.gateway, TOKEN, "GET", &path, Value::Null).await.1["state"].clone()
}

pub(crate) async fn wait_for(what: &str, mut there: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !there().await {
        assert!(began.elapsed() < SOON, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_one_server_ends_the_poll_of_another_one_and_waits_for_its_watchers() {
    let fleet = Fleet::new(shared()).await;
    let (one, two) = (fleet.serve(), fleet.serve());
    fleet.ok(&one, "POST", "/sandboxes", json!({ "name": "env" })).await;
    let since = revision(&two).await;
    let patch = json!({ "exposed_ports": [8080] });
    let began = Instant::now();
    let (patched, polled) = tokio::join!(
        async {
            fleet.ok(&one, "PATCH", "/sandboxes/env", patch).await;
            began.elapsed()
        },
        poll(&two, Some(&since), 60_000)
    );
    assert_eq!((polled.0, &polled.1["reset"]), (200, &json!(false)), "{}", polled.1);
    assert!(polled.1.to_string().contains("env"), "{}", polled.1);
    assert!(began.elapsed() < Duration::from_secs(50), "the poll ended with the change");
    // The watcher has not confirmed the change, so the other server gave up after its time-out.
    assert!(patched >= Duration::from_millis(500), "{patched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_a_suspended_sandbox_at_two_servers_resume_it_once() {
    let fleet = Fleet::new(shared()).await;
    let servers = [fleet.serve(), fleet.serve()];
    for round in 0..3 {
        let name = format!("env-{round}");
        fleet.create_suspended(&servers[0], &name).await;
        let path = format!("/gateway/v1/sandboxes/{name}/resume");
        let mut requests = tokio::task::JoinSet::new();
        for request in 0..8 {
            let (server, path) = (servers[request % 2].gateway.clone(), path.clone());
            requests.spawn(async move {
                exchange(&server, TOKEN, "POST", &path, json!({ "wait_ms": 30_000 })).await
            });
        }
        for (status, answer) in requests.join_all().await {
            assert_eq!((status, &answer["state"]), (200, &json!("running")), "{answer}");
        }
        assert_eq!(fleet.platform.count("resume"), round + 1);
    }
    assert_eq!(fleet.platform.0.lock().unwrap().overlapping, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_server_began_is_finished_by_another_one() {
    let fleet = Fleet::new(shared()).await;
    let (one, two) = (fleet.serve(), fleet.serve());
    fleet.create_suspended(&two, "env").await;
    fleet.platform.hold("resume");
    let path = format!("{}/gateway/v1/sandboxes/env/resume", one.gateway);
    let resuming = tokio::spawn(client().post(path).bearer_auth(TOKEN).body("{}").send());
    wait_for("the platform is called", async || fleet.platform.count("resume") == 1).await;
    drop(one);
    let _ = resuming.await;
    fleet.platform.release();
    wait_for("the sandbox runs", async || state(&two, "env").await == "running").await;
    assert_eq!(fleet.platform.0.lock().unwrap().overlapping, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_works_through_the_database_and_revoked_keys_are_refused_everywhere() {
    let fleet = Fleet::new(shared()).await;
    let (one, two) = (fleet.serve(), fleet.serve());
    fleet.ok(&one, "GET", "/sandboxes", Value::Null).await;
    fleet.manage(&["keys", "revoke", &fleet.key_id]);
    for server in [&one, &two] {
        let (status, _) = fleet.call(&server.api, "GET", "/sandboxes", Value::Null).await.unwrap();
        assert_eq!(status, 401);
    }
}

#[test]
fn a_local_runtime_can_not_use_a_database() {
    let database = shared().database();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("token"), TOKEN).unwrap();
    let output = Command::new(PROGRAM)
        .args(["serve", "--local-program", "/bin/true", "--database", &database.url])
        .args(["--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"])
        .arg("--gateway-token-file")
        .arg(dir.path().join("token"))
        .output()
        .unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("--runtime webhook"), "{errors}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_when_a_server_or_the_database_is_killed_at_a_random_moment()
{
    let rounds = std::env::var("SANDGATE_FLEET_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let cluster = Cluster::start();
    let fleet = Arc::new(Fleet::new(&cluster).await);
    let mut servers = [fleet.serve(), fleet.serve()];
    // The last acknowledged value of each sandbox.
    let mut acknowledged: HashMap<String, u64> = HashMap::new();
    for writer in 0..4 {
        let name = format!("env-{writer}");
        fleet.ok(&servers[0], "POST", "/sandboxes", json!({ "name": name })).await;
        acknowledged.insert(name, 0);
    }
    let mut answered = 0;
    for round in 0..rounds {
        let (killed, other) = (round % 2, (round + 1) % 2);
        let since = revision(&servers[other]).await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut writers = tokio::task::JoinSet::new();
        for (writer, (name, before)) in acknowledged.clone().into_iter().enumerate() {
            let (fleet, server) = (Arc::clone(&fleet), servers[writer % 2].api.clone());
            let stop = Arc::clone(&stop);
            writers.spawn(async move {
                let (path, mut last) = (format!("/sandboxes/{name}"), before);
                while !stop.load(Ordering::Relaxed) {
                    let value = last + 1;
                    let body = json!({ "metadata": { "value": value.to_string() } });
                    match fleet.call(&server, "PATCH", &path, body).await {
                        Some((200, _)) => last = value,
                        // Nobody knows whether the write was made.
                        Some((503, _)) | None => break,
                        Some((status, answer)) => panic!("{status}: {answer}"),
                    }
                }
                (name, last)
            });
        }
        let moment = u64::from(sandgate::random::sandbox_id().unwrap().as_str().as_bytes()[0]);
        tokio::time::sleep(Duration::from_millis((moment - 47) * 15)).await;
        let is_databases_turn = round % 3 == 1;
        if is_databases_turn {
            cluster.crash();
            cluster.start_again();
        } else {
            servers[killed].kill();
        }
        // The other server goes on: at first it waits for the killed one with each change, and then, after 3 s, no longer.
        tokio::time::sleep(Duration::from_secs(4)).await;
        stop.store(true, Ordering::Relaxed);
        for (name, last) in writers.join_all().await {
            answered += last - acknowledged.insert(name, last).unwrap_or_default();
        }
        wait_for("the other server works", async || {
            let path = format!("{}/readyz", servers[other].api);
            client().get(path).send().await.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
        for (name, last) in &mut acknowledged {
            let path = format!("/sandboxes/{name}");
            let found = fleet.ok(&servers[other], "GET", &path, Value::Null).await;
            let value = found["metadata"]["value"].as_str().map_or(0, |text| text.parse().unwrap());
            // One write may have been in flight.
            assert!((*last..=*last + 1).contains(&value), "{name}: {value}, acknowledged {last}");
            *last = value;
        }
        wait_for("the feed of the other server works", async || {
            let (status, feed) = poll(&servers[other], Some(&since), 0).await;
            assert_ne!(feed["reset"], true, "the feed continues: {feed}");
            status == 200
        })
        .await;
        if !is_databases_turn {
            servers[killed] = fleet.serve();
        }
    }
    eprintln!("{rounds} kills: {answered} changes were answered, and none of them is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_down_polls_fail_and_after_its_return_everything_is_there() {
    let cluster = Cluster::start();
    let fleet = Fleet::new(&cluster).await;
    let server = fleet.serve();
    fleet.ok(&server, "POST", "/sandboxes", json!({ "name": "env" })).await;
    let since = revision(&server).await;
    let held = async { poll(&server, Some(&since), 60_000).await };
    let stopped = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        cluster.stop();
    };
    let began = Instant::now();
    let ((status, answer), ()) = tokio::join!(held, stopped);
    assert_eq!(status, 503, "a held poll must not hide that changes are unknown: {answer}");
    assert!(began.elapsed() < Duration::from_secs(50), "the poll did not end by its own time");
    let (status, _) = fleet.call(&server.api, "GET", "/sandboxes/env", Value::Null).await.unwrap();
    assert_eq!(status, 503);
    cluster.start_again();
    wait_for("the server works again", async || {
        let body = json!({ "exposed_ports": [8080] });
        let patched = fleet.call(&server.api, "PATCH", "/sandboxes/env", body).await;
        patched.is_some_and(|(status, _)| status == 200)
    })
    .await;
    wait_for("the feed works again", async || {
        let (status, feed) = poll(&server, Some(&since), 0).await;
        status == 200 && feed["reset"] == false && feed.to_string().contains("env")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_that_are_inside_a_query_end_while_the_database_hangs() {
    let cluster = Cluster::start();
    let fleet = Fleet::new(&cluster).await;
    let server = fleet.serve();
    fleet.ok(&server, "POST", "/sandboxes", json!({ "name": "env" })).await;
    let sandbox = &cluster.query(&fleet.database, "SELECT id FROM sandboxes")[0];
    let policy = network_policy(&server, sandbox, None, 0).await;
    assert_eq!(policy.0, 200, "{}", policy.1);
    let since = revision(&server).await;
    let paused = cluster.pause();
    // The server doesn't know yet that the database hangs, so both begin with a query.
    let polls = async {
        tokio::join!(
            poll(&server, Some(&since), 60_000),
            network_policy(&server, sandbox, policy.1["revision"].as_str(), 60_000)
        )
    };
    // Without an answer, the query itself fails after 25 s.
    let ended = tokio::time::timeout(Duration::from_secs(15), polls).await;
    drop(paused);
    let ((feed, feed_body), (policy, policy_body)) =
        ended.expect("the polls end before their query does");
    assert_eq!((feed, policy), (503, 503), "{feed_body} {policy_body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn out_of_contact_a_sidecars_poll_is_refused_even_if_its_sandbox_can_be_read() {
    let cluster = Cluster::start();
    let fleet = Fleet::new(&cluster).await;
    let server = fleet.serve();
    fleet.ok(&server, "POST", "/sandboxes", json!({ "name": "env" })).await;
    let sandbox = &cluster.query(&fleet.database, "SELECT id FROM sandboxes")[0];
    let (_, policy) = network_policy(&server, sandbox, None, 0).await;
    // The newest revision can't be read.
    let hidden = cluster.hold(&fleet.database, "LOCK TABLE meta IN ACCESS EXCLUSIVE MODE");
    let since = policy["revision"].as_str();
    let (status, answer) = network_policy(&server, sandbox, since, 20_000).await;
    assert_eq!(status, 503, "{answer}");
    drop(hidden);
    wait_for("the server is in contact again", async || {
        network_policy(&server, sandbox, None, 0).await.0 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_no_task_of_its_server_has_is_released() {
    let cluster = Cluster::start();
    let fleet = Fleet::new(&cluster).await;
    let one = fleet.serve();
    fleet.create_suspended(&one, "env").await;
    // As after an outage in which the server could not release it.
    let left = "INSERT INTO claims SELECT sandboxes.id, replicas.id FROM sandboxes, replicas";
    cluster.run_sql(&fleet.database, left);
    let two = fleet.serve();
    let resume = "/gateway/v1/sandboxes/env/resume";
    let body = json!({ "wait_ms": 60_000 });
    let (status, answer) = exchange(&two.gateway, TOKEN, "POST", resume, body).await;
    assert_eq!((status, &answer["state"]), (200, &json!("running")), "{answer}");
    drop(one);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_answered_although_what_others_have_applied_can_not_be_read() {
    let cluster = Cluster::start();
    let fleet = Fleet::new(&cluster).await;
    let server = fleet.serve();
    fleet.ok(&server, "POST", "/sandboxes", json!({ "name": "env" })).await;
    // The query waits until the database gives it up, after 15 s.
    let locked = cluster.hold(&fleet.database, "LOCK TABLE replicas IN ACCESS EXCLUSIVE MODE");
    let patch = fleet.ok(&server, "PATCH", "/sandboxes/env", json!({ "exposed_ports": [8080] }));
    let patched = tokio::time::timeout(Duration::from_secs(10), patch).await;
    drop(locked);
    patched.expect("the change was stored, and nobody waits for it longer than 500 ms");
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_that_hang_do_not_put_a_server_out_of_contact() {
    let cluster = Cluster::start();
    let fleet = Arc::new(Fleet::new(&cluster).await);
    let server = fleet.serve();
    for number in 0..24 {
        fleet.create_suspended(&server, &format!("env-{number}")).await;
    }
    let since = revision(&server).await;
    let claims = cluster.hold(&fleet.database, "LOCK TABLE claims IN ACCESS EXCLUSIVE MODE");
    for number in 0..24 {
        let path = format!("/gateway/v1/sandboxes/env-{number}/resume");
        let (status, answer) =
            exchange(&server.gateway, TOKEN, "POST", &path, json!({ "wait_ms": 0 })).await;
        assert_eq!((status, &answer["state"]), (200, &json!("suspended")), "{answer}");
    }
    let (status, answer) = poll(&server, Some(&since), 5_000).await;
    assert_eq!(status, 200, "{answer}");
    drop(claims);
    wait_for("the sandboxes run", async || state(&server, "env-23").await == "running").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_notification_hides_no_change() {
    let fleet = Fleet::new(shared()).await;
    let (one, two) = (fleet.serve(), fleet.serve());
    fleet.ok(&one, "POST", "/sandboxes", json!({ "name": "env" })).await;
    // Every role that can connect may send it. The listener may not listen yet.
    for _ in 0..20 {
        let forged = format!("NOTIFY sandgate_commits, '{}'", i64::MAX);
        shared().run_sql(&fleet.database, &forged);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let since = revision(&two).await;
    let change = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fleet.ok(&one, "PATCH", "/sandboxes/env", json!({ "exposed_ports": [8080] })).await
    };
    let held = tokio::time::timeout(Duration::from_secs(20), poll(&two, Some(&since), 60_000));
    let (_, polled) = tokio::join!(change, held);
    let (status, feed) = polled.expect("the change ends the poll");
    assert!(status == 200 && feed.to_string().contains("env"), "{feed}");
    let recorded = shared().query(&fleet.database, "SELECT max(applied) < 9e18 FROM replicas");
    assert_eq!(recorded, ["t"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_egress_setting_is_refused_while_another_one_is_live() {
    let fleet = Fleet::new(shared()).await;
    let enforced = || {
        let mut command = fleet.serve_command();
        command.args(["--egress", "enforced"]);
        command
    };
    let servers = [fleet.serve(), fleet.serve()];
    let output = enforced().stderr(Stdio::piped()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && errors.contains("another `--egress`"), "{errors}");
    drop(servers);
    shared().run_sql(&fleet.database, "UPDATE replicas SET seen_at = seen_at - interval '1 min'");
    let three = Served::start(enforced());
    let output = fleet.serve_command().stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success(), "the servers have the other setting now");
    fleet.ok(&three, "GET", "/sandboxes", Value::Null).await;
}
