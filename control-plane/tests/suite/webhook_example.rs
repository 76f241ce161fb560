//! The webhook runtime of a real server with the example receiver of `docs/webhook.md`, and the signature example
//! of that page.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use sandgate::runtime::SigningKey;
use serde_json::{Value, json};

use super::command_line::{Installation, Served, exchange, secret};
use super::local_runtime::{is_running, started_processes};
use super::receiver::{Receiver, Reply, SECRET};

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// The example receiver as a process.
struct Platform {
    url: String,
    child: Child,
}

impl Platform {
    fn start(installation: &Installation, network: &str) -> Self {
        let mut child = Command::new("python3")
            .arg(format!("{DOCS}/examples/webhook_receiver.py"))
            .args(["--listen", "127.0.0.1:0", "--network", network])
            .arg("--secret-file")
            .arg(installation.path("webhook-secret"))
            .arg("--program")
            .arg(installation.path("sandbox.sh"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("ready: ").unwrap_or_else(|| panic!("{line:?}"));
        Self { url: url.to_owned(), child }
    }

    fn kill(&mut self) {
        // It may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(installation: &Installation, url: &str, more: &[&str]) -> Served {
    Served::start(serve_command(installation, url, more))
}

fn serve_command(installation: &Installation, url: &str, more: &[&str]) -> Command {
    let mut command = installation.serve_command();
    command.args(["--runtime", "webhook", "--webhook-url", url, "--sandbox-cidr", "127.93.0.0/16"]);
    command.args(["--webhook-timeout-ms", "3000"]).args(more);
    command.arg("--webhook-secret-file").arg(installation.path("webhook-secret"));
    command
}

fn installation_with_project() -> (Installation, String) {
    let installation = Installation::new();
    std::fs::write(installation.path("webhook-secret"), format!("{SECRET}\n")).unwrap();
    let (_, key) = installation.create_project();
    let key = secret(&key).to_owned();
    (installation, key)
}

#[tokio::test]
async fn the_example_receiver_runs_a_sandbox_through_its_life() {
    let (installation, key) = installation_with_project();
    let platform = Platform::start(&installation, "127.93.0.0/16");
    let served = serve(&installation, &platform.url, &[]);
    let call = async |method, path: &str, body| served.call(&key, method, path, body).await;
    let alive = || {
        started_processes(installation.dir.path()).iter().filter(|line| is_running(line)).count()
    };

    let (status, made) = call("POST", "/sandboxes", json!({ "name": "my-env" })).await;
    assert_eq!((status, &made["status"]), (200, &json!("running")), "{made}");
    let line = started_processes(installation.dir.path()).join("\n");
    let id = made["sandbox_id"].as_str().unwrap();
    assert!(line.contains(&format!("--id {id}")) && line.contains("--name my-env"), "{line}");
    assert!(line.contains("--address 127.93."), "{line}");
    let (status, info) = call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    assert_eq!((status, &info["status"], alive()), (200, &json!("suspended"), 0), "{info}");
    let (status, info) = call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    assert_eq!((status, &info["status"], alive()), (200, &json!("running"), 1), "{info}");
    // The owner gets the reason of the platform's refusal.
    let body = json!({ "name": "with-image", "image": "python" });
    let (status, error) = call("POST", "/sandboxes", body).await;
    assert_eq!((status, &error["code"]), (422, &json!("SANDBOX_REFUSED")), "{error}");
    assert!(error["error"].as_str().unwrap().contains("leave `image` out"), "{error}");
    let (status, _) = call("DELETE", "/sandboxes/my-env", Value::Null).await;
    assert_eq!(status, 200);
    let gone = async {
        while alive() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), gone).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_platform_is_reported_and_the_states_stay_correct() {
    let (installation, key) = installation_with_project();
    let mut platform = Platform::start(&installation, "127.93.0.0/16");
    let served = serve(&installation, &platform.url, &[]);
    let call = async |method, path: &str, body| served.call(&key, method, path, body).await;
    call("POST", "/sandboxes", json!({ "name": "my-env" })).await;
    call("POST", "/sandboxes/my-env/suspend", Value::Null).await;
    platform.kill();
    let (status, error) = call("POST", "/sandboxes", json!({ "name": "another" })).await;
    assert_eq!((status, &error["code"]), (503, &json!("SANDBOX_NOT_STARTED")), "{error}");
    let sentence = error["error"].as_str().unwrap();
    assert!(sentence.contains("platform") && sentence.contains("can't be reached"), "{sentence}");
    assert!(!sentence.contains("127.0.0.1"), "the operator's addresses are the operator's");
    let (status, error) = call("POST", "/sandboxes/my-env/resume", Value::Null).await;
    assert_eq!((status, &error["code"]), (503, &json!("SANDBOX_NOT_STARTED")), "{error}");
    let (_, all) = call("GET", "/sandboxes", Value::Null).await;
    let states: Vec<_> =
        all["sandboxes"].as_array().unwrap().iter().map(|info| &info["status"]).collect();
    assert_eq!(states, [&json!("suspended")], "{all}");
}

#[tokio::test]
async fn a_slow_platform_has_a_bounded_time_to_finish() {
    let (installation, key) = installation_with_project();
    let receiver = Receiver::default();
    let url = format!("http://{}/hook", receiver.listen().await);
    let served = serve(&installation, &url, &["--webhook-step-timeout-ms", "3000"]);
    let call = async |method, path: &str, body| served.call(&key, method, path, body).await;
    let reply = |status, body| Reply::Json(status, body);
    let pending = || reply(202, json!({ "state": "pending" }));
    let running = || reply(200, json!({ "state": "running", "address": "127.93.0.9" }));
    receiver.reply([pending(), pending(), running()]);
    let (status, made) = call("POST", "/sandboxes", json!({ "name": "slow" })).await;
    assert_eq!((status, &made["status"]), (200, &json!("running")), "{made}");
    // After the wait, the response has the current state, and the suspension continues. The platform finishes only after
    // the response, which may be late on a busy machine.
    let suspended = || reply(200, json!({ "state": "suspended" }));
    receiver.reply([pending()]);
    let (status, info) = call("POST", "/sandboxes/slow/suspend?wait_ms=500", Value::Null).await;
    assert_eq!((status, &info["status"]), (202, &json!("suspending")), "{info}");
    receiver.reply([suspended()]);
    let settled = async {
        while call("GET", "/sandboxes/slow", Value::Null).await.1["status"] != "suspended" {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), settled).await.unwrap();

    receiver.reply([pending()]);
    let before = receiver.calls().len();
    let (status, error) = call("POST", "/sandboxes", json!({ "name": "never" })).await;
    assert_eq!((status, &error["code"]), (503, &json!("SANDBOX_NOT_STARTED")), "{error}");
    assert!(error["error"].as_str().unwrap().contains("did not finish in time"), "{error}");
    let (status, _) = call("GET", "/sandboxes/never", Value::Null).await;
    assert_eq!(status, 404);
    // The platform must stop a sandbox that it may have started.
    let stopped = async {
        while !receiver.calls()[before..].iter().any(|call| call.body["action"] == "stop") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), stopped).await.unwrap();
    assert!(receiver.calls().iter().all(|call| call.genuine));
}

#[tokio::test]
async fn only_the_platform_gets_the_tokens_of_a_sidecar() {
    let (installation, key) = installation_with_project();
    let receiver = Receiver::default();
    let url = format!("http://{}/hook", receiver.listen().await);
    let log = installation.path("log");
    let mut command = serve_command(&installation, &url, &["--egress", "enforced"]);
    command.env("SANDGATE_LOG", "trace").stderr(std::fs::File::create(&log).unwrap());
    let served = Served::start(command);
    // The first attempt fails, because only failures are logged.
    let running = json!({ "state": "running", "address": "127.93.0.9" });
    receiver.reply([Reply::Json(500, json!({})), Reply::Json(200, running)]);
    let body = json!({ "name": "my-env", "network": { "allow_internet_access": false } });
    let (status, made) = served.call(&key, "POST", "/sandboxes", body).await;
    assert_eq!(status, 200, "{made}");
    let subject = receiver.calls().pop().unwrap().body["sandbox"].clone();
    let token = subject["sidecar_tokens"][0].as_str().unwrap();
    // The token permits reading the policy, which is not in the call because it changes without one.
    let path =
        |id: &Value| format!("/gateway/v1/sandboxes/{}/network-policy", id.as_str().unwrap());
    let (status, policy) =
        exchange(&served.gateway, token, "GET", &path(&subject["id"]), Value::Null).await;
    assert_eq!(status, 200, "{policy}");
    assert_eq!(policy["network_policy"]["allow_internet_access"], json!(false));
    assert_eq!(subject.get("network_policy"), None);
    // Neither the owner's response nor the log contains the token.
    assert!(!made.to_string().contains(token), "{made}");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.contains("the webhook failed") && !logged.contains(token), "{logged}");
}

#[tokio::test]
async fn the_example_receiver_refuses_sandboxes_that_need_a_sidecar() {
    let (installation, key) = installation_with_project();
    let platform = Platform::start(&installation, "127.93.0.0/16");
    let served = serve(&installation, &platform.url, &["--egress", "enforced"]);
    let (status, error) = served.call(&key, "POST", "/sandboxes", json!({})).await;
    assert_eq!((status, &error["code"]), (422, &json!("SANDBOX_REFUSED")), "{error}");
    assert!(error["error"].as_str().unwrap().contains("no sidecars"), "{error}");
    assert!(started_processes(installation.dir.path()).is_empty());
}

#[test]
fn the_signature_example_of_the_page_is_correct() {
    let page = std::fs::read_to_string(format!("{DOCS}/webhook.md")).unwrap();
    let value = |name: &str| {
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
        let mut cells = rows.filter_map(|row| row.split_once(" | "));
        let found =
            cells.find(|(cell, _)| *cell == name).unwrap_or_else(|| panic!("no row {name}"));
        found.1.trim_matches('`').to_owned()
    };
    let body = value("body");
    let call: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(call["action"], "start");
    let key = SigningKey::new(&value("secret")).unwrap();
    let timestamp = value("`X-Sandgate-Timestamp`").parse().unwrap();
    assert_eq!(key.sign(timestamp, body.as_bytes()), value("`X-Sandgate-Signature`"));
}
