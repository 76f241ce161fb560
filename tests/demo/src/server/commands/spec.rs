//! The request for a process, and the program that runs it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tokio::process::Command;

use super::refusal::Refusal;

/// The programs of the machine, whatever the environment of the demo is.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The variable by which all processes of a command are found.
pub(super) const MARKER: &str = "SANDGATE_DEMO_COMMAND";

/// The body of a request for a process.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Spec {
    pub(super) command: String,
    #[serde(default)]
    pub(super) args: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    working_dir: Option<PathBuf>,
    /// In seconds.
    timeout: Option<f64>,
    #[serde(default)]
    stdin_mode: StdinMode,
    #[serde(default)]
    stdout_mode: OutputMode,
    #[serde(default)]
    stderr_mode: OutputMode,
    user: Option<Value>,
    name: Option<Value>,
    restart: Option<Value>,
    health_check: Option<Value>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum StdinMode {
    #[default]
    Closed,
    Pipe,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub(super) enum OutputMode {
    #[default]
    Capture,
    Discard,
}

impl OutputMode {
    fn stdio(self) -> Stdio {
        match self {
            Self::Capture => Stdio::piped(),
            Self::Discard => Stdio::null(),
        }
    }
}

impl Spec {
    pub(super) fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let spec: Self = serde_json::from_slice(body).map_err(|error| {
            Refusal::bad_request(format!("the body is not a request for a process: {error}"))
        })?;
        for (field, value) in
            [("name", &spec.name), ("restart", &spec.restart), ("health_check", &spec.health_check)]
        {
            if value.is_some() {
                return Err(Refusal::bad_request(format!(
                    "`{field}` is not supported by the demo, which does not manage processes; \
                     start the process without it"
                )));
            }
        }
        if spec.user.is_some() {
            return Err(Refusal::bad_request(
                "`user` is not supported by the demo, whose commands all run as one user; leave \
                 it out",
            ));
        }
        if spec.command.is_empty() {
            return Err(Refusal::bad_request("`command` is empty"));
        }
        if let Some(name) = spec.env.keys().find(|name| name.is_empty() || name.contains('=')) {
            return Err(Refusal::bad_request(format!("`{name}` is no name of a variable")));
        }
        Ok(spec)
    }

    /// The time after which the process is killed: `longest` unless the request has a shorter one.
    pub(super) fn time_limit(&self, longest: Duration) -> Result<Duration, Refusal> {
        let Some(seconds) = self.timeout else { return Ok(longest) };
        match Duration::try_from_secs_f64(seconds) {
            Ok(wanted) if !wanted.is_zero() => Ok(wanted.min(longest)),
            _ => Err(Refusal::bad_request(format!(
                "`timeout` must be a positive number of seconds, got {seconds}"
            ))),
        }
    }

    /// The command, in a process group of its own. It starts in `directory` unless the request
    /// names another one, and all of its processes inherit `marker`.
    pub(super) fn command(&self, directory: &Path, marker: &str) -> Result<Command, Refusal> {
        let start = match &self.working_dir {
            Some(wanted) => directory.join(wanted),
            None => directory.to_owned(),
        };
        // Otherwise the error of the start could not be told from that of a missing program.
        if !start.is_dir() {
            let shown = start.display();
            return Err(Refusal::bad_request(format!("`{shown}` (`working_dir`) is no folder")));
        }
        let mut command = Command::new(&self.command);
        command
            .args(&self.args)
            .current_dir(start)
            .env_clear()
            .env("PATH", PATH)
            .env("HOME", directory)
            .env("TMPDIR", directory)
            .env("LANG", "C.UTF-8")
            .envs(&self.env)
            .env(MARKER, marker)
            .process_group(0)
            .stdin(match self.stdin_mode {
                StdinMode::Closed => Stdio::null(),
                StdinMode::Pipe => Stdio::piped(),
            })
            .stdout(self.stdout_mode.stdio())
            .stderr(self.stderr_mode.stdio());
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> Result<Spec, Refusal> {
        Spec::parse(text.as_bytes())
    }

    #[test]
    fn what_the_demo_can_not_do_is_refused_instead_of_ignored() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"command":""}"#,
            r#"{"command":"a","user":"root"}"#,
            r#"{"command":"a","user":{"uid":0}}"#,
            r#"{"command":"a","name":"web"}"#,
            r#"{"command":"a","restart":{}}"#,
            r#"{"command":"a","health_check":{}}"#,
            r#"{"command":"a","stdin_mode":"tty"}"#,
            r#"{"command":"a","env":{"":"x"}}"#,
            r#"{"command":"a","env":{"A=B":"x"}}"#,
            r#"{"command":"a","args":[1]}"#,
        ] {
            assert_eq!(
                spec(text).map(|_| ()).map_err(|it| it.code()),
                Err("BAD_REQUEST"),
                "{text}"
            );
        }
        // `null` is the same as nothing, and fields of later versions are ignored.
        spec(r#"{"command":"a","user":null,"timeout":null,"later":1}"#).unwrap();
    }

    #[test]
    fn no_request_runs_longer_than_the_limit() {
        let longest = Duration::from_secs(60);
        let limit = |timeout: &str| {
            spec(&format!(r#"{{"command":"a","timeout":{timeout}}}"#))?.time_limit(longest)
        };
        assert_eq!(limit("0.5").unwrap(), Duration::from_millis(500));
        assert_eq!(limit("61").unwrap(), longest);
        assert_eq!(limit("null").unwrap(), longest);
        for wrong in ["0", "-1", "1e300"] {
            assert!(limit(wrong).is_err(), "{wrong}");
        }
    }
}
