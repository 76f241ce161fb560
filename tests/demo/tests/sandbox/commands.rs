//! Commands: the calls of the management API that start and control processes, and the attacks on
//! them.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Api, PATIENCE, processes_with};

/// What a run printed, and its last event.
fn outcome(events: &[Value]) -> (String, String, Value) {
    let of = |stream: &str| {
        let lines = events.iter().filter(|event| event["stream"] == stream);
        let text = lines.map(|event| {
            let parts = [&event["line"], &event["line_ending"]];
            parts.map(|part| part.as_str().unwrap_or_default()).concat()
        });
        text.collect::<String>()
    };
    (of("stdout"), of("stderr"), events.last().cloned().unwrap_or_default())
}

async fn run(api: &Api, spec: Value) -> anyhow::Result<(String, String, Value)> {
    let events = api.events("POST", "/processes/run", spec.to_string().as_bytes()).await?;
    let is_start = |event: &Value| event["pid"].is_u64() && event["started_at"].is_u64();
    anyhow::ensure!(events.first().is_some_and(is_start), "{events:?}");
    Ok(outcome(&events))
}

async fn shell(api: &Api, script: &str) -> anyhow::Result<(String, String, Value)> {
    run(api, json!({ "command": "sh", "args": ["-c", script] })).await
}

/// Waits until the condition holds.
async fn until(what: &str, holds: impl Fn() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let started = Instant::now();
    while !holds()? {
        anyhow::ensure!(started.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_run_streams_both_outputs_and_how_it_ended() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let script = "echo out; echo err >&2; printf partial; exit 3";
    let (stdout, stderr, end) = shell(&api, script).await?;
    assert_eq!((stdout.as_str(), stderr.as_str()), ("out\npartial", "err\n"));
    assert_eq!(end, json!({ "exit_code": 3, "reason": "exited" }));
    let (_, _, end) = shell(&api, "kill -TERM $$").await?;
    assert_eq!(end, json!({ "signal": 15, "reason": "signaled" }));
    let slow = json!({ "command": "sleep", "args": ["600"], "timeout": 0.2 });
    assert_eq!(run(&api, slow).await?.2, json!({ "signal": 9, "reason": "timed_out" }));
    Ok(())
}

#[tokio::test]
async fn a_run_has_the_requested_variables_and_folder_and_no_others() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let home = api.directory();
    let (stdout, _, _) = run(&api, json!({ "command": "env", "env": { "A": "b c" } })).await?;
    let mut names: Vec<_> = stdout.lines().filter_map(|line| line.split('=').next()).collect();
    names.sort_unstable();
    // Nothing of this process: an operator's tokens may be in its environment.
    assert_eq!(names, ["A", "HOME", "LANG", "PATH", "SANDGATE_DEMO_COMMAND", "TMPDIR"]);
    assert!(stdout.contains("A=b c\n") && stdout.contains(&format!("HOME={home}\n")), "{stdout}");
    assert_eq!(run(&api, json!({ "command": "pwd" })).await?.0, format!("{home}\n"));
    let elsewhere = json!({ "command": "pwd", "working_dir": "/" });
    assert_eq!(run(&api, elsewhere).await?.0, "/\n");
    Ok(())
}

#[tokio::test]
async fn a_command_that_can_not_start_is_refused_with_the_reason() -> anyhow::Result<()> {
    let api = Api::start().await?;
    for (spec, code, reason) in [
        (json!({ "command": "no-such-program" }), "COMMAND_NOT_FOUND", "`no-such-program`"),
        (json!({ "command": "a", "working_dir": "/none" }), "BAD_REQUEST", "`/none`"),
        (json!({ "command": "a\u{0}b" }), "COMMAND_NOT_STARTED", "nul"),
        (json!({ "command": "true", "user": "root" }), "BAD_REQUEST", "`user`"),
        (json!({ "command": "true", "timeout": 0 }), "BAD_REQUEST", "`timeout`"),
    ] {
        for path in ["/processes/run", "/processes"] {
            let refused = api.call("POST", path, spec.to_string().as_bytes()).await?;
            assert_eq!((refused.status, &refused.json()?["code"]), (400, &json!(code)), "{spec}");
            let error = refused.json()?["error"].to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn requests_that_did_not_pass_the_edge_are_refused() -> anyhow::Result<()> {
    let api = Api::start().await?;
    for call in [
        "POST /processes/run",
        "POST /processes",
        "GET /processes",
        "DELETE /processes/1",
        "GET /files?path=/etc/hostname",
        "PUT /files?path=/tmp/a",
        "GET /files/list?path=/",
        "GET /processes/none",
        "GET /files/none",
        // What a browser asks before a request to another origin with this header field.
        "OPTIONS /processes/run",
    ] {
        let (method, path) = call.split_once(' ').unwrap();
        for project in ["", "X-Forwarded-Project-Id: project_other\r\n"] {
            let refused = api.send(method, path, project, b"{\"command\":\"true\"}").await?;
            assert_eq!((refused.status, &refused.json()?["code"]), (403, &json!("FORBIDDEN")));
            assert!(refused.header("access-control-allow-origin").is_empty());
        }
    }
    Ok(())
}

#[tokio::test]
async fn without_the_option_there_are_no_commands_and_files() -> anyhow::Result<()> {
    let api = Api::without_commands().await?;
    for (method, path) in [("POST", "/processes/run"), ("GET", "/files?path=/etc/hostname")] {
        let refused = api.call(method, path, b"{\"command\":\"true\"}").await?;
        assert_eq!((refused.status, &refused.json()?["code"]), (501, &json!("COMMANDS_OFF")));
    }
    Ok(())
}

#[tokio::test]
async fn a_process_that_holds_the_pipes_open_neither_delays_nor_outlives_a_run()
-> anyhow::Result<()> {
    let api = Api::start().await?;
    for (mark, script) in [
        ("60011", "sleep 60011 & echo started"),
        ("60012", "setsid sleep 60012 & echo started"),
        ("60013", "(setsid sh -c 'setsid sleep 60013 & sleep 60013' &) ; echo started"),
    ] {
        let (stdout, _, end) = shell(&api, script).await?;
        assert_eq!((stdout.as_str(), &end["exit_code"]), ("started\n", &json!(0)), "{script}");
        assert_eq!(processes_with(mark)?, Vec::<String>::new(), "{script}");
    }
    // It leaves the group, and its environment no longer has the marker. The run ends all the same.
    let script = "setsid env -i sleep 3 & echo started";
    assert_eq!(shell(&api, script).await?.0, "started\n");
    Ok(())
}

#[tokio::test]
async fn a_time_limit_ends_all_processes_of_a_run() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let script = "sleep 60021 & setsid sleep 60021 & sleep 60021";
    let spec = json!({ "command": "sh", "args": ["-c", script], "timeout": 0.3 });
    assert_eq!(run(&api, spec).await?.2["reason"], "timed_out");
    assert_eq!(processes_with("60021")?, Vec::<String>::new());
    Ok(())
}

#[tokio::test]
async fn a_run_ends_with_its_client() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let spec = json!({ "command": "sh", "args": ["-c", "sleep 60031; true"] });
    let connection = api.open("POST", "/processes/run", spec.to_string().as_bytes()).await?;
    let is_there = || Ok(!processes_with("60031")?.is_empty());
    until("the process runs", is_there).await?;
    drop(connection);
    until("the process of a run without a client is killed", || Ok(!is_there()?)).await
}

#[tokio::test]
async fn output_over_the_limit_is_cut_with_a_sentence() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let (stdout, stderr, end) = shell(&api, "yes | head -c 30000000; exit 5").await?;
    assert_eq!(end["exit_code"], 5);
    assert!(stdout.len() < 1 << 20, "{}", stdout.len());
    assert!(stderr.contains("more than 1024 KiB; the rest is discarded"), "{stderr}");
    Ok(())
}

#[tokio::test]
async fn a_process_is_listed_read_signaled_and_killed() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let script = "trap 'echo got it; exit 7' USR1; echo ready; while :; do sleep 0.05; done";
    let spec = json!({ "command": "sh", "args": ["-c", script] }).to_string();
    let made = api.json("POST", "/processes", spec.as_bytes()).await?;
    assert_eq!((&made["status"], &made["command"]), (&json!("running"), &json!("sh")));
    let path = format!("/processes/{}", made["pid"]);
    assert_eq!(api.json("GET", "/processes", b"").await?["processes"], json!([made]));
    loop {
        let output = api.json("GET", &format!("{path}/output"), b"").await?;
        if output["line_count"] == 1 {
            assert_eq!(output["lines"], json!(["ready"]));
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let signal = |number: i64| json!({ "signal": number }).to_string();
    for wrong in [0, 99, -1] {
        let refused = api.call("POST", &format!("{path}/signal"), signal(wrong).as_bytes()).await?;
        assert_eq!(refused.status, 400, "{wrong}");
    }
    let sent = api.json("POST", &format!("{path}/signal"), signal(10).as_bytes()).await?;
    assert_eq!(sent, json!({ "success": true }));
    // Following ends with the process.
    let events = api.events("GET", &format!("{path}/output/follow"), b"").await?;
    assert_eq!(events.iter().map(|it| &it["line"]).collect::<Vec<_>>(), ["ready", "got it"]);
    let ended = api.json("GET", &path, b"").await?;
    assert_eq!((&ended["status"], &ended["exit_code"]), (&json!("exited"), &json!(7)));
    assert!(ended["ended_at"].as_u64() >= ended["started_at"].as_u64(), "{ended}");
    // A process that ended gets no signal, because its number may be another one's now.
    let late = api.call("POST", &format!("{path}/signal"), signal(15).as_bytes()).await?;
    assert_eq!((late.status, &late.json()?["code"]), (409, &json!("PROCESS_ENDED")));

    let spec = json!({ "command": "sleep", "args": ["60041"] }).to_string();
    let made = api.json("POST", "/processes", spec.as_bytes()).await?;
    let path = format!("/processes/{}", made["pid"]);
    assert_eq!(api.call("DELETE", &path, b"").await?.status, 204);
    api.events("GET", &format!("{path}/stdout/follow"), b"").await?;
    let ended = api.json("GET", &path, b"").await?;
    assert_eq!((&ended["status"], &ended["signal"]), (&json!("signaled"), &json!(9)));
    assert_eq!(api.call("GET", "/processes/999999999", b"").await?.status, 404);
    Ok(())
}

#[tokio::test]
async fn standard_input_is_written_and_closed() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let spec = json!({ "command": "cat", "stdin_mode": "pipe", "stderr_mode": "discard" });
    let made = api.json("POST", "/processes", spec.to_string().as_bytes()).await?;
    assert_eq!(made["stdin_writable"], true);
    let path = format!("/processes/{}", made["pid"]);
    for part in [&b"one\ntw"[..], b"o\n"] {
        assert_eq!(api.call("POST", &format!("{path}/stdin"), part).await?.status, 204);
    }
    assert_eq!(api.call("POST", &format!("{path}/stdin/close"), b"").await?.status, 204);
    let events = api.events("GET", &format!("{path}/stdout/follow"), b"").await?;
    assert_eq!(events.iter().map(|it| &it["line"]).collect::<Vec<_>>(), ["one", "two"]);
    let late = api.call("POST", &format!("{path}/stdin"), b"x").await?;
    assert_eq!((late.status, &late.json()?["code"]), (409, &json!("STDIN_CLOSED")));
    Ok(())
}

#[tokio::test]
async fn there_are_never_more_processes_than_the_limit() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let spec = json!({ "command": "sleep", "args": ["60051"] }).to_string();
    for _ in 0..32 {
        api.json("POST", "/processes", spec.as_bytes()).await?;
    }
    for path in ["/processes", "/processes/run"] {
        let refused = api.call("POST", path, spec.as_bytes()).await?;
        assert_eq!((refused.status, &refused.json()?["code"]), (429, &json!("TOO_MANY_PROCESSES")));
    }
    let info = api.json("GET", "/info", b"").await?;
    assert_eq!((&info["running_processes"], &info["total_processes"]), (&json!(32), &json!(32)));
    assert!(info["note"].to_string().contains("not an isolation boundary"), "{info}");
    api.commands().kill_all();
    until("all processes are killed", || Ok(processes_with("60051")?.is_empty())).await
}
