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
        let mut child = Command::new(PROGRAM)
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
        // Fails if the process has already exited.
        let _: std::io::Result<()> = self.child.kill();
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
