//! Commands and files: the part of the management API with which an owner tries a network policy
//! from inside, as in `sandbox.run("curl", ["http://elsewhere.test"])`.
//!
//! **This is not an isolation boundary.** A command runs on the machine and in the network namespace
//! of the demo, with the rights of the demo's user. The program `sandgate-demo` gives up root
//! before it serves ([`crate::server`] only serves), so this module needs no rights that a command
//! doesn't have.
//!
//! What an attacker may try, and what prevents it:
//!
//! | attack | prevention |
//! |---|---|
//! | a request that did not pass the edge: another user of the machine, a web page that a browser on the machine shows (also after DNS rebinding) | `access`: the request must name the project of the sandbox, which the edge writes from the verified credential, and which nobody else can guess |
//! | a path with `..`, or a symbolic link | nothing is gained: a file is accessed with the rights that commands have. A folder as a root would make `write_file("/tmp/a")` and `run("cat", ["/tmp/a"])` mean two different files, and would protect nothing, because `cat` reads every file |
//! | a path to a device or a pipe that never ends | `files`: only regular files, opened without blocking, up to a limit |
//! | endless output | `output`: the rest is discarded, with a sentence |
//! | a process that lives on, or holds the pipes open | `process`: the process group and everything that has the marker of the command in its environment is killed when the command ends; the program kills all of its descendants when it ends |
//! | zombies | the program waits for the orphans that it inherits |
//! | set-user-ID programs | `no_new_privs`, which the program sets before it serves |
//! | tokens in the environment | a command gets only the variables that `spec` lists, and those of the request |
//! | too many processes, or one that never ends | `processes` has a limit, and `process` a time limit |
//! | a file that a browser shows as a page of the platform | `files` sends all of them as `application/octet-stream` and `nosniff` |
//! | header injection | no value of a request is put into a header |

mod access;
mod api;
mod events;
mod files;
mod output;
mod process;
mod processes;
mod refusal;
mod spec;
mod stray;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::files::Files;
use self::processes::Processes;

/// What `--help`, `/api/v1/info` and the documentation say about commands.
pub const NOTE: &str = "This demo is not an isolation boundary: commands run on its machine, with \
                        the rights of its user. Run no code that you do not trust.";

/// The settings of [`Commands`].
#[derive(Clone, Debug)]
pub struct CommandSettings {
    /// The project whose members may run commands.
    pub project: String,
    /// The folder in which commands start, and to which relative paths belong.
    pub directory: PathBuf,
    /// The longest time that a command may run.
    pub time_limit: Duration,
}

impl CommandSettings {
    /// The time limit of the program.
    pub const TIME_LIMIT: Duration = Duration::from_secs(3600);
}

/// Runs commands, and reads and writes files.
#[derive(Clone, Debug)]
pub struct Commands {
    settings: Arc<CommandSettings>,
    processes: Arc<Processes>,
    files: Files,
}

impl Commands {
    /// Must be called in a runtime of tokio.
    #[must_use]
    pub fn new(settings: CommandSettings) -> Self {
        Self {
            files: Files::new(settings.directory.clone()),
            settings: Arc::new(settings),
            processes: Arc::default(),
        }
    }

    /// Whether `pid` is a process that was started here and has not been waited for.
    #[must_use]
    pub fn is_running(&self, pid: i32) -> bool {
        self.processes.running().any(|process| process.pid() == pid)
    }

    /// Kills all process groups.
    pub fn kill_all(&self) {
        self.processes.running().for_each(|process| process.kill());
    }
}

/// The time now, as the clients expect times.
fn now() -> u64 {
    millis_since_1970(SystemTime::now())
}

fn millis_since_1970(time: SystemTime) -> u64 {
    let elapsed = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
