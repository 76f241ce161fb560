//! A real PostgreSQL for tests: one server for this process, and a database for each test.
//!
//! A test without PostgreSQL fails. `scripts/setup postgres` installs it.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use sandgate::store::PostgresSettings;

/// Starts a server in the directory `$1` and removes both when the test process ends, however it ends: then its side of
/// the pipe to the standard input closes. Nothing that a test writes has to survive a crash of the machine (`fsync`).
const SERVER: &str = r#"
set -e
PATH=$2:$PATH
initdb -D "$1/data" -U sandgate -A trust -N -E UTF8 --locale=C >"$1/initdb.log" 2>&1
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
# A test may have stopped it.
kill -CONT "$(head -n 1 "$1/data/postmaster.pid")" 2>/dev/null || true
pg_ctl -D "$1/data" -m immediate stop >/dev/null 2>&1 || true
rm -rf "$1"
"#;

/// The user and group of a server.
#[derive(Clone, Copy)]
struct User(u32, u32);

/// A running server, which ends with this value or with this process.
pub(crate) struct Cluster {
    dir: PathBuf,
    programs: PathBuf,
    user: Option<User>,
    watchdog: Child,
    alive: Option<ChildStdin>,
    /// On loopback, if it listens there.
    port: Option<u16>,
}

/// The server that the tests of this process share.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(Cluster::start)
}

impl Cluster {
    /// A server on a Unix socket.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], "", None)
    }

    /// A server that listens on loopback, too, without TLS.
    pub(crate) fn with_tcp() -> Self {
        let port = free_port();
        let settings = format!("listen_addresses = '127.0.0.1'\nport = {port}");
        Self::start_with(&[], &settings, Some(port))
    }

    /// A server that listens on loopback, too, with a certificate and its key.
    pub(crate) fn with_tls(certificate: &str, key: &str) -> Self {
        let port = free_port();
        let settings = format!(
            "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\n\
             ssl_cert_file = '../tls.crt'\nssl_key_file = '../tls.key'"
        );
        Self::start_with(&[("tls.crt", certificate), ("tls.key", key)], &settings, Some(port))
    }

    fn start_with(files: &[(&str, &str)], settings: &str, port: Option<u16>) -> Self {
        let programs = programs();
        // PostgreSQL refuses to run as root.
        let user = (number("id", &["-u"]) == 0)
            .then(|| User(number("id", &["-u", "postgres"]), number("id", &["-g", "postgres"])));
        let dir = tempfile::Builder::new().prefix("sandgate-pg-").tempdir().unwrap().keep();
        for (name, text) in files {
            std::fs::write(dir.join(name), text).unwrap();
            std::fs::set_permissions(dir.join(name), Permissions::from_mode(0o600)).unwrap();
        }
        if let Some(User(user, group)) = user {
            for name in std::iter::once("").chain(files.iter().map(|(name, _)| *name)) {
                chown(dir.join(name), Some(user), Some(group)).unwrap();
            }
        }
        let mut watchdog = as_user(user, "bash")
            .args(["-c", SERVER, "bash"])
            .args([&dir, &programs])
            .arg(settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // nextest waits for everybody who has the test's standard error.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let alive = watchdog.stdin.take();
        let mut ready = [0; 5];
        let read = watchdog.stdout.take().unwrap().read_exact(&mut ready);
        assert!(read.is_ok(), "PostgreSQL did not start; {} has its logs", dir.display());
        Self { dir, programs, user, watchdog, alive, port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.expect("the server does not listen on loopback")
    }

    /// Runs a statement in a database of [`Cluster::database`].
    pub(crate) fn run_sql(&self, database: &PostgresSettings, sql: &str) {
        self.run("psql", &["-v", "ON_ERROR_STOP=1", "-c", sql, &database.url]);
    }

    /// The first column of a query's rows.
    pub(crate) fn query(&self, database: &PostgresSettings, sql: &str) -> Vec<String> {
        let output = self.run("psql", &["-v", "ON_ERROR_STOP=1", "-Atc", sql, &database.url]);
        output.lines().map(str::to_owned).collect()
    }

    /// Begins a transaction with a statement. It ends when the result is dropped.
    pub(crate) fn hold(&self, database: &PostgresSettings, sql: &str) -> Held {
        let mut psql = as_user(self.user, self.programs.join("psql"))
            .args(["-v", "ON_ERROR_STOP=1", "-Atq", &database.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = psql.stdin.take().unwrap();
        writeln!(input, "BEGIN; {sql}; SELECT 'done';").unwrap();
        let mut done = [0; 4];
        psql.stdout.as_mut().unwrap().read_exact(&mut done).unwrap();
        Held(psql, Some(input))
    }

    /// An empty database that no other test uses.
    pub(crate) fn database(&self) -> PostgresSettings {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("test_{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let socket = self.dir.display();
        self.run("createdb", &["-h", &socket.to_string(), "-U", "sandgate", &name]);
        let host = self.dir.to_str().unwrap().replace('/', "%2F");
        let url = format!("postgres://sandgate@{host}/{name}");
        PostgresSettings { url, authorities: None, connections: 16 }
    }

    /// A new file that the server's user may write.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Dumps a database, as `docs/operations.md` says.
    pub(crate) fn dump(&self, database: &PostgresSettings, file: &Path) {
        let file = file.to_str().unwrap();
        self.run("pg_dump", &["--format=custom", "--file", file, &database.url]);
    }

    /// Restores a dump into an empty database, as `docs/operations.md` says.
    pub(crate) fn restore(&self, file: &Path, database: &PostgresSettings) {
        let file = file.to_str().unwrap();
        let options = ["--exit-on-error", "--single-transaction", "--no-owner", "--dbname"];
        self.run("pg_restore", &[&options[..], &[&database.url, file]].concat());
    }

    /// Stops the server as its operator does: connections end, transactions in progress are rolled back.
    pub(crate) fn stop(&self) {
        self.control(&["-m", "fast", "stop"]);
    }

    /// Ends all of the server's processes at once. The next start recovers from the write-ahead log.
    pub(crate) fn crash(&self) {
        self.control(&["-m", "immediate", "stop"]);
    }

    pub(crate) fn start_again(&self) {
        let log = self.dir.join("server.log");
        self.control(&["-l", log.to_str().unwrap(), "start"]);
    }

    /// Stops all of the server's processes with a signal, until the result is dropped: connections stay open, and nobody
    /// answers.
    pub(crate) fn pause(&self) -> Paused {
        let pid = std::fs::read_to_string(self.dir.join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        // The parent first, so that it starts no further process.
        signal("STOP", std::slice::from_ref(&pid));
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
        let mut paused = Paused(children.split_whitespace().map(str::to_owned).collect());
        signal("STOP", &paused.0);
        paused.0.push(pid);
        paused
    }

    fn control(&self, arguments: &[&str]) {
        let data = self.dir.join("data");
        let mut command = as_user(self.user, self.programs.join("pg_ctl"));
        let command = command.args(["-w", "-D"]).arg(data).args(arguments);
        // The server keeps its parent's standard output open.
        assert!(command.stdout(Stdio::null()).status().unwrap().success(), "{arguments:?}");
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let done =
            as_user(self.user, self.programs.join(program)).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8(done.stdout).unwrap()
    }
}

/// A transaction that is in progress.
pub(crate) struct Held(Child, Option<ChildStdin>);

impl Drop for Held {
    fn drop(&mut self) {
        // `psql` ends with its input.
        drop(self.1.take());
        let _ = self.0.wait();
    }
}

/// The stopped processes of a server.
pub(crate) struct Paused(Vec<String>);

impl Drop for Paused {
    fn drop(&mut self) {
        signal("CONT", &self.0);
    }
}

/// Sends a signal. A process may have ended meanwhile.
fn signal(name: &str, pids: &[String]) {
    let mut kill = Command::new("kill");
    let _ = kill.arg(format!("-{name}")).args(pids).stderr(Stdio::null()).status();
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.watchdog.wait();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The directory of the newest installed version's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .max()
        .map(|version| Path::new("/usr/lib/postgresql").join(version.to_string()).join("bin"));
    newest.expect("PostgreSQL is not installed; run `scripts/setup postgres`")
}

fn as_user(user: Option<User>, program: impl AsRef<OsStr>) -> Command {
    let Some(User(user, group)) = user else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    let (user, group) = (user.to_string(), group.to_string());
    command.args(["--clear-groups", "--reuid", &user, "--regid", &group]).arg(program);
    command
}

fn number(program: &str, arguments: &[&str]) -> u32 {
    let output = Command::new(program).args(arguments).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}
