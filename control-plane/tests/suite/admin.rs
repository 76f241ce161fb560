//! The admin API: who may call it, that a secret is shown once, and its calls, with both stores.

use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sandgate::admin::{self, Admin};
use sandgate::api::{self, Api, EgressEnforcement, PrivateToPublic, PublicUrls};
use sandgate::changes::Propagation;
use sandgate::gateway::{Tokens, follow_file};
use sandgate::http::RequestLimits;
use sandgate::model::TokenPrefix;
use sandgate::sandboxes::{SandboxService, ServiceSettings};
use sandgate::store::{PostgresStore, SqliteStore, Store};
use serde_json::{Value, json};
use tempfile::TempDir;
use test_case::test_case;

use super::command_line::{Installation, Served};
use super::contract::Database;
use super::fleet::{client, wait_for};
use super::postgres;
use super::runtime::TestRuntime;
use super::support::{Answer, TOKEN, World, send};

const ADMIN: &str = "admin-token-for-tests-0123456789";

struct Operators {
    router: Router,
    /// The owners' API of the same store.
    api: Router,
    dir: TempDir,
    tokens: Tokens,
}

impl Operators {
    async fn new(database: Database) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.db");
        let opened = tokio::task::spawn_blocking(move || -> Arc<dyn Store> {
            match database {
                Database::Sqlite => Arc::new(SqliteStore::open(&path).unwrap()),
                Database::Postgres => {
                    Arc::new(PostgresStore::open(&postgres::shared().database()).unwrap())
                }
            }
        });
        Self::on(dir, opened.await.unwrap())
    }

    fn on(dir: TempDir, store: Arc<dyn Store>) -> Self {
        let file = dir.path().join("admin-token");
        std::fs::write(&file, ADMIN).unwrap();
        let tokens = Tokens::from_file(&file).unwrap();
        let propagation = Propagation::new(store).unwrap();
        let limits = || RequestLimits::new(16, Duration::from_secs(20));
        let admin = Admin {
            propagation: propagation.clone(),
            tokens: tokens.clone(),
            personal_access_token_prefix: TokenPrefix::default(),
        };
        let runtime = Arc::new(TestRuntime::default());
        let api = Api {
            sandboxes: SandboxService::new(propagation, runtime, ServiceSettings::default()),
            urls: PublicUrls::new("http://localhost:9443", "sandbox.localhost").unwrap(),
            egress: EgressEnforcement::Absent,
            private_to_public: PrivateToPublic::Allow,
            personal_access_token_prefix: TokenPrefix::default(),
        };
        let (router, api) = (admin::router(admin, limits()), api::router(api, limits()));
        Self { router, api, dir, tokens }
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_with(ADMIN, method, path, body).await
    }

    async fn call_with(&self, token: &str, method: &str, path: &str, body: Value) -> Answer {
        let authorization = format!("Bearer {token}");
        let path = format!("/admin/v1/{path}");
        send(&self.router, method, &path, &[("authorization", &authorization)], body).await
    }

    async fn create(&self, path: &str, body: Value) -> Value {
        let answer = self.call("POST", path, body).await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.body
    }

    /// A project, and its id.
    async fn project(&self) -> String {
        let organization = self.create("organizations", json!({ "name": "acme" })).await;
        let new = json!({ "organization_id": organization["id"], "name": "web" });
        self.create("projects", new).await["id"].as_str().unwrap().to_owned()
    }
}

/// Every call of the API.
const CALLS: [(&str, &str); 10] = [
    ("GET", "organizations"),
    ("POST", "organizations"),
    ("GET", "projects"),
    ("POST", "projects"),
    ("GET", "members"),
    ("PUT", "projects/project_1/members/ann"),
    ("DELETE", "projects/project_1/members/ann"),
    ("GET", "keys"),
    ("POST", "keys"),
    ("DELETE", "keys/key_1"),
];

#[tokio::test]
async fn only_an_admin_token_opens_the_api_and_it_opens_nothing_else() {
    let world = World::new();
    let store = Arc::clone(&world.store) as Arc<dyn Store>;
    let operators = Operators::on(tempfile::tempdir().unwrap(), store);
    let ours = &world.ours;
    for (method, path) in CALLS {
        let bare = format!("/admin/v1/{path}");
        let bare = send(&operators.router, method, &bare, &[], Value::Null).await;
        bare.refused(401, "UNAUTHENTICATED");
        for token in [
            &ours.key,
            &ours.pat,
            &ours.session,
            TOKEN,
            "",
            " ",
            ADMIN.strip_prefix("a").unwrap(),
            &ADMIN.to_uppercase(),
        ] {
            let answer = operators.call_with(token, method, path, Value::Null).await;
            answer.refused(401, "UNAUTHENTICATED");
        }
        // Two tokens are none, even if one of them is right.
        let right = format!("Bearer {ADMIN}");
        let two = [("authorization", right.as_str()), ("authorization", right.as_str())];
        let path = format!("/admin/v1/{path}");
        send(&operators.router, method, &path, &two, Value::Null)
            .await
            .refused(401, "UNAUTHENTICATED");
        // Neither the owners' API, which edges route to, nor the gateway API has the path.
        for router in [&world.api, &world.gateway] {
            let answer = send(router, method, &path, &two[..1], Value::Null).await;
            assert!([401, 404, 501].contains(&answer.status.as_u16()), "{}", answer.status);
        }
    }
    let list = world.call_as(ADMIN, "GET", "/sandboxes", Value::Null).await;
    assert_eq!(list.status, 401, "{}", list.body);
    let authorization = format!("Bearer {ADMIN}");
    let headers = [("authorization", authorization.as_str())];
    let answer = send(&world.gateway, "GET", "/gateway/v1/changes", &headers, Value::Null).await;
    answer.refused(401, "UNAUTHENTICATED");
}

#[tokio::test]
async fn a_token_is_replaced_without_a_restart_and_the_old_one_ends() {
    let operators = Operators::new(Database::Sqlite).await;
    let file = operators.dir.path().join("admin-token");
    let next = "the-next-admin-token-0123456789";
    tokio::spawn(follow_file(operators.tokens.clone(), file.clone(), "admin"));
    let until = async |token: &str, status: u16| {
        let changed = async {
            while operators.call_with(token, "GET", "keys", Value::Null).await.status != status {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
    };
    std::fs::write(&file, format!("{ADMIN}\n{next}\n")).unwrap();
    until(next, 200).await;
    until(ADMIN, 200).await;
    std::fs::write(&file, next).unwrap();
    until(ADMIN, 401).await;
    until(next, 200).await;
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_gets_everything_from_the_api_and_loses_it_again(database: Database) {
    let operators = Operators::new(database).await;
    let project = operators.project().await;
    let members = format!("projects/{project}/members/ann%40example.com");
    let member = operators.call("PUT", &members, Value::Null).await.ok();
    assert_eq!(
        (&member["user"], &member["project_id"]),
        (&json!("ann@example.com"), &json!(project))
    );
    let key = operators.create("keys", json!({ "kind": "api_key", "project_id": project })).await;
    let secret = key["secret"].as_str().unwrap().to_owned();
    let list = async |secret: &str| {
        let authorization = format!("Bearer {secret}");
        let headers = [("authorization", authorization.as_str())];
        send(&operators.api, "GET", "/sandboxes", &headers, Value::Null).await
    };
    list(&secret).await.ok();
    let path = format!("keys/{}", key["id"].as_str().unwrap());
    let revoked = operators.call("DELETE", &path, Value::Null).await.ok();
    assert!(revoked["revoked_at"].is_i64());
    list(&secret).await.refused(401, "INVALID_CREDENTIALS");
    // Again, which changes nothing.
    assert_eq!(operators.call("DELETE", &path, Value::Null).await.ok(), revoked);

    let token =
        json!({ "kind": "pat", "user": "ann@example.com", "expires_in_seconds": 60, "name": "ci" });
    let token = operators.create("keys", token).await;
    assert_eq!(token["user_id"], member["user_id"]);
    assert!(token["expires_at"].as_i64() > token["created_at"].as_i64());
    operators.call("DELETE", &members, Value::Null).await.ok();
    operators.call("DELETE", &members, Value::Null).await.refused(404, "NOT_FOUND");
}

#[tokio::test]
async fn a_secret_is_in_one_response_only_and_a_repeated_creation_makes_no_second_key() {
    let operators = Operators::new(Database::Sqlite).await;
    let project = operators.project().await;
    let id = "key_0123456789abcdefghij";
    let new = json!({ "kind": "api_key", "project_id": project, "id": id });
    let answer = operators.call("POST", "keys", new.clone()).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let secret = answer.body["secret"].as_str().unwrap().to_owned();
    let again = operators.call("POST", "keys", new).await;
    let message = again.refused(409, "KEY_EXISTS");
    assert!(message.contains(id) && !message.contains(&secret));
    let listed = operators.call("GET", "keys", Value::Null).await.ok();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 1);
    let revoked = operators.call("DELETE", &format!("keys/{id}"), Value::Null).await.ok();
    for text in [listed.to_string(), revoked.to_string()] {
        assert!(!text.contains(&secret) && !text.contains("secret"), "{text}");
    }
}

#[test_case(Database::Sqlite; "on sqlite")]
#[test_case(Database::Postgres; "on postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_creation_returns_what_exists_and_pages_have_each_entry_once(
    database: Database,
) {
    let operators = Operators::new(database).await;
    let project = operators.project().await;
    let first = operators.create("organizations", json!({ "name": "umbrella" })).await;
    let again = operators.call("POST", "organizations", json!({ "name": "umbrella" })).await;
    assert_eq!((again.status.as_u16(), &again.body), (200, &first));
    let new = json!({ "organization_id": first["id"], "name": "web" });
    let made = operators.create("projects", new.clone()).await;
    assert_eq!(operators.call("POST", "projects", new).await.ok(), made);

    for number in 0..5 {
        operators.create("organizations", json!({ "name": format!("org {number}") })).await;
        let member = format!("projects/{project}/members/user-{number}");
        operators.call("PUT", &member, Value::Null).await.ok();
        operators.create("keys", json!({ "kind": "api_key", "project_id": project })).await;
    }
    for (list, id, expected) in
        [("organizations", "id", 7), ("members", "user_id", 5), ("keys", "id", 5)]
    {
        let (mut seen, mut cursor, mut pages) = (BTreeSet::new(), String::new(), 0_usize);
        loop {
            let page = operators.call("GET", &format!("{list}?limit=2{cursor}"), Value::Null).await;
            let page = page.ok();
            let entries = page[list].as_array().unwrap();
            assert!(entries.len() <= 2);
            for entry in entries {
                assert!(seen.insert(entry[id].as_str().unwrap().to_owned()), "{entry} twice");
            }
            pages += 1;
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!((seen.len(), pages), (expected, usize::div_ceil(expected, 2)), "{list}");
    }
    let of = |list: &str, filter: &str| format!("{list}?{filter}");
    let projects = of("projects", &format!("organization_id={}", first["id"].as_str().unwrap()));
    let found = operators.call("GET", &projects, Value::Null).await.ok();
    assert_eq!(found["projects"], json!([made]));
    let none = of("keys", &format!("project_id={}", made["id"].as_str().unwrap()));
    assert_eq!(operators.call("GET", &none, Value::Null).await.ok()["keys"], json!([]));
}

#[tokio::test]
async fn wrong_input_is_refused_with_its_name() {
    let operators = Operators::new(Database::Sqlite).await;
    let project = operators.project().await;
    for (method, path, body, named) in [
        ("POST", "organizations", json!({ "name": "" }), "name"),
        ("POST", "organizations", json!({ "name": "a\nb" }), "name"),
        ("POST", "organizations", json!({ "name": "a".repeat(201) }), "name"),
        ("POST", "organizations", json!({ "name": "a", "id": "org_1" }), "id"),
        ("POST", "organizations", json!([]), "object"),
        ("POST", "projects", json!({ "name": "a" }), "organization_id"),
        ("POST", "keys", json!({ "kind": "api_key" }), "project_id"),
        ("POST", "keys", json!({ "kind": "root", "project_id": project }), "kind"),
        ("POST", "keys", json!({ "kind": "pat", "project_id": project }), "user"),
        (
            "POST",
            "keys",
            json!({ "kind": "api_key", "project_id": project, "expires_in_seconds": 0 }),
            "expires_in_seconds",
        ),
        (
            "POST",
            "keys",
            json!({ "kind": "api_key", "project_id": project, "id": "key_short" }),
            "id",
        ),
        (
            "POST",
            "keys",
            json!({ "kind": "api_key", "project_id": project, "id": "key_0123456789ABCDEF" }),
            "id",
        ),
        ("PUT", "projects/project_1/members/%0a", Value::Null, "user"),
        ("GET", "keys?limit=0", Value::Null, "limit"),
        ("GET", "keys?limit=1001", Value::Null, "limit"),
        ("GET", "keys?cursor=x", Value::Null, "cursor"),
        ("GET", "keys?cursor=1.%27", Value::Null, "cursor"),
        ("GET", "members?cursor=1", Value::Null, "cursor"),
        ("GET", "keys?page=2", Value::Null, "parameters"),
        ("GET", "keys?organization_id=org_1", Value::Null, "organization_id"),
        ("GET", "organizations?project_id=p", Value::Null, "project_id"),
    ] {
        let answer = operators.call(method, path, body.clone()).await;
        let message = answer.refused(400, "INVALID_REQUEST");
        assert!(message.contains(named), "{method} {path} {body}: {message}");
    }
    for (method, path, body) in [
        ("POST", "projects", json!({ "organization_id": "org_x", "name": "a" })),
        ("POST", "keys", json!({ "kind": "api_key", "project_id": "project_x" })),
        ("POST", "keys", json!({ "kind": "session", "user": "nobody" })),
        ("PUT", "projects/project_x/members/ann", Value::Null),
        ("DELETE", "keys/key_x", Value::Null),
        ("GET", "sandboxes", Value::Null),
    ] {
        operators.call(method, path, body).await.refused(404, "NOT_FOUND");
    }
}

const PROGRAM: &str = env!("CARGO_BIN_EXE_sandgate");

#[test]
fn the_command_line_manages_a_store_through_its_server() {
    let installation = Installation::new();
    // The server reads its own file again when it changes.
    let (file, of_server) = (installation.path("token-to-send"), installation.path("admin-token"));
    std::fs::write(&file, ADMIN).unwrap();
    std::fs::write(&of_server, ADMIN).unwrap();
    let mut command = installation.serve_command();
    command.args(["--admin-listen", "127.0.0.1:0", "--admin-token-file"]).arg(&of_server);
    let server = Served::start(command);
    let url = server.admin.clone().unwrap();
    let run = |arguments: &[&str], url: &str| -> Output {
        let mut command = Command::new(PROGRAM);
        command
            .args(arguments)
            .args(["--json", "--admin-url", url, "--admin-token-file"])
            .arg(&file);
        command.output().unwrap()
    };
    let manage = |arguments: &[&str]| -> Value {
        let output = run(arguments, &url);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let id = |value: &Value| value["id"].as_str().unwrap().to_owned();
    let organization = id(&manage(&["orgs", "create", "acme"]));
    assert_eq!(id(&manage(&["orgs", "create", "acme"])), organization);
    let create = ["projects", "create", "web", "--organization", &organization];
    let project = id(&manage(&create));
    let user = "ann@example.com";
    manage(&["members", "add", "--user", user, "--project", &project]);
    let key = manage(&["keys", "create", "--project", &project, "--expires-in", "1d"]);
    assert!(key["secret"].is_string());
    let token = manage(&["keys", "create", "--kind", "pat", "--user", user]);
    assert!(token["secret"].as_str().unwrap().starts_with("tl_pat"));
    // The same output as from the store itself.
    for list in ["orgs", "projects", "members", "keys"] {
        assert_eq!(manage(&[list, "list"]), installation.manage(&[list, "list"]), "{list}");
    }
    let revoked = manage(&["keys", "revoke", &id(&key)]);
    assert!(revoked["revoked_at"].is_i64() && revoked.get("secret").is_none());
    manage(&["members", "remove", "--user", user, "--project", &project]);
    assert_eq!(manage(&["members", "list"]), json!({ "members": [] }));

    let error = |arguments: &[&str], url: &str| -> String {
        let output = run(arguments, url);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(error(&["keys", "revoke", "key_x"], &url).contains("there is no credential"));
    assert!(error(&["audit"], &url).contains("use --data-dir or --database"));
    // The audit log names the token, and not itself.
    let log = installation.manage(&["audit"]);
    let changes = log["operator_changes"].as_array().unwrap();
    let by_token = changes.iter().filter(|line| {
        line["principal"].as_str().is_some_and(|principal| principal.starts_with("admin token "))
    });
    let by_token: Vec<_> = by_token.map(|line| line["action"].as_str().unwrap()).collect();
    assert!(by_token.contains(&"create key") && by_token.contains(&"remove member"), "{log}");
    assert!(!log.to_string().contains(ADMIN), "{log}");
    // The token is not sent anywhere in plain text.
    assert!(error(&["orgs", "list"], "http://192.0.2.1:8903").contains("is not https://"));
    std::fs::write(&file, "another-token-0123456789").unwrap();
    assert!(error(&["orgs", "list"], &url).contains("401"));
}

#[test]
fn beyond_loopback_the_admin_api_needs_tls() {
    let installation = Installation::new();
    let file = installation.path("admin-token");
    std::fs::write(&file, ADMIN).unwrap();
    let mut command = installation.serve_command();
    command.args(["--admin-listen", "0.0.0.0:0", "--admin-token-file"]).arg(&file);
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("set --admin-tls-dir"), "{error}");
}

#[test]
fn a_gateway_token_is_refused_as_admin_token() {
    let installation = Installation::new();
    let mut command = installation.serve_command();
    command.args(["--admin-listen", "127.0.0.1:0", "--admin-token-file"]);
    command.arg(installation.path("token"));
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && error.contains("each edge has it"), "{error}");
}

/// The attack: a holder of a token closes the connection while the change waits for the store. The change is made, and its
/// handler is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_is_gone_is_logged() {
    let installation = Installation::new();
    let (project, _) = installation.create_project();
    let (file, log) = (installation.path("admin-token"), installation.path("log"));
    std::fs::write(&file, ADMIN).unwrap();
    let mut command = installation.serve_command();
    command.args(["--admin-listen", "127.0.0.1:0", "--admin-token-file"]).arg(&file);
    command.stderr(std::fs::File::create(&log).unwrap());
    let server = Served::start(command);
    let url = format!("{}/admin/v1", server.admin.as_ref().unwrap());
    let member = format!("{url}/projects/{project}/members/ann");
    let store = rusqlite::Connection::open(installation.data.join("sandgate.db")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let call = client().put(member).bearer_auth(ADMIN).timeout(Duration::from_secs(1)).send();
    assert!(call.await.unwrap_err().is_timeout());
    let get = async |url: &str, token: &str| {
        let answer = client().get(url).bearer_auth(token).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let metrics = format!("{}/metrics", server.gateway);
    let ended = r#"in_flight{api="admin",route="/admin/v1/projects/{project}/members/{user}"} 0"#;
    wait_for("the handler has ended", async || get(&metrics, TOKEN).await.contains(ended)).await;
    store.execute_batch("COMMIT").unwrap();
    let members = format!("{url}/members");
    wait_for("the change is made", async || get(&members, ADMIN).await.contains("ann")).await;
    wait_for("the change is logged", async || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.lines().any(|line| line.contains("add member") && line.contains(&project))
    })
    .await;
}
