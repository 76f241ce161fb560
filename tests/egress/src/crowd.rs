//! Many connections at the same time, held by a process of its own: the limit of open files is for each.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;

/// The first argument with which the tests' own program becomes such a process: see [`hold`].
pub const HOLD: &str = "--hold";

/// Connections to an echo, held by a process; it ends when this is dropped, or the tests end.
pub struct Crowd {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// Longest silence of one connection.
const PATIENCE: Duration = Duration::from_secs(120);

impl Crowd {
    /// Begins connecting, and does not wait.
    pub fn start(from: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = from
            .command(&program.display().to_string())
            .args([HOLD, &to.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process that holds connections can't be started")?;
        let orders = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("it has no output")?);
        Ok(Self { process, orders, answers })
    }

    /// Waits until all are connected, or all of the last round has come back.
    pub fn wait(&mut self) -> Result<()> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        ensure!(line == "done\n", "it says `{}` (the reason is above)", line.trim_end());
        Ok(())
    }

    /// Has each connection send what no other sends, and wait for it to come back.
    pub fn talk(&mut self) -> Result<()> {
        let orders = self.orders.as_mut().context("it has no input")?;
        Ok(orders.write_all(b"talk\n")?)
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        drop(self.orders.take());
        drop(self.process.wait());
    }
}

/// What such a process does, with the arguments after [`HOLD`].
pub fn hold(arguments: &[String]) -> Result<()> {
    let [to, count] = arguments else { anyhow::bail!("{HOLD} needs an address and a number") };
    let (to, count): (SocketAddr, u32) = (to.parse()?, count.parse()?);
    let mut streams = Vec::new();
    for at in 0..count {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)
            .with_context(|| format!("connection {at}"))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        streams.push(stream);
    }
    println!("done");
    let salt = std::process::id();
    for (round, line) in (1_u32..).zip(std::io::stdin().lines()) {
        line?;
        let said = |at: u32| [(at ^ round).to_be_bytes(), salt.to_be_bytes()].concat();
        for (at, stream) in (0_u32..).zip(&mut streams) {
            stream.write_all(&said(at)).with_context(|| format!("connection {at}"))?;
        }
        for (at, stream) in (0_u32..).zip(&mut streams) {
            let mut back = [0; 8];
            stream.read_exact(&mut back).with_context(|| format!("connection {at}"))?;
            ensure!(back[..] == said(at), "connection {at} got another's bytes");
        }
        println!("done");
    }
    Ok(())
}
