//! A control plane in the test's process: a real store in a directory of its own, both routers, and
//! a runtime that the test controls.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use sandgate::api::{self, Api, EgressEnforcement, PrivateToPublic, PublicUrls};
use sandgate::changes::Propagation;
use sandgate::gateway::{self, Gateway, Platform, Tokens};
use sandgate::http::{ConnectionLimit, RequestLimits};
use sandgate::metrics::Metrics;
use sandgate::model::{NewCredential, Owner, TokenPrefix};
use sandgate::random::{NewSecret, prefixed_id};
use sandgate::runtime::SigningKey;
use sandgate::sandboxes::{SandboxService, ServiceSettings};
use sandgate::store::{Author, Limits, SqliteStore, Store};
use sandgate_xds::nodes::Nodes;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tower::ServiceExt as _;

use super::receiver::SECRET;
use super::runtime::TestRuntime;

pub(crate) const TOKEN: &str = "gateway-token-for-tests";

/// A project with a key, and a user who is its member with a token and a session.
#[derive(Clone)]
pub(crate) struct Tenant {
    pub(crate) organization: String,
    pub(crate) project: String,
    pub(crate) key_id: String,
    pub(crate) key: String,
    pub(crate) user_id: String,
    pub(crate) pat: String,
    pub(crate) session: String,
}

pub(crate) struct World {
    pub(crate) api: Router,
    parts: Api,
    pub(crate) gateway: Router,
    pub(crate) metrics: Metrics,
    pub(crate) sandboxes: SandboxService,
    pub(crate) runtime: Arc<TestRuntime>,
    pub(crate) store: Arc<SqliteStore>,
    pub(crate) ours: Tenant,
    pub(crate) dir: TempDir,
    pub(crate) stopping: watch::Sender<bool>,
}

/// A complete response.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        self.body
    }

    /// Asserts the status and code of an error, and returns its message.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> String {
        assert_eq!(
            (self.status.as_u16(), self.body["code"].as_str()),
            (status, Some(code)),
            "{}",
            self.body
        );
        self.body["error"].as_str().unwrap().to_owned()
    }
}

impl World {
    /// The limit of concurrent connections of sidecars.
    pub(crate) const SIDECARS: usize = 8;
    /// The limit of concurrent calls of sidecars.
    pub(crate) const SIDECAR_CALLS: usize = 12;
    /// The limit of concurrent calls of the sidecars of one sandbox.
    pub(crate) const EACH_SANDBOX: usize = 2;

    pub(crate) fn new() -> Self {
        Self::with(ServiceSettings::default())
    }

    pub(crate) fn with(settings: ServiceSettings) -> Self {
        // The log is shown for failed tests. It can be set up only once in a process.
        let _ = tracing_subscriber::fmt().with_test_writer().try_init();
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("sandgate.db")).unwrap());
        Self::with_store(dir, store, settings)
    }

    /// A control plane of a deployment in which sidecars enforce network policies.
    pub(crate) fn with_sidecars() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("sandgate.db")).unwrap());
        Self::build(
            dir,
            store,
            ServiceSettings::default(),
            EgressEnforcement::Enforced,
            Self::limits(1_000),
        )
    }

    /// A control plane with these limits on the stored data of projects.
    pub(crate) fn with_store_limits(limits: Limits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("sandgate.db")).unwrap().within(limits);
        let settings = ServiceSettings::default();
        Self::build(
            dir,
            Arc::new(store),
            settings,
            EgressEnforcement::Enforced,
            Self::limits(1_000),
        )
    }

    /// A control plane with `--public-ports confirm`.
    pub(crate) fn with_confirmation() -> Self {
        let mut world = Self::new();
        world.parts.private_to_public = PrivateToPublic::Confirm;
        world.api = api::router(world.parts.clone(), Self::limits(1_000));
        world
    }

    /// A control plane on a store that may have been used before.
    pub(crate) fn with_store(
        dir: TempDir,
        store: Arc<SqliteStore>,
        settings: ServiceSettings,
    ) -> Self {
        Self::build(dir, store, settings, EgressEnforcement::Absent, Self::limits(1_000))
    }

    /// A control plane on a store with the tenants of an earlier one; set [`World::ours`].
    pub(crate) fn resumed(
        dir: TempDir,
        store: Arc<SqliteStore>,
        settings: ServiceSettings,
    ) -> Self {
        Self::build_for(dir, store, settings, EgressEnforcement::Absent, Self::limits(1_000), "new")
    }

    /// A control plane with these limits on concurrent requests of owners.
    pub(crate) fn with_limits(api: RequestLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(&dir.path().join("sandgate.db")).unwrap());
        Self::build(dir, store, ServiceSettings::default(), EgressEnforcement::Absent, api)
    }

    pub(crate) fn limits(in_flight: usize) -> RequestLimits {
        RequestLimits::new(in_flight, Duration::from_secs(80))
    }

    fn build(
        dir: TempDir,
        store: Arc<SqliteStore>,
        settings: ServiceSettings,
        egress: EgressEnforcement,
        limits: RequestLimits,
    ) -> Self {
        Self::build_for(dir, store, settings, egress, limits, "ours")
    }

    fn build_for(
        dir: TempDir,
        store: Arc<SqliteStore>,
        settings: ServiceSettings,
        egress: EgressEnforcement,
        limits: RequestLimits,
        name: &str,
    ) -> Self {
        let token_file: PathBuf = dir.path().join("tokens");
        std::fs::write(&token_file, TOKEN).unwrap();
        let ours = tenant(store.as_ref(), name);
        let propagation = Propagation::new(Arc::clone(&store) as Arc<dyn Store>).unwrap();
        tokio::spawn(propagation.wake_sandbox_waiters());
        let runtime = Arc::new(TestRuntime::default());
        let sandboxes = SandboxService::new(propagation, Arc::clone(&runtime) as _, settings);
        let urls = PublicUrls::new("http://localhost:9443", "sandbox.localhost").unwrap();
        let (stopping, stopped) = watch::channel(false);
        let parts = Api {
            sandboxes: sandboxes.clone(),
            urls,
            egress,
            private_to_public: PrivateToPublic::Allow,
            personal_access_token_prefix: TokenPrefix::default(),
        };
        let tokens = Tokens::from_file(&token_file).unwrap();
        let metrics = Metrics::new(&sandboxes, tokens.clone(), Some(Nodes::default()));
        let gateway = Gateway {
            metrics: metrics.clone(),
            sandboxes: sandboxes.clone(),
            sidecar_connections: ConnectionLimit::new(Self::SIDECARS),
            tokens,
            platform: Some(Arc::new(Platform {
                key: SigningKey::new(SECRET).unwrap(),
                sandbox_cidrs: vec!["127.70.0.0/16".parse().unwrap()],
            })),
            xds_nodes: None,
            stopping: stopped,
        };
        let of_gateways =
            Self::limits(1_000).per_caller(Self::EACH_SANDBOX).waiting(Self::SIDECAR_CALLS);
        Self {
            api: metrics.http().observe("public", api::router(parts.clone(), limits)),
            parts,
            gateway: metrics.http().observe("gateway", gateway::router(gateway, of_gateways)),
            metrics,
            sandboxes,
            runtime,
            store,
            ours,
            dir,
            stopping,
        }
    }

    /// Another organization with a project, key and user.
    pub(crate) fn others(&self) -> Tenant {
        tenant(self.store.as_ref(), "others")
    }

    /// Calls the public API with our key.
    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_as(&self.ours.key, method, path, body).await
    }

    pub(crate) async fn call_as(&self, key: &str, method: &str, path: &str, body: Value) -> Answer {
        let authorization = format!("Bearer {key}");
        send(&self.api, method, path, &[("authorization", &authorization)], body).await
    }

    /// Calls the gateway API with the right token.
    pub(crate) async fn call_gateway(&self, method: &str, path: &str, body: Value) -> Answer {
        let authorization = format!("Bearer {TOKEN}");
        send(&self.gateway, method, path, &[("authorization", &authorization)], body).await
    }

    /// Creates a sandbox and returns its id.
    pub(crate) async fn create(&self, body: Value) -> String {
        let answer = self.call("POST", "/sandboxes", body).await.ok();
        answer["sandbox_id"].as_str().unwrap().to_owned()
    }

    /// Creates a named sandbox and suspends it; returns its id.
    pub(crate) async fn create_suspended(&self, body: Value) -> String {
        let id = self.create(body).await;
        let answer = self.call("POST", &format!("/sandboxes/{id}/suspend"), Value::Null).await.ok();
        assert_eq!(answer["status"], "suspended");
        id
    }

    /// The revision from which a new watcher starts.
    pub(crate) async fn revision(&self) -> String {
        let answer = self.call_gateway("GET", "/gateway/v1/changes", Value::Null).await.ok();
        assert_eq!(answer["reset"], true);
        answer["revision"].as_str().unwrap().to_owned()
    }

    /// Polls once as a named watcher.
    pub(crate) async fn poll(&self, watcher: &str, since: &str, wait_ms: u64) -> Value {
        let path = format!("/gateway/v1/changes?since={since}&wait_ms={wait_ms}&watcher={watcher}");
        self.call_gateway("GET", &path, Value::Null).await.ok()
    }
}

/// Sends a request, without a body if it is `Null`.
pub(crate) async fn send(
    router: &Router,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Value,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    let response = router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = serde_json::from_slice(&bytes)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&bytes).into_owned()));
    Answer { status: parts.status, headers: parts.headers, body }
}

pub(crate) fn tenant(store: &dyn Store, name: &str) -> Tenant {
    let by = Author::now("test");
    let organization = store
        .create_organization(&prefixed_id("org").unwrap(), &format!("{name}-org"), by)
        .unwrap()
        .id;
    let project =
        store.create_project(&prefixed_id("project").unwrap(), &organization, name, by).unwrap().id;
    let user = format!("{name}@example.com");
    let member = store.add_member(&prefixed_id("user").unwrap(), &user, &project, by).unwrap();
    let user_id = member.value.user.id;
    let (key_id, key) =
        credential(store, "tl_apiKey_", Owner::Project { project_id: project.clone() });
    let of_user = |session| Owner::User { user_id: user_id.clone(), session };
    let (_, pat) = credential(store, "tl_pat_", of_user(false));
    let (_, session) = credential(store, "tl_session_", of_user(true));
    Tenant { organization, project, key_id, key, user_id, pat, session }
}

pub(crate) fn credential(store: &dyn Store, prefix: &str, owner: Owner) -> (String, String) {
    let secret = NewSecret::generate(prefix).unwrap();
    let id = prefixed_id("key").unwrap();
    let new =
        NewCredential { id: id.clone(), owner, name: None, hash: secret.hash(), expires_at: None };
    store.create_credential(&new, Author::now("test")).unwrap();
    (id, secret.reveal().to_owned())
}
