//! The internet of the sandboxes of a run: it belongs to this run, is isolated, and leaves nothing behind. The program runs
//! itself again as the owner of an internet.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sandgate_netns::Namespace;
use sandgate_stack::Process;
use sandgate_stack::local_run::far_side::{namespace, network_command};
use tempfile::TempDir;

use crate::machine::run_ip;

/// The arguments of a second run of this program.
pub(crate) struct Again {
    pub(crate) arguments: Option<[PathBuf; 2]>,
}

impl Again {
    pub(crate) fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments = match arguments.as_slice() {
            [command, state, log] if command == "own-network" => Some([state.into(), log.into()]),
            _ => None,
        };
        Self { arguments }
    }
}

/// Starts the network of a state folder, prints the id of its process, and waits to be killed.
pub(crate) fn own_network([state, log]: &[PathBuf; 2]) -> ! {
    let network = Process::start("the network", &network_command(&namespace(state)), log).unwrap();
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
    fn start(folder: &TempDir, name: &str) -> Result<Self> {
        let (state, log) = (folder.path().join(name), folder.path().join(format!("{name}.log")));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("own-network").arg(&state).arg(&log).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line)?;
        let network = line.trim().parse()?;
        wait_for(|| std::fs::read_to_string(&log).unwrap_or_default().contains("built"))?;
        Ok(Self { state, child, network })
    }

    fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    fn namespace(&self) -> Namespace {
        namespace(&self.state)
    }

    fn exists(&self) -> bool {
        PathBuf::from("/run/netns").join(self.namespace().name()).exists()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn two_runs_have_internets_of_their_own_and_a_killed_run_leaves_nothing() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut one = Owner::start(&folder, "one")?;
    let mut other = Owner::start(&folder, "other")?;
    ensure!(one.exists() && is_group_alive(one.network));
    one.kill()?;
    wait_for(|| !one.exists() && !is_group_alive(one.network))?;
    ensure!(other.exists());
    other.kill()?;
    wait_for(|| !other.exists())
}

pub(crate) fn the_next_start_removes_what_was_left() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let left = namespace(&folder.path().join("again"));
    run_ip(&["netns", "add", left.name()])?;
    let mut sleeping = left.command("sleep").arg("1000").spawn()?;
    wait_for(|| run_ip(&["netns", "pids", left.name()]).is_ok_and(|pids| !pids.is_empty()))?;
    let mut again = Owner::start(&folder, "again")?;
    ensure!(sleeping.wait()?.signal() == Some(9));
    again.kill()?;
    wait_for(|| !again.exists())
}

pub(crate) fn no_link_connects_the_internet_to_the_machine() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut owner = Owner::start(&folder, "apart")?;
    let links = run_ip(&["-n", owner.namespace().name(), "-o", "link"])?;
    ensure!(!links.contains("link/ether"), "{links}");
    owner.kill()?;
    wait_for(|| !owner.exists())
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

fn wait_for(mut done: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !done() {
        ensure!(begun.elapsed() < Duration::from_secs(60), "not within 60 s");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
