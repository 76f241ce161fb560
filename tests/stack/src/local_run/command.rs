//! The commands that `make run` prints. `make try` runs the same commands.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::local_run::sidecar::{
    self, ALLOWED, DENIED, EDGE_ADDRESS, SANDBOX_ADDRESS, SidecarDemo,
};
use crate::output::relative;
use crate::ports::Ports;

/// A command line, and what it must do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Command {
    /// What the command shows.
    pub description: String,
    /// For bash, after `source env`.
    pub line: String,
    /// A regular expression that the output must match.
    pub expect: String,
    /// The exit status. curl reports denials by its exit status.
    pub status: i64,
    /// The number of seconds for which the command is repeated if it fails, because it follows a change that takes effect
    /// with a delay.
    pub patience: u64,
}

impl Command {
    fn new(description: &str, line: String, expect: &str) -> Self {
        let (description, expect) = (description.to_owned(), expect.to_owned());
        Self { description, line, expect, status: 0, patience: 0 }
    }

    fn with_status(self, status: i64) -> Self {
        Self { status, ..self }
    }

    fn with_patience(self, seconds: u64) -> Self {
        Self { patience: seconds, ..self }
    }

    /// The form in the file of commands.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "shows": self.description,
            "line": self.line,
            "expect": self.expect,
            "status": self.status,
            "patience": self.patience,
        })
    }

    /// Reads what [`Command::to_json`] returned.
    pub fn from_json(json: &Value) -> Result<Self> {
        let text = |name: &str| json.get(name).and_then(Value::as_str).map(str::to_owned);
        let read = || {
            Some(Self {
                description: text("shows")?,
                line: text("line")?,
                expect: text("expect")?,
                status: json.get("status")?.as_i64()?,
                patience: json.get("patience")?.as_u64()?,
            })
        };
        read().with_context(|| format!("not a command: {json}"))
    }
}

const KEY: &str = r#"-H "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const HEADER: &str = r#"--header "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const PROJECT: &str = r#"-H "X-Forwarded-Organization-Id: $TENSORLAKE_ORGANIZATION_ID" -H "X-Forwarded-Project-Id: $TENSORLAKE_PROJECT_ID""#;
const STATUS: &str = r"-w '\n%{http_code}\n'";
const HTTP_STATUS: &str = r"-w '\n%{http_code} HTTP/%{http_version}\n'";
const API: &str = "$TENSORLAKE_API_URL/sandboxes/my-env";

const OK: &str = r"\n200$";
const NOT_EXPOSED: &str = r#""PORT_NOT_EXPOSED"[\s\S]*\n403$"#;

/// The commands for the edge, in the order in which users run them. `demo` is the path of the demo program, and `my_env`
/// the id of the sandbox `my-env`.
#[must_use]
pub fn for_the_edge(ports: &Ports, demo: &str, my_env: &str) -> Vec<Command> {
    let Ports { edge, edge_tls: tls, .. } = ports;
    // Not every system resolves `*.localhost`, so curl gets the address.
    let curl = format!("curl -sS {STATUS} --resolve '*:{edge}:127.0.0.1'");
    let secure =
        format!("curl -sS {HTTP_STATUS} --cacert $SANDGATE_CA --resolve '*:{tls}:127.0.0.1'");
    let trusting = format!("--connect 127.0.0.1:{tls} --cacert $SANDGATE_CA");
    let host = |label: &str| format!("{label}.$SANDGATE_DOMAIN:{edge}");
    let host_tls = |label: &str| format!("{label}.$SANDGATE_DOMAIN:{tls}");
    let health = format!("{curl} http://{}/health", host("8080-my-env"));
    let patch = |exposed: &str| {
        format!(
            r#"curl -sS {STATUS} -X PATCH {API} {KEY} -H "Content-Type: application/json" -d '{{"exposed_ports": {exposed}}}'"#
        )
    };
    let web_socket = |options: &str, url: &str| {
        format!("{demo} ws {options} {HEADER} --message hello {url}/socket")
    };
    let sandbox_url =
        format!(r#"$(curl -sS {API} {KEY} | grep -o '"sandbox_url":"[^"]*' | cut -d'"' -f4)"#);

    vec![
        Command::new(
            "a port by the sandbox's name, with an API key",
            format!("{health} {KEY}"),
            OK,
        ),
        Command::new(
            "the same by the sandbox's id",
            format!("{curl} http://{}/health {KEY}", host(&format!("8080-{my_env}"))),
            OK,
        ),
        Command::new(
            "with a personal access token, and the project it is used for",
            format!(r#"{health} -H "Authorization: Bearer $TENSORLAKE_PAT" {PROJECT}"#),
            OK,
        ),
        Command::new(
            "with a browser's session cookie",
            format!(
                r#"{health} -H "Cookie: tl.session_token=$TENSORLAKE_SESSION_TOKEN" {PROJECT}"#
            ),
            OK,
        ),
        Command::new(
            "without a credential: denied, 401",
            health,
            r#""UNAUTHENTICATED"[\s\S]*\n401$"#,
        ),
        Command::new(
            "a public port needs no credential",
            format!("{curl} http://{}/health", host("8080-my-public-sandbox")),
            OK,
        ),
        Command::new(
            "the management API, on port 9501 of every sandbox",
            format!("{curl} http://{}/api/v1/info {KEY}", host("my-env")),
            OK,
        ),
        Command::new(
            "the same at the URL that the owners' API returns",
            format!("{curl} {sandbox_url}/api/v1/info {KEY}"),
            OK,
        ),
        Command::new(
            "a port that is not exposed: denied, 403",
            format!("{curl} http://{}/ {KEY}", host("5000-my-env")),
            NOT_EXPOSED,
        ),
        Command::new("unexpose port 3000", patch("[8080, 50051]"), OK),
        Command::new(
            "port 3000 is denied at once",
            format!("{curl} http://{}/socket {KEY}", host("3000-my-env")),
            NOT_EXPOSED,
        ),
        Command::new("expose port 3000 again", patch("[3000, 8080, 50051]"), OK),
        Command::new(
            "use port 3000 as a WebSocket (the client comes with Sandgate)",
            web_socket(
                &format!("--connect 127.0.0.1:{edge}"),
                &format!("ws://{}", host("3000-my-env")),
            ),
            "^hello$",
        ),
        Command::new(
            "gRPC",
            format!(
                "{demo} grpc echo --connect 127.0.0.1:{edge} {HEADER} --message hello http://{}",
                host("50051-my-env")
            ),
            r#""message": "hello""#,
        ),
        Command::new(
            "TLS with HTTP/2",
            format!("{secure} https://{}/health {KEY}", host_tls("8080-my-env")),
            r"\n200 HTTP/2$",
        ),
        Command::new(
            "TLS with HTTP/1.1",
            format!("{secure} --http1.1 https://{}/health {KEY}", host_tls("8080-my-env")),
            r"\n200 HTTP/1.1$",
        ),
        Command::new(
            "a WebSocket by TLS",
            web_socket(&trusting, &format!("wss://{}", host_tls("3000-my-env"))),
            "^hello$",
        ),
        Command::new(
            "a WebSocket over HTTP/2",
            web_socket(
                &format!("--http2 {trusting}"),
                &format!("wss://{}", host_tls("3000-my-env")),
            ),
            "^hello$",
        ),
        Command::new(
            "gRPC by TLS",
            format!(
                "{demo} grpc echo {trusting} {HEADER} --message hello https://{}",
                host_tls("50051-my-env")
            ),
            r#""message": "hello""#,
        ),
        Command::new(
            "suspend the sandbox",
            format!("curl -sS {STATUS} -X POST {API}/suspend {KEY}"),
            r"\n20[02]$",
        ),
        Command::new(
            "a request resumes the sandbox",
            format!("{curl} http://{}/health {KEY}", host("8080-my-env")),
            OK,
        ),
    ]
}

// curl's exit statuses (curl(1)).
const NO_SUCH_HOST: i64 = 6;
const NO_TLS: i64 = 35;

/// The commands for the sandbox behind a sidecar. They need root.
#[must_use]
pub fn for_the_sidecar(demo: &SidecarDemo) -> Vec<Command> {
    let sandbox = demo.inside("sandbox").join(" ");
    let internet = demo.inside("internet").join(" ");
    let curl = format!("{sandbox} curl -sS --max-time 10 {STATUS}");
    let secure = format!("{curl} --cacert {}", relative(&demo.authority()));
    let (allowed, denied) = (ALLOWED.name, DENIED.name);
    let denied_address = DENIED.address;
    // A change takes effect within a second. The pause lets users paste all commands at once.
    let set_policy = |name: &str| {
        format!("echo '{}' > {}; sleep 2", sidecar::policy(name), relative(&demo.policy_file()))
    };
    let banner = |host: &str| format!("{sandbox} bash -c 'cat < /dev/tcp/{host}/25'");
    let answered = |name: &str| format!(r"^{name} answers GET /hello[\s\S]*\n200$");

    vec![
        Command::new(
            "an allowed name, by HTTP",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        ),
        Command::new("by HTTPS", format!("{secure} https://{allowed}/hello"), &answered(allowed)),
        Command::new(
            "by a protocol that contains no server name (this one is like SMTP)",
            banner(allowed),
            &format!("^220 {allowed} ready"),
        ),
        Command::new(
            "another name: it does not exist for this sandbox",
            format!("{curl} http://{denied}/hello"),
            "Could not resolve host",
        )
        .with_status(NO_SUCH_HOST),
        Command::new(
            "its address, by HTTP: denied, 403, with the rule",
            format!("{curl} http://{denied_address}/hello"),
            r#""EGRESS_DENIED"[\s\S]*"rule":"default deny"[\s\S]*\n403$"#,
        ),
        Command::new(
            "its address, by HTTPS: reset",
            format!(
                "{secure} --connect-to {denied}:443:{denied_address}:443 https://{denied}/hello"
            ),
            "[Rr]eset by peer",
        )
        .with_status(NO_TLS),
        Command::new(
            "its address, by the protocol without a server name: reset",
            banner(&denied_address.to_string()),
            "reset by peer",
        )
        .with_status(1),
        Command::new(
            "the other direction: the edge reaches every port of the sandbox",
            format!(
                "{internet} curl -sS {STATUS} --interface {EDGE_ADDRESS} http://{SANDBOX_ADDRESS}:8080/health"
            ),
            OK,
        ),
        Command::new("change the policy: allow the other name instead", set_policy(denied), "^$"),
        Command::new(
            "the other name is allowed now",
            format!("{curl} http://{denied}/hello"),
            &answered(denied),
        )
        .with_patience(30),
        Command::new(
            "and the first name is denied",
            format!("{curl} http://{allowed}/hello"),
            "Could not resolve host",
        )
        .with_status(NO_SUCH_HOST)
        .with_patience(30),
        Command::new("change the policy back", set_policy(allowed), "^$"),
        Command::new(
            "the first name is allowed again",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        )
        .with_patience(30),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let ports = Ports { edge: 1, edge_tls: 2, api: 3, gateway: 4, admin: 5 };
        for command in for_the_edge(&ports, "demo", "id") {
            assert_eq!(Command::from_json(&command.to_json()).unwrap(), command);
        }
        assert!(Command::from_json(&json!({ "line": "true" })).is_err());
    }
}
