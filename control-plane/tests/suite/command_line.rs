//! The program itself: the server as a process, and the management commands.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::local_runtime::{is_running, program, started_processes};
use super::stored::insert_lines;
use super::support::TOKEN;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandgate");
const SANDBOX_SCRIPT: &str = "echo ready; while read -r line; do :; done";

pub(crate) struct Installation {
    pub(crate) dir: TempDir,
    pub(crate) data: PathBuf,
    /// The process in whose namespaces the programs run.
    pub(crate) inside: Option<u32>,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        program(dir.path(), SANDBOX_SCRIPT);
        let data = dir.path().join("data");
        Self { dir, data, inside: None }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn program(&self) -> Command {
        let Some(process) = self.inside else { return Command::new(PROGRAM) };
        let mut command = Command::new("nsenter");
        command.args(["--user", "--mount", "--preserve-credentials", "--target"]);
        command.arg(process.to_string()).arg(PROGRAM);
        command
    }

    /// Runs a management command, and returns its JSON output.
    #[track_caller]
    pub(crate) fn manage(&self, arguments: &[&str]) -> Value {
        let output = self.try_manage(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {stderr}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn try_manage(&self, arguments: &[&str]) -> Output {
        let mut command = self.program();
        command.args(arguments).arg("--json").arg("--data-dir").arg(&self.data);
        command.output().unwrap()
    }

    #[track_caller]
    pub(crate) fn manage_error(&self, arguments: &[&str]) -> String {
        let output = self.try_manage(arguments);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.program();
        command
            .args(["serve", "--api-listen", "127.0.0.1:0", "--gateway-listen", "127.0.0.1:0"])
            .args(["--local-cidr", "127.92.0.0/16"])
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--gateway-token-file")
            .arg(self.path("token"))
            .arg("--local-program")
            .arg(self.path("sandbox.sh"))
            .env("SANDGATE_TEST_SECRET", "must not reach sandboxes")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn serve(&self) -> Served {
        Served::start(self.serve_command())
    }

    /// Creates an organization, a project and an API key. Returns the project's id and the key.
    pub(crate) fn create_project(&self) -> (String, Value) {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let organization = text(&self.manage(&["orgs", "create", "acme"])["id"]);
        let create = ["projects", "create", "web", "--organization", &organization];
        let project = text(&self.manage(&create)["id"]);
        let key = self.manage(&["keys", "create", "--project", &project, "--name", "ci"]);
        (project, key)
    }
}

pub(crate) struct Served {
    pub(crate) api: String,
    pub(crate) gateway: String,
    /// The URL of the admin API, if there is one.
    pub(crate) admin: Option<String>,
    /// The URL of the metrics' listener, if there is one.
    pub(crate) metrics: Option<String>,
    child: Child,
}

impl Served {
    /// Starts a server, and waits until it is ready.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        let [ready, "api", api, "gateway", gateway, ref others @ ..] = words[..] else {
            child.kill().unwrap();
            let mut stderr = String::new();
            child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
            panic!("{line:?}: {stderr}");
        };
        assert_eq!(ready, "ready:");
        let url = |name: &str| {
            let pair = others.chunks(2).find(|pair| pair[0] == name)?;
            Some(format!("http://{}", pair[1]))
        };
        let (admin, metrics) = (url("admin"), url("metrics"));
        Self { api: api.to_owned(), gateway: gateway.to_owned(), admin, metrics, child }
    }

    pub(crate) async fn call(
        &self,
        key: &str,
        method: &str,
        path: &str,
        body: Value,
    ) -> (u16, Value) {
        exchange(&self.api, key, method, path, body).await
    }

    /// Ends the server without giving it a chance to finish anything.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Begins a stop.
    pub(crate) fn terminate(&self) {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
    }

    /// Sends a signal, and waits until the server has ended. Returns its exit code.
    pub(crate) fn signal(&mut self, signal: &str) -> i32 {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap().code().unwrap_or(-1)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have been stopped already.
        self.kill();
    }
}

pub(crate) async fn exchange(
    base: &str,
    key: &str,
    method: &str,
    path: &str,
    body: Value,
) -> (u16, Value) {
    // The HTTP client requires a provider even for http. It can be installed only once in a process.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = client
        .request(method.parse().unwrap(), format!("{base}{path}"))
        .bearer_auth(key)
        .body(if body.is_null() { String::new() } else { body.to_string() });
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, serde_json::from_str(&response.text().await.unwrap()).unwrap())
}

pub(crate) fn secret(key: &Value) -> &str {
    key["secret"].as_str().unwrap()
}

async fn wait_for(what: &str, mut there: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !there().await {
        assert!(began.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn a_sandbox_lives_through_create_suspend_resume_restart_and_delete() {
    let installation = Installation::new();
    let (_, key) = installation.create_project();
    let mut served = installation.serve();
    let (key, key_id) = (secret(&key), &key["id"]);
    let (status, made) = served.call(key, "POST", "/sandboxes", json!({ "name": "my-env" })).await;
    assert_eq!((status, &made["status"]), (200, &json!("running")), "{made}");
    let address = async |served: &Served| {
        let path = "/gateway/v1/sandboxes/my-env";
        let (_, found) = exchange(&served.gateway, TOKEN, "GET", path, Value::Null).await;
        (
            found["address"].as_str().unwrap_or("none").to_owned(),
            found["generation"].as_u64().unwrap(),
        )
    };
    let first = address(&served).await;
    assert!(first.0.starts_with("127.92."), "{first:?}");
    let (status, _) = served.call(key, "POST", "/sandboxes/my-env/suspend", Value::Null).await;
    assert_eq!((status, address(&served).await.0.as_str()), (200, "none"));
    let (status, _) = served.call(key, "POST", "/sandboxes/my-env/resume", Value::Null).await;
    assert_eq!(status, 200);
    let second = address(&served).await;
    assert!(second.1 > first.1 && second.0 != first.0, "{first:?} {second:?}");

    assert_eq!(served.signal("-TERM"), 0);
    assert!(
        started_processes(installation.dir.path()).iter().all(|line| !is_running(line)),
        "nothing is left running"
    );
    let served = installation.serve();
    let third = address(&served).await;
    assert!(third.1 > second.1 && third.0.starts_with("127.92."), "{second:?} {third:?}");

    let expose = json!({ "exposed_ports": [8080] });
    served.call(key, "PATCH", "/sandboxes/my-env", expose).await;
    assert_eq!(
        installation.manage(&["audit", "my-env"])["port_changes"][0]["after"]["exposed_ports"],
        json!([8080])
    );
    let (status, _) = served.call(key, "DELETE", "/sandboxes/my-env", Value::Null).await;
    assert_eq!(status, 200);
    let id = made["sandbox_id"].as_str().unwrap();
    let log = installation.manage(&["audit", id]);
    let [opened, closed] = log["port_changes"].as_array().unwrap().as_slice() else {
        panic!("{log}");
    };
    assert_eq!((&opened["principal"], &opened["sandbox_id"]), (key_id, &json!(id)));
    assert_eq!(opened["before"]["exposed_ports"], json!([]));
    assert_eq!(
        closed["after"],
        json!({ "exposed_ports": [], "allow_unauthenticated_access": false })
    );
    let of_all = installation.manage(&["audit"]);
    assert_eq!(of_all["port_changes"], log["port_changes"], "of all sandboxes");
    let operators = of_all["operator_changes"].as_array().unwrap();
    let operators: Vec<_> = operators.iter().map(|it| (&it["action"], &it["principal"])).collect();
    let [organization, project, made] =
        ["create organization", "create project", "create key"].map(|action| json!(action));
    let by = json!("command line");
    assert_eq!(operators, [(&organization, &by), (&project, &by), (&made, &by)]);
    assert!(installation.manage_error(&["audit", "my-env"]).contains("by its id"));
    wait_for("its process ends", async || {
        started_processes(installation.dir.path()).iter().all(|line| !is_running(line))
    })
    .await;
    let leaked =
        started_processes(installation.dir.path()).iter().any(|line| line.contains("must not"));
    assert!(!leaked, "the server's environment stays with it");
}

#[test]
fn a_long_audit_log_is_printed_completely_also_to_a_closed_pipe() {
    let installation = Installation::new();
    installation.create_project();
    let id = sandgate::random::sandbox_id().unwrap();
    insert_lines(&installation.data.join("sandgate.db"), &id, 1_200);
    let log = installation.manage(&["audit", id.as_str()]);
    let principals: Vec<_> = log["port_changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["principal"].clone())
        .collect();
    assert_eq!(principals, (1..=1_200).map(|n| json!(format!("key_{n}"))).collect::<Vec<_>>());
    assert_eq!(log["network_changes"], json!([]));
    let mut command = Command::new(PROGRAM);
    command.arg("audit").arg("--data-dir").arg(&installation.data).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let (heading, line) = (lines.next().unwrap(), lines.next().unwrap());
    assert!(heading.starts_with("TIME ") && heading.contains("PRINCIPAL"), "{heading}");
    assert!(line.contains("key_1") && line.starts_with("1970-01-01T00:00:0"), "{line}");
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[tokio::test]
async fn sandboxes_end_with_a_killed_server_and_run_again_after_its_restart() {
    let installation = Installation::new();
    let (_, key) = installation.create_project();
    let mut served = installation.serve();
    served.call(secret(&key), "POST", "/sandboxes", json!({ "name": "my-env" })).await;
    served.signal("-KILL");
    wait_for("they end with it", async || {
        started_processes(installation.dir.path()).iter().all(|line| !is_running(line))
    })
    .await;
    let served = installation.serve();
    let (_, info) = served.call(secret(&key), "GET", "/sandboxes/my-env", Value::Null).await;
    assert_eq!(info["status"], "running");
}

#[tokio::test]
async fn a_sandbox_that_exits_is_suspended_with_a_name_and_terminated_without() {
    let installation = Installation::new();
    let (_, key) = installation.create_project();
    let served = installation.serve();
    let key = secret(&key);
    served.call(key, "POST", "/sandboxes", json!({ "name": "my-env" })).await;
    let (_, made) = served.call(key, "POST", "/sandboxes", json!({})).await;
    let nameless = format!("/sandboxes/{}", made["sandbox_id"].as_str().unwrap());
    for line in started_processes(installation.dir.path()) {
        let pid = line.split(' ').next().unwrap();
        Command::new("kill").args(["-9", pid]).status().unwrap();
    }
    wait_for("the named one is suspended", async || {
        served.call(key, "GET", "/sandboxes/my-env", Value::Null).await.1["status"] == "suspended"
    })
    .await;
    wait_for("the other is gone", async || {
        served.call(key, "GET", &nameless, Value::Null).await.0 == 404
    })
    .await;
    let (status, info) = served.call(key, "POST", "/sandboxes/my-env/resume", Value::Null).await;
    assert_eq!((status, &info["status"]), (200, &json!("running")));
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_by_commands_apply_immediately_to_the_running_server() {
    let installation = Installation::new();
    let served = installation.serve();
    let (project, key) = installation.create_project();
    let (status, _) = served.call(secret(&key), "GET", "/sandboxes", Value::Null).await;
    assert_eq!(status, 200);
    let since = exchange(&served.gateway, TOKEN, "GET", "/gateway/v1/changes", Value::Null).await;
    let path = format!(
        "/gateway/v1/changes?wait_ms=20000&since={}",
        since.1["revision"].as_str().unwrap()
    );
    let gateway = served.gateway.clone();
    let heard = tokio::spawn(async move {
        let answer = exchange(&gateway, TOKEN, "GET", &path, Value::Null).await;
        answer.1
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let id = key["id"].as_str().unwrap();
    let revoked = installation.manage(&["keys", "revoke", id]);
    assert!(revoked["revoked_at"].is_i64());
    let changes = heard.await.unwrap();
    assert_eq!(changes["changes"], json!([{ "kind": "principal", "id": id }]));
    let (status, _) = served.call(secret(&key), "GET", "/sandboxes", Value::Null).await;
    assert_eq!(status, 401);
    installation.manage(&["members", "add", "--user", "ann@example.com", "--project", &project]);
}

#[tokio::test(flavor = "multi_thread")]
async fn personal_access_tokens_have_the_prefix_that_the_operator_sets() {
    let installation = Installation::new();
    let option = ["--personal-access-token-prefix", "acme_pat"];
    let mut serve = installation.serve_command();
    serve.args(option);
    let served = Served::start(serve);
    let (project, _) = installation.create_project();
    installation.manage(&["members", "add", "--user", "ann@example.com", "--project", &project]);
    let create = ["keys", "create", "--kind", "pat", "--user", "ann@example.com"];
    let pat = installation.manage(&[&create[..], &option].concat());
    assert!(secret(&pat).starts_with("acme_pat_"));
    // Only a personal access token needs the headers that name a project.
    let (status, answer) = served.call(secret(&pat), "GET", "/sandboxes", Value::Null).await;
    assert_eq!((status, &answer["code"]), (400, &json!("PROJECT_CONTEXT_REQUIRED")));
    let organization = installation.manage(&["orgs", "list"])["organizations"][0]["id"].clone();
    let body = json!({
        "kind": "personal_access_token", "secret": secret(&pat),
        "organization_id": organization, "project_id": project,
    });
    let path = "/gateway/v1/credentials/introspect";
    let (_, answer) = exchange(&served.gateway, TOKEN, "POST", path, body).await;
    assert_eq!(answer["identity"]["project_ids"], json!([project]));
    // A token with another prefix is treated as an API key, which does not exist.
    let other = installation.manage(&create);
    let (status, _) = served.call(secret(&other), "GET", "/sandboxes", Value::Null).await;
    assert_eq!(status, 401);
    for prefix in ["tl_", "acme pat"] {
        let error = installation.manage_error(&[&create[..], &[option[0], prefix]].concat());
        assert!(error.contains(prefix), "{error}");
    }
}

#[test]
fn management_prints_one_object_and_shows_a_secret_only_once() {
    let installation = Installation::new();
    let (project, key) = installation.create_project();
    assert!(secret(&key).starts_with("tl_apiKey_") && secret(&key).len() >= 64);
    let member = installation.manage(&[
        "members",
        "add",
        "--user",
        "ann@example.com",
        "--project",
        &project,
    ]);
    let create =
        ["keys", "create", "--kind", "pat", "--user", "ann@example.com", "--expires-in", "30d"];
    let pat = installation.manage(&create);
    assert!(secret(&pat).starts_with("tl_pat"));
    let span = pat["expires_at"].as_i64().unwrap() - pat["created_at"].as_i64().unwrap();
    assert_eq!(span, 30 * 24 * 60 * 60 * 1_000);
    let session =
        installation.manage(&["keys", "create", "--kind", "session", "--user", "ann@example.com"]);
    assert!(secret(&session).starts_with("tl_"));
    assert_eq!(session["user_id"], member["user_id"]);
    let all = installation.manage(&["keys", "list"]);
    let kinds: Vec<_> =
        all["keys"].as_array().unwrap().iter().map(|key| key["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["api_key", "pat", "session"]);
    for secret in [secret(&key), secret(&pat), secret(&session)] {
        assert!(!all.to_string().contains(secret));
    }
    assert_eq!(installation.manage(&["orgs", "list"])["organizations"][0]["name"], "acme");
    assert_eq!(installation.manage(&["projects", "list"])["projects"][0]["id"], json!(project));
    let members = installation.manage(&["members", "list", "--project", &project]);
    assert_eq!(members["members"][0]["user"], "ann@example.com");
    installation.manage(&["members", "remove", "--user", "ann@example.com", "--project", &project]);
    assert_eq!(installation.manage(&["members", "list"])["members"], json!([]));
}

#[test]
fn errors_of_commands_are_a_sentence_with_a_remedy() {
    let installation = Installation::new();
    let (project, _) = installation.create_project();
    for (arguments, named) in [
        (&["orgs", "create", "acme"][..], "already"),
        (&["projects", "create", "x", "--organization", "org_x"], "org_x"),
        (&["keys", "create", "--kind", "pat", "--user", "bob"], "members add --user bob"),
        (&["keys", "create", "--project", "project_x"], "project_x"),
        (&["keys", "create", "--project", &project, "--expires-in", "soon"], "30d"),
        (&["keys", "create"], "--project"),
        (&["keys", "revoke", "key_x"], "key_x"),
        (&["members", "remove", "--user", "bob", "--project", &project], "bob"),
        (&["orgs", "create", ""], "1 to 200"),
    ] {
        let stderr = installation.manage_error(arguments);
        assert!(stderr.contains(named), "{arguments:?}: {stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn the_nodes_of_a_remote_server_are_not_asked_for_in_plain_text() {
    let installation = Installation::new();
    let list = |url: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["xds", "nodes", "--gateway-url", url, "--gateway-token-file"]);
        let output = command.arg(installation.path("token")).output().unwrap();
        assert!(!output.status.success(), "{url}");
        String::from_utf8(output.stderr).unwrap()
    };
    let error = list("http://192.0.2.1:8901");
    assert!(error.contains("--gateway-url") && error.contains("is not https://"), "{error}");
    // Nobody listens on this port of this machine.
    assert!(!list("http://127.0.0.1:9").contains("is not https://"));
}

#[test]
fn a_bootstrap_names_all_servers_and_with_tls_the_name_that_they_have() {
    let installation = Installation::new();
    let path = |name: &str| installation.path(name).display().to_string();
    std::fs::write(path("key"), "0123456789abcdef0123456789abcdef\n").unwrap();
    let state = format!(
        "version: 1\nedge:\n  domain: sandbox.example.com\n  sandbox_network: 10.64.0.0/16\n  \
         control_plane_address: cp.internal\n  gateway_token_file: {}\n",
        path("token")
    );
    std::fs::write(path("state.yaml"), state).unwrap();
    let bootstrap = |hosts: &str, more: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(["bootstrap", "edge", "--node", "edge-1", "--xds-port", "8902"]);
        command.args(["--xds-state", &path("state.yaml"), "--xds-key-file", &path("key")]);
        let output = command.args(["--xds-host", hosts]).args(more).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
    };
    let tls = ["--tls-ca", "/ca.crt", "--tls-cert", "/edge.crt", "--tls-key", "/edge.key"];
    let named = [&tls[..], &["--xds-name", "cp.internal"]].concat();
    let printed = bootstrap("cp-1.internal, cp-2.internal", &named).unwrap();
    let printed: Value = serde_json::from_str(&printed).unwrap();
    let cluster = &printed["static_resources"]["clusters"][0];
    let endpoints = &cluster["load_assignment"]["endpoints"];
    for (priority, host) in ["cp-1.internal", "cp-2.internal"].into_iter().enumerate() {
        let endpoint = &endpoints[priority];
        assert_eq!(endpoint["priority"], priority);
        let socket = &endpoint["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
        assert_eq!(*socket, json!({ "address": host, "port_value": 8902 }));
    }
    assert_eq!(cluster["transport_socket"]["typed_config"]["sni"], "cp.internal");

    let error = |hosts, more| bootstrap(hosts, more).unwrap_err();
    assert!(error("cp-1.internal,cp-2.internal", &tls).contains("--xds-name"));
    assert!(error("127.0.0.1,cp-2.internal", &[]).contains("set --tls-ca"));
    assert!(error("127.0.0.1,127.0.0.1", &[]).contains("a host twice"));
    bootstrap("127.0.0.1,127.0.0.2", &[]).unwrap();
}

#[test]
fn the_former_sidecar_command_names_the_new_program() {
    for options in [&["sidecar"][..], &["sidecar", "--mode", "shared"], &["sidecar", "--help"]] {
        let output = Command::new(PROGRAM).args(options).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.starts_with("error: ") && error.contains("`sandgate-sidecar`"), "{error}");
    }
}

fn refused(mut command: Command) -> String {
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("the server started");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_server_that_cannot_start_reports_the_reason_and_a_remedy() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let installation = Installation::new();
    for option in ["--api-listen", "--gateway-listen"] {
        let mut command = Command::new(PROGRAM);
        let other = if option == "--api-listen" { "--gateway-listen" } else { "--api-listen" };
        command.args(["serve", option, &address, other, "127.0.0.1:0"]);
        command.arg("--data-dir").arg(installation.path("data"));
        command.arg("--gateway-token-file").arg(installation.path("token"));
        command.arg("--local-program").arg(installation.path("sandbox.sh"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let stderr = refused(command);
        assert!(stderr.contains(&format!("{option} {address}")), "{stderr}");
        assert!(stderr.contains("in use"), "{stderr}");
    }
    std::fs::write(installation.path("token"), "short").unwrap();
    let stderr = refused(installation.serve_command());
    assert!(stderr.contains("16 visible"), "{stderr}");
    std::fs::remove_file(installation.path("token")).unwrap();
    let stderr = refused(installation.serve_command());
    assert!(stderr.contains("openssl rand"), "{stderr}");
}

/// A command with the limit of open files that a shell sets for it.
fn with_files(command: &Command, limit: &str) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit {limit} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    limited.stdout(Stdio::piped()).stderr(Stdio::piped());
    limited
}

#[test]
fn a_server_raises_its_limit_of_open_files_or_does_not_start() {
    let installation = Installation::new();
    let mut command = installation.serve_command();
    command.args(["--api-connections", "10", "--gateway-connections", "10", "--sidecars", "80"]);
    let stderr = refused(with_files(&command, "-n 611"));
    assert!(stderr.contains("need 612 open files") && stderr.contains("may have 611"), "{stderr}");
    assert!(stderr.contains("--sidecars") && stderr.contains("ulimit"), "{stderr}");
    // The server raises its soft limit itself.
    let served = Served::start(with_files(&command, "-Sn 100"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", served.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().nth(3), Some("612"), "{files}");
}

#[tokio::test]
async fn two_servers_do_not_share_a_data_directory() {
    let installation = Installation::new();
    let _served = installation.serve();
    let stderr = refused(installation.serve_command());
    assert!(stderr.contains("a server runs on") && stderr.contains("--database"), "{stderr}");
}

#[test]
fn only_the_servers_user_can_read_the_data_directory() {
    use std::os::unix::fs::PermissionsExt as _;
    let installation = Installation::new();
    installation.create_project();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&installation.path("data")), 0o700);
}
