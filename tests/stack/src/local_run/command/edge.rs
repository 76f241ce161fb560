//! The commands for the edge.

use super::{Command, OK, STATUS};

pub(super) const KEY: &str = r#"-H "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const HEADER: &str = r#"--header "Authorization: Bearer $TENSORLAKE_API_KEY""#;
const PROJECT: &str = r#"-H "X-Forwarded-Organization-Id: $TENSORLAKE_ORGANIZATION_ID" -H "X-Forwarded-Project-Id: $TENSORLAKE_PROJECT_ID""#;
const HTTP_STATUS: &str = r"-w '\n%{http_code} HTTP/%{http_version}\n'";
pub(super) const API: &str = "$TENSORLAKE_API_URL/sandboxes/my-env";
/// The option of `sandgate` that names the store.
const STORE: &str = "--data-dir $SANDGATE_RUN_DATA_DIR";

const NOT_EXPOSED: &str = r#""PORT_NOT_EXPOSED"[\s\S]*\n403$"#;

/// The commands for the edge, in the order in which users run them.
#[must_use]
pub fn for_the_edge() -> Vec<Command> {
    let curl = format!("curl -sS {STATUS}");
    let secure = format!("curl -sS {HTTP_STATUS} --cacert $SANDGATE_CA");
    // Not every system resolves `*.localhost` for other programs than curl.
    let connect = "--connect $SANDGATE_RUN_ADDRESS";
    let trusting = "--connect $SANDGATE_RUN_TLS_ADDRESS --cacert $SANDGATE_CA";
    let host = |label: &str| format!("{label}.$SANDGATE_EDGE");
    let host_tls = |label: &str| format!("{label}.$SANDGATE_EDGE_TLS");
    let health = format!("{curl} http://{}/health", host("8080-my-env"));
    let patch = |exposed: &str| {
        format!(
            r#"curl -sS {STATUS} -X PATCH {API} {KEY} -H "Content-Type: application/json" -d '{{"exposed_ports": {exposed}}}'"#
        )
    };
    let web_socket = |options: &str, url: &str| {
        format!("sandgate-demo ws {options} {HEADER} --message hello {url}/socket")
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
            format!("{curl} http://{}/health {KEY}", host("8080-$SANDGATE_MY_ENV")),
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
            web_socket(connect, &format!("ws://{}", host("3000-my-env"))),
            "^hello$",
        ),
        Command::new(
            "gRPC",
            format!(
                "sandgate-demo grpc echo {connect} {HEADER} --message hello http://{}",
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
            web_socket(trusting, &format!("wss://{}", host_tls("3000-my-env"))),
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
                "sandgate-demo grpc echo {trusting} {HEADER} --message hello https://{}",
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
        Command::new(
            "the events of the sandbox: who changed it, when it was resumed, and what was denied",
            format!(r#"curl -sS {STATUS} "{API}/events?limit=50" {KEY}"#),
            r#""type":"resumed"[\s\S]*"type":"ports_changed"[\s\S]*\n200$"#,
        ),
        Command::new(
            "why a request is denied: the decision, its rule, and the path to it",
            format!("sandgate explain http://{}/health {STORE}", host("8080-my-env")),
            "rule +UNAUTHENTICATED",
        )
        .with_status(3),
        Command::new(
            "who changed ports and network policies",
            format!("sandgate audit my-env {STORE}"),
            "^TIME .*PORTS\\n.*8080",
        ),
    ]
}

/// The command that lists the edges. `edge` is the name of the only one.
#[must_use]
pub fn nodes(edge: &str) -> Command {
    Command::new(
        "the edges, as the xDS server sees them: all of them have what they should have",
        "sandgate xds nodes --gateway-url $SANDGATE_GATEWAY_URL --gateway-token-file $SANDGATE_GATEWAY_TOKEN_FILE"
            .to_owned(),
        &format!("^true +{edge} +0 "),
    )
}
