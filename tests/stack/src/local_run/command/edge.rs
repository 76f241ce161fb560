//! The commands for the edge.

use super::{Command, OK, STATUS};
use crate::ports::Ports;

pub(super) const KEY: &str = r#"-H "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const HEADER: &str = r#"--header "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const PROJECT: &str = r#"-H "X-Forwarded-Organization-Id: $TENSORLAKE_ORGANIZATION_ID" -H "X-Forwarded-Project-Id: $TENSORLAKE_PROJECT_ID""#;
const HTTP_STATUS: &str = r"-w '\n%{http_code} HTTP/%{http_version}\n'";
pub(super) const API: &str = "$TENSORLAKE_API_URL/sandboxes/my-env";

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
            "the same at the URL that the public API returns",
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

/// The command that lists the edges. `sandgate` is the path of the program, and `edge` the name of the only edge.
#[must_use]
pub fn nodes(ports: &Ports, sandgate: &str, token_file: &str, edge: &str) -> Command {
    Command::new(
        "the edges, as the xDS server sees them: all of them have what they should have",
        format!(
            "{sandgate} xds nodes --gateway-url http://127.0.0.1:{} --gateway-token-file {token_file}",
            ports.gateway
        ),
        &format!("^true +{edge} +0 "),
    )
}
