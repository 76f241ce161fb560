//! A separate local run for a test: on unused ports, with a state folder of its own.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::local_run::platform::left_behind;
use crate::network::free_range;
use crate::ports::{Ports, listen_error};

/// It differs from the network of a local run that a developer may have started.
const NETWORK: &str = "127.65.0.0";
const START_LIMIT: Duration = Duration::from_secs(180);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A run of this program in a child process.
pub struct OwnRun {
    state: PathBuf,
    ports: Ports,
    child: Option<Child>,
}

impl OwnRun {
    /// Chooses unused ports.
    pub fn new(state: &Path) -> Result<Self> {
        Ok(Self { state: state.to_owned(), ports: Ports::free()?, child: None })
    }

    #[must_use]
    pub const fn ports(&self) -> &Ports {
        &self.ports
    }

    /// The state folder.
    #[must_use]
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// Starts the run, and waits until it is ready.
    pub fn start(&mut self) -> Result<()> {
        let output = self.state.join("output");
        let file = std::fs::File::create(&output)?;
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("run").env("SANDGATE_STATE_DIR", &self.state);
        command.env("SANDGATE_SANDBOX_NETWORK", NETWORK);
        command.env("SANDGATE_NAMESPACE_NETWORK", free_range()?.to_string());
        for (name, port) in self.ports.by_variable() {
            command.env(format!("SANDGATE_{name}_PORT"), port.to_string());
        }
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = self.child.insert(command.spawn()?);
        let begun = Instant::now();
        loop {
            let text = std::fs::read_to_string(&output)?;
            if text.contains("Sandgate is ready.") {
                return Ok(());
            }
            if child.try_wait()?.is_some() || begun.elapsed() > START_LIMIT {
                bail!("the run was not ready:\n{text}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops the run as Ctrl-C does. Returns sentences about processes and listeners that still exist.
    pub fn stop(&mut self) -> Result<Vec<String>> {
        let mut child = self.child.take().context("the run was not started")?;
        if let Some(status) = child.try_wait()? {
            return Ok(vec![format!("the run had ended already, with {status}")]);
        }
        kill(Pid::from_raw(child.id().try_into()?), Signal::SIGINT)?;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if begun.elapsed() > STOP_LIMIT {
                child.kill()?;
                child.wait()?;
                return Ok(vec![format!("the run did not stop within {STOP_LIMIT:?}")]);
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut left = Vec::new();
        if !status.success() {
            left.push(format!("the run ended with {status}"));
        }
        let used = self
            .ports
            .by_variable()
            .into_iter()
            .filter(|(_, port)| listen_error(IpAddr::V4(Ipv4Addr::LOCALHOST), *port).is_some());
        left.extend(used.map(|(_, port)| format!("port {port} is still in use")));
        let state = self.state.display().to_string();
        let network = NETWORK.trim_end_matches("0.0").to_owned();
        let words = [state, network];
        left.extend(processes_with(&words).map(|line| format!("process {line} still exists")));
        let paths = left_behind(&self.state);
        left.extend(paths.iter().map(|path| format!("{} still exists", path.display())));
        Ok(left)
    }
}

impl Drop for OwnRun {
    fn drop(&mut self) {
        if self.child.is_some() {
            drop(self.stop());
        }
    }
}

/// The processes, except this one, whose command line contains one of the words.
fn processes_with(words: &[String]) -> impl Iterator<Item = String> {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|process| {
        let id: u32 = process.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read(process.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let is_ours = id != std::process::id() && words.iter().any(|word| line.contains(word));
        is_ours.then(|| format!("{id} ({})", line.chars().take(120).collect::<String>().trim()))
    })
}
