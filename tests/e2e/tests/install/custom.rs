//! A control plane of another platform: the example in Python, and the conformance test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use http::StatusCode;
use sandgate_e2e::{Setup, TOKEN, run};
use sandgate_stack::files::write_private;
use sandgate_stack::{Process, artifacts};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::envoy::{Envoy, versions};
use crate::values::{Values, file, yaml};

const EXAMPLE: &str = "deploy/install/custom/control_plane.py";
const KEY: &str = "tl_example_key_0123456789";

/// The example, or a changed copy of it.
struct Example {
    gateway: String,
    platform: String,
    folder: tempfile::TempDir,
    _process: Process,
}

impl Example {
    async fn start(text: &str, state: &str) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tokens = format!("# comment-of-the-file\n\n{TOKEN}\n");
        let command = command(folder.path(), text, state, &tokens)?;
        let mut process = Process::start("the example", &command, &folder.path().join("log"))?;
        let ready = process.until("was not ready", Duration::from_secs(30), async |process| {
            let output = process.output();
            let address = |api: &str| {
                let line = output.lines().find_map(|it| it.strip_prefix(&format!("ready: {api} ")));
                line.map(str::to_owned)
            };
            Ok(address("GatewayApi").zip(address("PlatformApi")))
        });
        let (gateway, platform) = ready.await?;
        Ok(Self { gateway, platform, folder, _process: process })
    }

    /// Status and body of a call.
    async fn call(&self, method: &str, url: &str, token: Option<&str>) -> Result<(String, String)> {
        let mut command = tokio::process::Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", "30", "-w", "\n%{http_code}"]);
        command.args(["-X", method, url]);
        if let Some(token) = token {
            command.args(["-H", &format!("Authorization: Bearer {token}")]);
        }
        if method == "PATCH" {
            command.args(["-d", r#"{"exposed_ports": [8081]}"#]);
        }
        let output = command.kill_on_drop(true).output().await?;
        let text = String::from_utf8(output.stdout)?;
        let (body, status) = text.rsplit_once('\n').context("no status")?;
        Ok((status.to_owned(), body.to_owned()))
    }

    /// What `sandgate conformance` prints, and whether all checks passed.
    async fn conforms(&self) -> Result<(bool, String)> {
        let call = |method: &str, path: &str, body: &str| {
            format!(
                "curl -sf --noproxy '*' -H 'Authorization: Bearer {TOKEN}' -X {method} {}/{path} -d '{body}'",
                self.platform
            )
        };
        let change = call("PATCH", "sandboxes/hello", r#"{"exposed_ports": [8080, '$NUMBER']}"#);
        let relocate = call("PATCH", "sandboxes/hello", r#"{"address": "127.64.0.2"}"#);
        let revoke = call("DELETE", "principals/key-1", "");
        let file = |name: &str| self.folder.path().join(name);
        let more = ["--change", &change, "--relocate", &relocate, "--revoke", &revoke];
        conformance(&self.gateway, &file("tokens"), "hello", &file("key"), &more).await
    }
}

/// The command that starts the example with these files, which this function writes.
fn command(folder: &Path, text: &str, state: &str, tokens: &str) -> Result<Command> {
    let path = |name: &str| folder.join(name);
    for (name, text) in
        [("control_plane.py", text), ("state.json", state), ("tokens", tokens), ("key", KEY)]
    {
        write_private(&path(name), text)?;
    }
    let mut command = Command::new("python3");
    command.arg(path("control_plane.py")).arg(path("state.json")).arg(path("tokens"));
    command.args(["0", "0"]);
    Ok(command)
}

async fn conformance(
    url: &str,
    tokens: &Path,
    sandbox: &str,
    key: &Path,
    more: &[&str],
) -> Result<(bool, String)> {
    let mut command = tokio::process::Command::new(artifacts::program("sandgate")?);
    command.args(["conformance", "--url", url, "--sandbox", sandbox]);
    command.arg("--token-file").arg(tokens).arg("--credential-file").arg(key).args(more);
    let output = command.kill_on_drop(true).output().await?;
    let text = String::from_utf8(output.stdout)?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.success(), text + &error))
}

fn state() -> Result<String> {
    file("deploy/install/custom/state.json")
}

fn in_runtime(test: impl Future<Output = Result<()>>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(test).unwrap();
}

#[test]
fn the_example_is_short_and_conforms() {
    let text = file(EXAMPLE).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines < 150, "{lines} lines that are not blank");
    in_runtime(async {
        let example = Example::start(&text, &state()?).await?;
        let (passed, output) = example.conforms().await?;
        ensure!(passed, "{output}");
        ensure!(output.contains("25 passed, 0 failed, 0 not run"), "{output}");
        Ok(())
    });
}

/// A part of the example, what a careless implementation has in its place, and the beginning of the sentence that finds it.
const BROKEN: [(&str, &str, &str); 10] = [
    ("raise Refusal(401,", "str(401,", "a call without a token gets 401"),
    (
        "        self.send_header(\"x-sandgate-control-plane\", \"v1\")",
        "        if status == 200: self.send_header(\"x-sandgate-control-plane\", \"v1\")",
        "every response has the marker header",
    ),
    (
        "sorted({one[\"id\"], one.get(\"name\"), before.get(\"name\")} - {None})",
        "[one[\"id\"]]",
        "a held poll is answered when a sandbox changes",
    ),
    (
        "one[\"generation\"] += one[\"state\"] == \"running\" and moved",
        "pass",
        "a sandbox that gets an address has a greater generation",
    ),
    (
        "if epoch == self.epoch and number.isdecimal() and int(number) <= self.newest else None",
        "if number.isdecimal() else None",
        "a revision that the server has never given",
    ),
    (
        "self.turn.wait_for(lambda: self.newest > known, wait)",
        "pass",
        "a poll without a change is held",
    ),
    (
        "self.turn.wait_for(is_applied, ACKNOWLEDGE_WITHIN)",
        "pass",
        "a change is acknowledged when its watchers have applied it",
    ),
    (
        "changes = [] if reset or known == self.newest else",
        "changes = [] if reset or not wait else",
        "each watcher learns of a change",
    ),
    ("if one[\"principal\"] != principal]", "]", "a revoked credential has no identity"),
    ("and one[\"kind\"] == kind", "", "a credential has no identity under another kind"),
];

#[test]
fn the_conformance_test_finds_each_fault_of_a_careless_implementation() {
    let text = file(EXAMPLE).unwrap();
    in_runtime(async {
        let each = BROKEN.iter().map(async |(part, broken, sentence)| {
            ensure!(text.matches(part).count() == 1, "the example has not `{part}` once");
            let example = Example::start(&text.replace(part, broken), &state()?).await?;
            let (passed, output) = example.conforms().await?;
            ensure!(!passed, "{part}: {output}");
            ensure!(output.contains(&format!("FAILED   {sentence}")), "{part}: {output}");
            Ok(())
        });
        try_join_all(each).await.map(drop)
    });
}

/// The API of the platform is on loopback, which any program of the machine and, by DNS rebinding, a page in a browser reaches.
#[test]
fn only_a_patch_or_a_delete_with_a_token_changes_the_example() {
    in_runtime(async {
        let example = Example::start(&file(EXAMPLE)?, &state()?).await?;
        let url = |path: &str| format!("{}/{path}", example.platform);
        let revision = async || {
            let url = format!("{}/gateway/v1/changes", example.gateway);
            let (_, body) = example.call("GET", &url, Some(TOKEN)).await?;
            let body: Value = serde_json::from_str(&body)?;
            body["revision"].as_str().map(str::to_owned).context("no revision")
        };
        let before = revision().await?;
        let changes = [("PATCH", "sandboxes/hello"), ("DELETE", "principals/key-1")];
        // The last ones are words of the comment in the file of the tokens.
        for token in [None, Some("wrong-token-0123456789"), Some("#"), Some("comment-of-the-file")]
        {
            for (method, path) in changes {
                let (status, body) = example.call(method, &url(path), token).await?;
                ensure!(status == "401", "{method} {path} {token:?}: {status} {body}");
            }
        }
        for (method, path) in [
            ("GET", "sandboxes/hello"),
            ("POST", "sandboxes/hello"),
            ("DELETE", "sandboxes/hello"),
            ("PATCH", "hello"),
        ] {
            let (status, body) = example.call(method, &url(path), Some(TOKEN)).await?;
            ensure!(status == "404", "{method} {path}: {status} {body}");
        }
        ensure!(revision().await? == before, "something has changed");
        for (method, path) in changes {
            let (status, body) = example.call(method, &url(path), Some(TOKEN)).await?;
            ensure!(status == "200", "{method} {path}: {status} {body}");
        }
        ensure!(revision().await? != before, "nothing has changed");
        Ok(())
    });
}

#[test]
fn the_example_does_not_start_with_a_token_that_can_be_guessed() {
    in_runtime(async {
        for tokens in ["", "# 0123456789abcdef\n", "short\n", "0123456789abcdef\nshort\n"] {
            let folder = tempfile::tempdir()?;
            let start = command(folder.path(), &file(EXAMPLE)?, &state()?, tokens)?;
            let mut start = tokio::process::Command::from(start);
            let output = start.kill_on_drop(true).output();
            let output = tokio::time::timeout(Duration::from_secs(60), output).await;
            let output = output.with_context(|| format!("it runs with {tokens:?}"))??;
            let error = String::from_utf8_lossy(&output.stderr);
            ensure!(!output.status.success() && error.contains("at least 16"), "{error}");
        }
        Ok(())
    });
}

#[test]
fn a_check_that_could_not_run_is_not_passed() {
    in_runtime(async {
        let example = Example::start(&file(EXAMPLE)?, &state()?).await?;
        let path = |name: &str| example.folder.path().join(name);
        let (url, none) = (&example.gateway, ["--without-sidecars"]);
        let (passed, output) =
            conformance(url, &path("tokens"), "hello", &path("key"), &none).await?;
        ensure!(!passed && output.contains("16 passed, 0 failed, 9 not run"), "{output}");
        Ok(())
    });
}

#[test]
fn the_control_plane_of_this_tree_conforms() {
    run(Setup { envoys: 0, ..Setup::default() }, async |stack| {
        let sandbox = stack.my_env().await?;
        let folder = tempfile::tempdir()?;
        let [tokens, key] = ["tokens", "key"].map(|name| folder.path().join(name));
        write_private(&tokens, TOKEN)?;
        write_private(&key, stack.key())?;
        let api = format!("http://{}", stack.api().address());
        let call = |method: &str, path: &str, body: &str| {
            format!(
                "curl -sf --noproxy '*' -H \"Authorization: Bearer $(cat {})\" -H 'Content-Type: application/json' \
                 -X {method} {api}/sandboxes/{}{path} -d '{body}'",
                key.display(),
                sandbox.id
            )
        };
        let change = call("PATCH", "", r#"{"exposed_ports": [8080, '$NUMBER']}"#);
        let relocate = format!(
            "{} && sleep 1 && {}",
            call("POST", "/suspend", ""),
            call("POST", "/resume", "")
        );
        let data = stack.control_plane.log().with_file_name("data");
        let sandgate = artifacts::program("sandgate")?;
        let keys = stack.control_plane.manage(&["keys", "list"])?;
        let id = keys["keys"].as_array().into_iter().flatten().find(|it| it["kind"] == "api_key");
        let id = id.and_then(|it| it["id"].as_str()).context("no key")?.to_owned();
        let revoke =
            format!("{} keys revoke {id} --data-dir {}", sandgate.display(), data.display());
        let url = format!("http://{}", stack.control_plane.gateway().address());
        let more = ["--change", &change, "--relocate", &relocate, "--revoke", &revoke];
        let (passed, output) = conformance(&url, &tokens, "my-env", &key, &more).await?;
        ensure!(passed && output.contains("25 passed, 0 failed, 0 not run"), "{output}");
        Ok(())
    });
}

/// Answers each connection with one response.
async fn serve(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).await;
        let response = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\nconnection: close\r\n\r\nhello\n";
        let _ = stream.write_all(response.as_bytes()).await;
    }
}

#[test]
fn an_envoy_serves_with_the_example_as_its_control_plane() {
    in_runtime(async {
        let sandbox = TcpListener::bind("127.0.0.1:0").await?;
        let port = sandbox.local_addr()?.port();
        tokio::spawn(serve(sandbox));
        let mut state: Value = serde_json::from_str(&state()?)?;
        state["sandboxes"][0]["address"] = json!("127.0.0.1");
        state["sandboxes"][0]["exposed_ports"] = json!([port]);
        let example = Example::start(&file(EXAMPLE)?, &state.to_string()).await?;
        let gateway_port = example.gateway.rsplit(':').next().context("no port")?.parse()?;
        let values = Values::new(gateway_port, "127.0.0.1".to_owned(), 32)?;
        // Python's server has no HTTP/2.
        let mut bootstrap = yaml("deploy/install/envoy/static.yaml")?;
        let text = bootstrap.to_string();
        let http2 = r#"{"http2_protocol_options":{"connection_keepalive":{"interval":"5s","timeout":"3s"}}}"#;
        ensure!(text.matches(http2).count() == 1, "the cluster of the gateway API is another one");
        bootstrap = serde_json::from_str(&text.replace(http2, r#"{"http_protocol_options":{}}"#))?;
        values.put_into(&mut bootstrap);
        let program: PathBuf = versions()?.into_iter().next().context("no Envoy")?;
        let envoy = Envoy::start(&program, values.folder.path(), &bootstrap).await?;
        let client = envoy.client("ingress")?;
        let host = format!("{port}-hello.sandbox.localhost");
        let allowed = client.get(&host, "/").bearer(KEY).send().await?;
        ensure!(allowed.status == StatusCode::OK, "{} {}", allowed.text(), envoy.output());
        ensure!(client.get(&host, "/").send().await?.denial()? == "401 UNAUTHENTICATED");
        let other = client.get("1-hello.sandbox.localhost", "/").bearer(KEY).send().await?;
        ensure!(other.denial()? == "403 PORT_NOT_EXPOSED");
        Ok(())
    });
}
