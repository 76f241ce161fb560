//! A real PostgreSQL on this machine: a server with a folder of its own, and standbys of it.
//!
//! `scripts/setup postgres` installs the programs.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};

/// Starts a server in the directory `$1` and removes both when the parent ends, however it ends: then its side of the
/// pipe to the standard input closes. `$4` is the directory of the server whose standby it is, if there is one. Nothing
/// that it stores has to survive a crash of the machine (`fsync`).
const SERVER: &str = r#"
set -e
PATH=$2:$PATH
if [ -n "$4" ]; then
    pg_basebackup -h "$4" -U sandgate -D "$1/data" -X stream -c fast >"$1/backup.log" 2>&1
    touch "$1/data/standby.signal"
else
    initdb -D "$1/data" -U sandgate -A trust -N -E UTF8 --locale=C >"$1/initdb.log" 2>&1
fi
cat >>"$1/data/postgresql.conf" <<END
listen_addresses = ''
unix_socket_directories = '$1'
max_connections = 200
shared_buffers = 16MB
fsync = off
$3
END
pg_ctl -D "$1/data" -w -l "$1/server.log" start >/dev/null
echo ready
cat >/dev/null
# It may have been stopped.
kill -CONT "$(head -n 1 "$1/data/postmaster.pid")" 2>/dev/null || true
pg_ctl -D "$1/data" -m immediate stop >/dev/null 2>&1 || true
rm -rf "$1"
"#;

/// The user and group of a server.
#[derive(Clone, Copy)]
struct User(u32, u32);

/// A running server, which ends with this value or with this process.
pub struct Cluster {
    dir: PathBuf,
    programs: PathBuf,
    user: Option<User>,
    watchdog: Child,
    alive: Option<ChildStdin>,
    /// On loopback, if it listens there.
    port: Option<u16>,
}

/// What differs between servers.
#[derive(Default)]
struct Setup<'s> {
    files: &'s [(&'s str, &'s str)],
    settings: String,
    port: Option<u16>,
    standby_of: Option<&'s Cluster>,
}

impl Cluster {
    /// A server on a Unix socket.
    pub fn start() -> Result<Self> {
        Self::start_with(Setup::default())
    }

    /// A server on a Unix socket, with more lines of `postgresql.conf`.
    pub fn with_settings(settings: &str) -> Result<Self> {
        Self::start_with(Setup { settings: settings.to_owned(), ..Setup::default() })
    }

    /// A server that listens on loopback, too, without TLS.
    pub fn with_tcp() -> Result<Self> {
        let port = free_port()?;
        let settings = format!("listen_addresses = '127.0.0.1'\nport = {port}");
        Self::start_with(Setup { settings, port: Some(port), ..Setup::default() })
    }

    /// A server that listens on loopback, too, with a certificate and its key.
    pub fn with_tls(certificate: &str, key: &str) -> Result<Self> {
        let port = free_port()?;
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n\
             ssl_cert_file = '../tls.crt'\nssl_key_file = '../tls.key'"
        );
        let files = &[("tls.crt", certificate), ("tls.key", key)];
        Self::start_with(Setup { files, settings, port: Some(port), ..Setup::default() })
    }

    /// Starts a standby that follows this server by streaming replication, as `application_name = 'standby'`.
    pub fn standby(&self) -> Result<Self> {
        let primary = self.dir.display();
        let settings = format!(
            "primary_conninfo = 'host={primary} user=sandgate application_name=standby'\n\
             wal_receiver_timeout = 0"
        );
        Self::start_with(Setup { settings, standby_of: Some(self), ..Setup::default() })
    }

    fn start_with(setup: Setup<'_>) -> Result<Self> {
        let programs = programs()?;
        // PostgreSQL refuses to run as root.
        let user = match number("id", &["-u"])? {
            0 => Some(User(number("id", &["-u", "postgres"])?, number("id", &["-g", "postgres"])?)),
            _ => None,
        };
        let dir = tempfile::Builder::new().prefix("sandgate-pg-").tempdir()?.keep();
        for (name, text) in setup.files {
            std::fs::write(dir.join(name), text)?;
            std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o600))?;
        }
        if let Some(User(user, group)) = user {
            for name in std::iter::once("").chain(setup.files.iter().map(|(name, _)| *name)) {
                chown(dir.join(name), Some(user), Some(group))?;
            }
        }
        let mut watchdog = as_user(user, "bash")
            .args(["-c", SERVER, "bash"])
            .args([&dir, &programs])
            .arg(setup.settings)
            .arg(setup.standby_of.map_or(Path::new(""), |primary| &primary.dir))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // nextest waits for everybody who has the test's standard error.
            .stderr(Stdio::null())
            .spawn()?;
        let alive = watchdog.stdin.take();
        let mut ready = [0; 5];
        let output = watchdog.stdout.take().context("no output")?.read_exact(&mut ready);
        output
            .with_context(|| format!("PostgreSQL did not start; {} has its logs", dir.display()))?;
        Ok(Self { dir, programs, user, watchdog, alive, port: setup.port })
    }

    /// The port on loopback.
    pub fn port(&self) -> Result<u16> {
        self.port.context("the server does not listen on loopback")
    }

    /// Creates an empty database that nobody else uses. Returns its name.
    pub fn new_database(&self) -> Result<String> {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        self.run("createdb", &["-h", &self.dir.display().to_string(), "-U", "sandgate", &name])?;
        Ok(name)
    }

    /// The connection string of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://sandgate@{}/{database}", self.host())
    }

    /// The connection string of a database that is on whichever of two servers can be written to.
    #[must_use]
    pub fn url_with(&self, standby: &Self, database: &str) -> String {
        format!("postgres://sandgate@{},{}/{database}", self.host(), standby.host())
    }

    /// The directory of the socket, as a host of a connection string.
    fn host(&self) -> String {
        self.dir.display().to_string().replace('/', "%2F")
    }

    /// Runs statements in a database.
    pub fn run_sql(&self, url: &str, sql: &str) -> Result<()> {
        self.run("psql", &["-v", "ON_ERROR_STOP=1", "-qc", sql, url]).map(drop)
    }

    /// The first column of a query's rows.
    pub fn query(&self, url: &str, sql: &str) -> Result<Vec<String>> {
        let output = self.run("psql", &["-v", "ON_ERROR_STOP=1", "-Atc", sql, url])?;
        Ok(output.lines().map(str::to_owned).collect())
    }

    /// Begins a transaction with a statement. It ends when the result is dropped.
    pub fn hold(&self, url: &str, sql: &str) -> Result<Held> {
        let mut psql = as_user(self.user, self.programs.join("psql"))
            .args(["-v", "ON_ERROR_STOP=1", "-Atq", url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = psql.stdin.take().context("no input")?;
        writeln!(input, "BEGIN; {sql}; SELECT 'done';")?;
        let mut done = [0; 4];
        psql.stdout.as_mut().context("no output")?.read_exact(&mut done)?;
        Ok(Held(psql, Some(input)))
    }

    /// Stops the server as its operator does: connections end, transactions in progress are rolled back.
    pub fn stop(&self) -> Result<()> {
        self.control(&["-m", "fast", "stop"])
    }

    /// Ends all of the server's processes at once. The next start recovers from the write-ahead log.
    pub fn crash(&self) -> Result<()> {
        self.control(&["-m", "immediate", "stop"])
    }

    pub fn start_again(&self) -> Result<()> {
        let log = self.dir.join("server.log").display().to_string();
        self.control(&["-l", &log, "start"])
    }

    /// Makes a standby the primary.
    pub fn promote(&self) -> Result<()> {
        self.control(&["promote"])
    }

    /// Stops all of the server's processes with a signal, until the result is dropped: connections stay open, and nobody
    /// answers.
    pub fn pause(&self) -> Result<Paused> {
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid"))?;
        let pid = pid.lines().next().context("an empty `postmaster.pid`")?.to_owned();
        // The parent first, so that it starts no further process.
        signal("STOP", std::slice::from_ref(&pid));
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        let mut paused = Paused(children.split_whitespace().map(str::to_owned).collect());
        signal("STOP", &paused.0);
        paused.0.push(pid);
        Ok(paused)
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let data = self.dir.join("data");
        let mut command = as_user(self.user, self.programs.join("pg_ctl"));
        let command = command.args(["-w", "-D"]).arg(data).args(arguments);
        // The server keeps its parent's standard output open.
        ensure!(command.stdout(Stdio::null()).status()?.success(), "pg_ctl {arguments:?} failed");
        Ok(())
    }

    /// A new file that the server's user may write.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs one of PostgreSQL's programs as the server's user; returns its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let done = as_user(self.user, self.programs.join(program)).args(arguments).output()?;
        let errors = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{program} {arguments:?}: {errors}");
        Ok(String::from_utf8(done.stdout)?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.alive.take());
        drop(self.watchdog.wait());
    }
}

/// A transaction that is in progress.
pub struct Held(Child, Option<ChildStdin>);

impl Drop for Held {
    fn drop(&mut self) {
        // `psql` ends with its input.
        drop(self.1.take());
        drop(self.0.wait());
    }
}

/// The stopped processes of a server.
pub struct Paused(Vec<String>);

impl Drop for Paused {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

/// Sends a signal. A process may have ended meanwhile.
fn signal(name: &str, pids: &[String]) {
    let mut kill = Command::new("kill");
    drop(kill.arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status());
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The directory of the newest installed version's programs.
fn programs() -> Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .map(|version| Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin"));
    newest.context("PostgreSQL is not installed; run `scripts/setup postgres`")
}

fn as_user(user: Option<User>, program: impl AsRef<OsStr>) -> Command {
    let Some(User(user, group)) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    let (user, group) = (user.to_string(), group.to_string());
    command.args(["--clear-groups", "--reuid", &user, "--regid", &group]).arg(program);
    command
}

fn number(program: &str, arguments: &[&str]) -> Result<u32> {
    let output = Command::new(program).args(arguments).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
}
