//! An operator's platform behind the webhook runtime. Its sandboxes outlive the control plane, and it records the calls.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use sandgate_stack::artifacts::program;
use sandgate_stack::{Network, Process};

/// The platform. Its sandboxes are stopped when this value is dropped.
pub struct Platform {
    state: Arc<State>,
    address: SocketAddr,
    serving: tokio::task::JoinHandle<()>,
}

struct State {
    network: Arc<Network>,
    folder: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<(String, String)>,
    delay: Duration,
    pinned: Option<Ipv4Addr>,
    next: u8,
    running: HashMap<Ipv4Addr, Process>,
    addresses: HashMap<String, Ipv4Addr>,
    answers: HashMap<String, Value>,
}

impl Platform {
    /// Starts a platform whose sandboxes get addresses of `network`.
    pub async fn start(network: Arc<Network>, folder: PathBuf) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(State { network, folder, inner: Mutex::default() });
        let serving = tokio::spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { state, address, serving })
    }

    /// The URL that the control plane calls.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/sandboxes", self.address)
    }

    /// The number of calls with this action for this sandbox.
    #[must_use]
    pub fn count(&self, action: &str, id: &str) -> usize {
        let inner = self.state.inner();
        inner.calls.iter().filter(|(a, i)| a == action && i == id).count()
    }

    /// Delays all responses from now on.
    pub fn delay(&self, delay: Duration) {
        self.state.inner().delay = delay;
    }

    /// Gives this address to all sandboxes that start from now on. A process that serves there already continues to run, and
    /// serves as one sandbox after the other.
    pub fn pin(&self, address: Ipv4Addr) {
        self.state.inner().pinned = Some(address);
    }

    /// Answers this action with `answer` from now on, without doing anything.
    pub fn answer(&self, action: &str, answer: Value) {
        self.state.inner().answers.insert(action.to_owned(), answer);
    }

    /// Kills all sandboxes that have this address, without reporting it.
    pub fn crash(&self, address: Ipv4Addr) {
        self.state.inner().running.remove(&address);
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        self.serving.abort();
        // Dropping the processes stops them.
        self.state.inner().running.clear();
    }
}

impl State {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles one call.
    async fn act(&self, body: Value) -> Result<Value> {
        let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let action = text("/action").context("a webhook call without an action")?;
        let id = text("/sandbox/id").context("a webhook call without a sandbox")?;
        let name = text("/sandbox/name");
        let delay = {
            let mut inner = self.inner();
            inner.calls.push((action.clone(), id.clone()));
            if let Some(answer) = inner.answers.get(&action) {
                return Ok(answer.clone());
            }
            inner.delay
        };
        tokio::time::sleep(delay).await;
        if action == "start" || action == "resume" {
            let address = self.run(id, name).await?;
            return Ok(json!({ "state": "running", "address": address.to_string() }));
        }
        let mut inner = self.inner();
        if let Some(address) = inner.addresses.remove(&id)
            && inner.pinned != Some(address)
        {
            inner.running.remove(&address);
        }
        Ok(json!({ "state": if action == "suspend" { "suspended" } else { "terminated" } }))
    }

    /// Starts the demo sandbox, and waits until its ports are open.
    async fn run(&self, id: String, name: Option<String>) -> Result<Ipv4Addr> {
        let address = {
            let mut inner = self.inner();
            let address = inner.pinned.unwrap_or_else(|| {
                inner.next += 1;
                self.network.host(1 + inner.next)
            });
            inner.addresses.insert(id.clone(), address);
            if inner.running.contains_key(&address) {
                return Ok(address);
            }
            let mut command = Command::new(program("sandgate-demo")?);
            command.args(["serve", "--id", &id]);
            command.args(["--address", &address.to_string()]);
            command.args(name.iter().flat_map(|name| ["--name", name.as_str()]));
            let process =
                Process::start("the demo sandbox", &command, &self.folder.join("sandboxes.log"))?;
            inner.running.insert(address, process);
            address
        };
        for _ in 0..1_000 {
            if TcpStream::connect((address, 9501)).await.is_ok() {
                return Ok(address);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bail!("the demo sandbox at {address} does not listen")
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    while let Ok((stream, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(respond(&state, request).await) }
            });
            // The connection breaks when a test kills the control plane.
            let _: Result<_, _> =
                http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let outcome = async {
        let body = request.into_body().collect().await?.to_bytes();
        state.act(serde_json::from_slice(&body)?).await
    };
    let (status, body) = match outcome.await {
        Ok(answer) => (200, answer.to_string()),
        Err(error) => (500, format!("{error:#}")),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}
