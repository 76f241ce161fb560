//! The network of the sandbox behind a sidecar: it belongs to one run, is isolated, and leaves nothing behind.
//!
//! Where namespaces can't be created, the tests are ignored, with the reason in brackets before their names. With `CI=true`
//! they fail instead. The program runs itself again as the owner of a network.

#![expect(clippy::unwrap_used, reason = "how these tests fail")]

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use sandgate_stack::Process;
use sandgate_stack::local_run::sidecar::{left_behind, network_command, obstacle, prefix};
use tempfile::TempDir;

#[path = "../../harness/trial.rs"]
mod trial;

use self::trial::trial;

/// Namespaces, the folder for `ip netns exec`, and the folder for Envoy.
const PATHS: usize = 5;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, state, log] = arguments.as_slice()
        && command == "own-network"
    {
        own_network(Path::new(state), Path::new(log));
    }
    let tests: [(&str, fn()); 3] = [
        (
            "two_runs_have_networks_of_their_own_and_a_killed_run_leaves_nothing",
            two_runs_have_networks_of_their_own_and_a_killed_run_leaves_nothing,
        ),
        ("the_next_start_removes_what_was_left", the_next_start_removes_what_was_left),
        (
            "no_link_connects_the_network_to_the_machine",
            no_link_connects_the_network_to_the_machine,
        ),
    ];
    let obstacle = obstacle();
    let arguments = Arguments::from_args();
    let trials = tests.map(|(name, test)| {
        trial(&arguments, name, obstacle.clone(), move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

/// Starts the network of a state folder, prints the id of its process, and waits to be killed.
fn own_network(state: &Path, log: &Path) -> ! {
    let mut command = network_command(&prefix(state));
    command.arg("203.0.113.10");
    let network = Process::start("the network", &command, log).unwrap();
    println!("{}", network.id());
    loop {
        std::thread::park();
    }
}

/// A process that owns a network. It is killed when this value is dropped.
struct Owner {
    state: PathBuf,
    child: Child,
    network: u32,
}

impl Owner {
    fn start(folder: &TempDir, name: &str) -> Self {
        let (state, log) = (folder.path().join(name), folder.path().join(format!("{name}.log")));
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("own-network").arg(&state).arg(&log).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let network = line.trim().parse().unwrap();
        wait_for(|| std::fs::read_to_string(&log).unwrap_or_default().contains("built"));
        Self { state, child, network }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn left_behind(&self) -> usize {
        left_behind(&self.state).len()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn two_runs_have_networks_of_their_own_and_a_killed_run_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = Owner::start(&folder, "one");
    let mut other = Owner::start(&folder, "other");
    assert_eq!(one.left_behind(), PATHS);
    assert!(is_group_alive(one.network));
    one.kill();
    wait_for(|| one.left_behind() == 0 && !is_group_alive(one.network));
    assert_eq!(other.left_behind(), PATHS);
    other.kill();
    wait_for(|| other.left_behind() == 0);
}

fn the_next_start_removes_what_was_left() {
    let folder = tempfile::tempdir().unwrap();
    let gateway = format!("{}-gateway", prefix(&folder.path().join("again")));
    ip(&["netns", "add", &gateway]);
    let mut left =
        Command::new("ip").args(["netns", "exec", &gateway, "sleep", "1000"]).spawn().unwrap();
    wait_for(|| !ip(&["netns", "pids", &gateway]).is_empty());
    let mut again = Owner::start(&folder, "again");
    assert_eq!(left.wait().unwrap().signal(), Some(9));
    again.kill();
    wait_for(|| again.left_behind() == 0);
}

fn no_link_connects_the_network_to_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let mut owner = Owner::start(&folder, "apart");
    let prefix = prefix(&owner.state);
    for name in ["sandbox", "gateway", "internet"] {
        let links = ip(&["-n", &format!("{prefix}-{name}"), "-o", "link"]);
        for link in links.lines().filter(|link| link.contains("link/ether")) {
            assert!(link.contains("eth0@") || link.contains("sandbox0@"), "{link}");
            // The other end is in a namespace with a name, and not in the machine's own.
            assert!(link.contains(&format!("link-netns {prefix}-")), "{link}");
        }
    }
    owner.kill();
    wait_for(|| owner.left_behind() == 0);
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a process of the group exists that is not a zombie.
fn is_group_alive(group: u32) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // proc(5): state, parent and group follow the name in brackets.
        let mut fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields).split(' ');
        let state = fields.next();
        fields.nth(1) == Some(&group.to_string()) && state != Some("Z")
    })
}

fn wait_for(mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "not within 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
}
