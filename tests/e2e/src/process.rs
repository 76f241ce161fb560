//! A child process that never outlives its test, however that ends, and its output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

/// Runs a program and kills it when standard input ends: that happens when a [`Process`] is dropped,
/// and also when the tests themselves are killed. SIGTERM is passed on.
const GUARD: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- &
program=$!
(cat <&3; kill -KILL "$program") >/dev/null 2>&1 &
trap 'kill -TERM "$program"' TERM
wait "$program"
status=$?
while kill -0 "$program" 2>/dev/null; do
    wait "$program"
    status=$?
done
exit "$status"
"#;

/// Killed when dropped, also by a panicking test.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts it with its output going to a file.
    pub fn start(command: &Command, log: &Path) -> Result<Self> {
        let program = command.get_program();
        let file = File::options().create(true).append(true).open(log)?;
        let child = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(program)
            .args(command.get_args())
            .stdin(Stdio::piped())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("`{}` can't be started", program.display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Everything it has written so far.
    #[must_use]
    pub fn output(&self) -> String {
        std::fs::read(&self.log).map_or_else(
            |error| format!("(no output: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// Asks it to stop, by SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status()?;
        anyhow::ensure!(sent.success(), "process {id} can't be asked to stop");
        Ok(())
    }

    /// Ends it with SIGKILL: it gets no chance to clean up.
    pub fn kill(&mut self) {
        drop(self.child.stdin.take());
        // It fails only when the process has ended already.
        let _: std::io::Result<std::process::ExitStatus> = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
