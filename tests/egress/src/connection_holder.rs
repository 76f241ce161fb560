//! A separate process that holds many connections open, because the limit of open files applies to each process.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::netns::Namespace;

/// The first argument with which the tests' program calls [`hold`].
pub const HOLD: &str = "--hold";

/// A process with connections to an echo server. It exits when this is dropped or the tests end.
pub struct ConnectionHolder {
    process: Child,
    commands: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// The timeout of a connection.
const TIMEOUT: Duration = Duration::from_secs(120);

impl ConnectionHolder {
    /// Starts to connect, and does not wait.
    pub fn start(from: &Namespace, to: SocketAddr, count: usize) -> Result<Self> {
        let program = std::env::current_exe()?;
        let mut process = from
            .command(&program.display().to_string())
            .args([HOLD, &to.to_string(), &count.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("a process that holds connections can't be started")?;
        let commands = process.stdin.take();
        let output = BufReader::new(process.stdout.take().context("it has no output")?);
        Ok(Self { process, commands, output })
    }

    /// Waits until all connections are established, or the last round is complete.
    pub fn wait(&mut self) -> Result<()> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(
            line == "done\n",
            "the process printed `{}` (the reason is above)",
            line.trim_end()
        );
        Ok(())
    }

    /// Starts a round: each connection sends unique bytes, and waits for their echo.
    pub fn echo(&mut self) -> Result<()> {
        let commands = self.commands.as_mut().context("it has no input")?;
        Ok(commands.write_all(b"echo\n")?)
    }
}

impl Drop for ConnectionHolder {
    fn drop(&mut self) {
        drop(self.commands.take());
        drop(self.process.wait());
    }
}

/// The main function of the process, with the arguments after [`HOLD`].
pub fn hold(arguments: &[String]) -> Result<()> {
    let [to, count] = arguments else { anyhow::bail!("{HOLD} needs an address and a number") };
    let (to, count): (SocketAddr, u32) = (to.parse()?, count.parse()?);
    let mut streams = Vec::new();
    for at in 0..count {
        let stream =
            TcpStream::connect_timeout(&to, TIMEOUT).with_context(|| format!("connection {at}"))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        streams.push(stream);
    }
    println!("done");
    let salt = std::process::id();
    for (round, line) in (1_u32..).zip(std::io::stdin().lines()) {
        line?;
        let sent = |at: u32| [(at ^ round).to_be_bytes(), salt.to_be_bytes()].concat();
        for (at, stream) in (0_u32..).zip(&mut streams) {
            stream.write_all(&sent(at)).with_context(|| format!("connection {at}"))?;
        }
        for (at, stream) in (0_u32..).zip(&mut streams) {
            let mut back = [0; 8];
            stream.read_exact(&mut back).with_context(|| format!("connection {at}"))?;
            ensure!(back[..] == sent(at), "connection {at} got another's bytes");
        }
        println!("done");
    }
    Ok(())
}
