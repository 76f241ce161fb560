//! The program: start, exit, errors, and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::support::PATIENCE;

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandgate-demo");

/// An address that no other test uses, not even a test of another run at the same time.
fn address() -> String {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let [.., high, low] = std::process::id().to_be_bytes();
    let address = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.{}.{high}.{low}", 77 + u16::from(address))
}

/// A sandbox in a separate process, which is killed on drop.
struct Process {
    child: Child,
    address: String,
}

impl Process {
    /// Starts the process on the default ports and waits until it prints `ready`.
    fn start(address: String, options: &[&str]) -> anyhow::Result<Self> {
        Self::start_by(Command::new(PROGRAM), address, options)
    }

    /// Starts the process by a command to which its arguments are added.
    fn start_by(mut command: Command, address: String, options: &[&str]) -> anyhow::Result<Self> {
        let mut child = command
            .args(["serve", "--address", &address, "--id", "abc", "--name", "my-env"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("stdout")?).read_line(&mut line)?;
        let process = Self { child, address };
        anyhow::ensure!(line == "ready\n", "got {line:?} instead of `ready`");
        Ok(process)
    }

    fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.address)
    }

    /// Waits for the exit code of a process that exits by itself.
    fn ended(&mut self) -> anyhow::Result<Option<i32>> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("still running")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It removes its folder only if it ends by itself. All of this fails if it has already exited.
        let pid = self.child.id().to_string();
        let _: std::io::Result<_> = Command::new("kill").args(["-TERM", &pid]).output();
        if self.ended().is_err() {
            let _: std::io::Result<()> = self.child.kill();
        }
        let _: std::io::Result<_> = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn all_four_default_ports_are_open_when_it_is_ready() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let address: IpAddr = process.address.parse()?;
    for port in [8080, 3000, 50051, 9501] {
        TcpStream::connect(SocketAddr::new(address, port)).with_context(|| port.to_string())?;
    }
    Ok(())
}

#[test]
fn it_exits_with_its_parent_only_with_the_option() -> anyhow::Result<()> {
    let mut stays = Process::start(address(), &[])?;
    let mut goes = Process::start(address(), &["--exit-with-parent"])?;
    goes.child.stdin.as_mut().context("stdin")?.write_all(b"ignored\n")?;
    for process in [&mut stays, &mut goes] {
        drop(process.child.stdin.take());
    }
    assert_eq!(goes.ended()?, Some(0));
    assert!(stays.child.try_wait()?.is_none(), "it exited without the option");
    Ok(())
}

#[test]
fn it_exits_on_sigterm_and_its_address_can_be_reused_immediately() -> anyhow::Result<()> {
    let address = address();
    let mut process = Process::start(address.clone(), &[])?;
    let open = TcpStream::connect(process.at(8080))?;
    let killed = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status()?;
    assert!(killed.success());
    assert_eq!(process.ended()?, Some(0));
    drop(open);
    Process::start(address, &[])?;
    Ok(())
}

#[test]
fn the_error_for_a_port_in_use_names_the_port_and_a_remedy() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let output = run(&["serve", "--address", &process.address, "--id", "x", "--http-port", "0"])?;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stdout), "");
    let error = text(&output.stderr);
    assert!(error.contains(&format!("`{}` (websocket)", process.at(3000))), "{error}");
    assert!(error.contains("Address already in use"), "{error}");
    assert!(error.contains("choose another address or port"), "{error}");
    Ok(())
}

#[test]
fn an_address_of_another_machine_is_refused() -> anyhow::Result<()> {
    // 192.0.2.0/24 is reserved for documentation, so no machine has this address.
    let output = run(&["serve", "--address", "192.0.2.1", "--id", "x"])?;
    assert_eq!(output.status.code(), Some(1));
    let error = text(&output.stderr);
    assert!(error.contains("`192.0.2.1:8080` (http)"), "{error}");
    assert!(error.contains("choose an address of this machine"), "{error}");
    Ok(())
}

#[test]
fn large_uploads_and_downloads_need_little_memory() -> anyhow::Result<()> {
    const BYTES: u64 = 100_000_000;
    let process = Process::start(address(), &[])?;
    let mut upload = TcpStream::connect(process.at(8080))?;
    write!(
        upload,
        "PUT /upload HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {BYTES}\r\n\r\n"
    )?;
    std::io::copy(&mut std::io::repeat(b'u').take(BYTES), &mut upload)?;
    let mut answer = String::new();
    upload.read_to_string(&mut answer)?;
    assert!(answer.contains(&format!("\"body_length\": {BYTES}")), "{answer}");
    let mut download = TcpStream::connect(process.at(8080))?;
    write!(
        download,
        "GET /download?bytes={BYTES} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    )?;
    assert!(std::io::copy(&mut download, &mut std::io::sink())? > BYTES);
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id()))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse()?;
    assert!(peak < 40_000, "{peak} kB");
    Ok(())
}

const WS_URL: &str = "ws://3000-my-env.sandbox.localhost:9443/socket";

#[test]
fn ws_prints_the_responses_and_sends_the_urls_host() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let via = process.at(3000);
    let options = ["ws", "--connect", &via, "--header", "Authorization: Bearer t"];
    let messages = ["--message", "hello", "--message", "headers?", "--message", "bye", WS_URL];
    let output = run(&[&options[..], &messages[..]].concat())?;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    let printed = text(&output.stdout);
    assert!(printed.starts_with("hello\n{") && printed.ends_with("}\nbye\n"), "{printed}");
    assert!(printed.contains("[\"authorization\",\"Bearer t\"]"), "{printed}");
    assert!(printed.contains("\"host\": \"3000-my-env.sandbox.localhost:9443\""), "{printed}");
    Ok(())
}

#[test]
fn ws_sends_the_lines_of_standard_input() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let mut client = Command::new(PROGRAM)
        .args(["ws", "--interactive", "--connect", &process.at(3000), WS_URL])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    client.stdin.take().context("stdin")?.write_all(b"one\ntwo\n")?;
    let output = client.wait_with_output()?;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "one\ntwo\n".to_owned()));
    Ok(())
}

#[test]
fn ws_prints_a_refusal_and_fails() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let via = process.at(9501);
    let output = run(&["ws", "--connect", &via, "--message", "x", WS_URL])?;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let error = text(&output.stderr);
    assert!(error.contains("HTTP 404 Not Found") && error.contains("NOT_FOUND"), "{error}");
    Ok(())
}

#[test]
fn no_error_shows_a_header_value() -> anyhow::Result<()> {
    for header in ["hush", "a b: hush", "authorization: hush\n\nhush"] {
        let output = run(&["ws", "--header", header, "--message", "x", WS_URL])?;
        assert_eq!(output.status.code(), Some(1), "{header:?}");
        let error = text(&output.stderr);
        assert!(error.contains("header") && !error.contains("hush"), "{error}");
    }
    Ok(())
}

const GRPC_URL: &str = "http://50051-my-env.sandbox.localhost:9443";

#[test]
fn grpc_commands_print_their_results() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let via = process.at(50051);
    let grpc = |command: &[&str]| -> anyhow::Result<String> {
        let options = ["--connect", &via, "--header", "authorization: Bearer t", GRPC_URL];
        let output = run(&[&["grpc"], command, &options[..]].concat())?;
        anyhow::ensure!(output.status.success(), "{}", text(&output.stderr));
        Ok(text(&output.stdout))
    };
    assert!(grpc(&["list"])?.lines().any(|line| line == "sandgate.demo.v1.Echo"));
    assert_eq!(grpc(&["health"])?, "SERVING\n");
    assert_eq!(grpc(&["chat", "--message", "a", "--message", "b"])?, "a\nb\n");
    let echo: serde_json::Value = serde_json::from_str(&grpc(&["echo", "--message", "hi"])?)?;
    assert_eq!((&echo["message"], &echo["sandbox_id"]), (&"hi".into(), &"abc".into()));
    assert_eq!(echo["authority"], "50051-my-env.sandbox.localhost:9443");
    let metadata = echo["metadata"].as_array().context("metadata")?;
    assert!(metadata.contains(&"authorization: Bearer t".into()), "{echo}");
    Ok(())
}

#[test]
fn grpc_commands_print_a_status_that_is_not_ok_and_fail() -> anyhow::Result<()> {
    let process = Process::start(address(), &[])?;
    let via = process.at(50051);
    let output = run(&["grpc", "health", "--service", "no.such", "--connect", &via, GRPC_URL])?;
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    let error = text(&output.stderr);
    assert!(error.starts_with("sandgate-demo: gRPC status 5 NOT_FOUND: "), "{error}");
    Ok(())
}

#[test]
fn a_connection_error_names_the_address() -> anyhow::Result<()> {
    let nobody = format!("{}:1", address());
    let expected = format!("sandgate-demo: cannot connect to `{nobody}`: Connection refused");
    for arguments in [
        ["grpc", "list", "--connect", &nobody, GRPC_URL].as_slice(),
        ["ws", "--message", "x", "--connect", &nobody, WS_URL].as_slice(),
    ] {
        let output = run(arguments)?;
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.starts_with(&expected) && error.lines().count() == 1, "{error}");
    }
    Ok(())
}

/// Runs a command in a sandbox, and returns what it printed. The response has ended with the command.
fn run_in(process: &Process, command: &str) -> anyhow::Result<String> {
    let mut connection = TcpStream::connect(process.at(9501))?;
    let body = serde_json::json!({ "command": "sh", "args": ["-c", command] }).to_string();
    write!(
        connection,
        "POST /api/v1/processes/run HTTP/1.0\r\nX-Forwarded-Project-Id: project_a\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let events = answer.split("\n\n").filter_map(|event| event.rsplit_once("data: "));
    let events: Vec<serde_json::Value> =
        events.map(|(_, data)| serde_json::from_str(data)).collect::<Result<_, _>>()?;
    anyhow::ensure!(events.last().is_some_and(|end| end["exit_code"] == 0), "{answer}");
    Ok(events
        .iter()
        .filter_map(|event| event["line"].as_str())
        .fold(String::new(), |text, line| text + line + "\n"))
}

const WITH_COMMANDS: [&str; 2] = ["--commands-for-project", "project_a"];

#[test]
fn commands_have_no_privileges_and_can_not_get_any() -> anyhow::Result<()> {
    let mut command = Command::new(PROGRAM);
    if nix::unistd::geteuid().is_root() {
        // A group that it must give up.
        command = Command::new("setpriv");
        command.args(["--groups", "4", "--", PROGRAM]);
    }
    let process = Process::start_by(command, address(), &WITH_COMMANDS)?;
    let status = run_in(&process, "cat /proc/self/status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
    };
    // Set-user-ID programs have no effect.
    assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    let of_server = std::fs::read_to_string(format!("/proc/{}/status", process.child.id()))?;
    if nix::unistd::geteuid().is_root() {
        assert_eq!(field("Uid:"), "64400 64400 64400 64400");
        assert_eq!(field("Gid:"), "64400 64400 64400 64400");
        assert_eq!(field("Groups:"), "");
        for set in ["CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(field(set), "0000000000000000", "{status}");
        }
        // The calls for files are made by the server itself.
        assert!(of_server.contains("Uid:\t64400\t64400\t64400\t64400\n"), "{of_server}");
        let limits = run_in(&process, "cat /proc/self/limits; cat /etc/shadow 2>/dev/null; true")?;
        let of_processes = limits.lines().find(|line| line.starts_with("Max processes"));
        assert!(of_processes.is_some_and(|line| line.contains("4096  ")), "{limits}");
        assert!(!limits.contains("root:"), "{limits}");
    } else {
        // Another user can't be chosen without root.
        assert!(!field("Uid:").split(' ').any(|uid| uid == "0"), "{status}");
    }
    assert_eq!(run_in(&process, "ulimit -c")?, "0\n");
    Ok(())
}

#[test]
fn commands_can_not_read_the_environment_of_the_program() -> anyhow::Result<()> {
    let process = Process::start(address(), &WITH_COMMANDS)?;
    let server = process.child.id();
    let read = run_in(&process, &format!("cat /proc/{server}/environ 2>&1; true"))?;
    assert!(read.contains("Permission denied"), "{read}");
    Ok(())
}

#[test]
fn another_user_can_be_chosen_but_not_root() -> anyhow::Result<()> {
    let wrong = run(&["serve", "--address", "127.0.0.1", "--id", "x", "--uid", "0"])?;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("a user that is not root"), "{}", text(&wrong.stderr));
    let options = [&WITH_COMMANDS[..], &["--uid", "64499"]].concat();
    let process = Process::start(address(), &options)?;
    let own = nix::unistd::geteuid();
    let expected = if own.is_root() { "64499".to_owned() } else { own.to_string() };
    assert_eq!(run_in(&process, "id -u")?, format!("{expected}\n"));
    Ok(())
}

#[test]
fn nothing_remains_of_commands_when_the_program_ends() -> anyhow::Result<()> {
    use crate::support::processes_with;

    let mut process = Process::start(address(), &WITH_COMMANDS)?;
    let folder = run_in(&process, "pwd")?;
    assert!(std::fs::metadata(folder.trim()).is_ok(), "{folder}");
    // It leaves the group of its command and forgets the marker, so it outlives the command.
    run_in(&process, "setsid env -i sleep 60061 >/dev/null 2>&1 & sleep 0.5")?;
    assert_eq!(processes_with("60061")?.len(), 1);
    let killed = Command::new("kill").args(["-TERM", &process.child.id().to_string()]).status()?;
    assert!(killed.success());
    assert_eq!(process.ended()?, Some(0));
    assert_eq!(processes_with("60061")?, Vec::<String>::new());
    assert!(std::fs::metadata(folder.trim()).is_err(), "{folder}");
    Ok(())
}

#[test]
fn orphans_of_commands_do_not_stay_zombies() -> anyhow::Result<()> {
    let process = Process::start(address(), &WITH_COMMANDS)?;
    run_in(&process, "setsid env -i sh -c 'sleep 0.1; exit 3' >/dev/null 2>&1 & sleep 0.05")?;
    let me = process.child.id().to_string();
    let started = Instant::now();
    loop {
        let entries = std::fs::read_dir("/proc")?.flatten();
        let stats =
            entries.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let children: Vec<_> = stats
            .filter(|stat| {
                let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
                rest.split(' ').nth(1) == Some(&me)
            })
            .collect();
        if children.is_empty() {
            return Ok(());
        }
        anyhow::ensure!(started.elapsed() < PATIENCE, "{children:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn help_says_that_commands_are_not_isolated() -> anyhow::Result<()> {
    let help = text(&run(&["serve", "--help"])?.stdout);
    assert!(help.contains("not an isolation boundary"), "{help}");
    Ok(())
}
