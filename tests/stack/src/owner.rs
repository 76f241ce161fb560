//! An owner of sandboxes, and the calls of the public API that an owner makes.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::client::{Answer, Call, Client};
use crate::control_plane::DOMAIN;
use crate::wait::until;

/// An owner of sandboxes, with a credential of every kind.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Organization id.
    pub organization: String,
    /// Project id.
    pub project: String,
    /// An API key of the project.
    pub api_key: String,
    /// A member's personal access token.
    pub pat: String,
    /// A member's session.
    pub session: String,
}

impl Owner {
    /// Creates a call to the public API with the API key of this owner.
    pub fn call(&self, api: Client, method: Method, path: &str) -> Call {
        api.request(method, "api", path).bearer(&self.api_key)
    }

    /// Sends the personal access token with the organization and the project.
    pub fn with_pat(&self, call: Call) -> Call {
        self.with_context(call.bearer(&self.pat))
    }

    /// Adds the headers that name the organization and the project.
    pub fn with_context(&self, call: Call) -> Call {
        call.header("x-forwarded-organization-id", &self.organization)
            .header("x-forwarded-project-id", &self.project)
    }

    /// Creates a sandbox and waits until it runs.
    pub async fn create(&self, api: Client, request: Value) -> Result<Sandbox> {
        let call = self.call(api, Method::POST, "/sandboxes").json(&request);
        let made = accepted(&call.send().await?)?;
        let id = made.get("sandbox_id").or_else(|| made.get("id")).and_then(Value::as_str);
        let name = request.get("name").and_then(Value::as_str).map(str::to_owned);
        let sandbox = Sandbox { id: id.context("no sandbox id")?.to_owned(), name };
        self.wait_for(api, &sandbox, "running").await?;
        Ok(sandbox)
    }

    /// Sends a PATCH for a sandbox.
    pub async fn patch(&self, api: Client, sandbox: &Sandbox, change: Value) -> Result<Value> {
        let path = format!("/sandboxes/{}", sandbox.id);
        self.call(api, Method::PATCH, &path).json(&change).send().await?.ok()
    }

    /// Exposes ports, public or not; an empty list unexposes all.
    pub async fn expose(
        &self,
        api: Client,
        sandbox: &Sandbox,
        ports: &[u16],
        public: bool,
    ) -> Result<()> {
        let change = json!({ "exposed_ports": ports, "allow_unauthenticated_access": public });
        self.patch(api, sandbox, change).await.map(drop)
    }

    /// Suspends a sandbox, and waits until it is suspended.
    pub async fn suspend(&self, api: Client, sandbox: &Sandbox) -> Result<()> {
        let path = format!("/sandboxes/{}/suspend", sandbox.id);
        accepted(&self.call(api, Method::POST, &path).send().await?)?;
        self.wait_for(api, sandbox, "suspended").await
    }

    pub async fn delete(&self, api: Client, sandbox: &Sandbox) -> Result<()> {
        let path = format!("/sandboxes/{}", sandbox.id);
        let answer = self.call(api, Method::DELETE, &path).send().await?;
        ensure!(answer.status.is_success(), "not deleted: {} {}", answer.status, answer.text());
        Ok(())
    }

    /// Waits until a sandbox has a status.
    pub async fn wait_for(&self, api: Client, sandbox: &Sandbox, status: &str) -> Result<()> {
        let path = format!("/sandboxes/{}", sandbox.id);
        until(&format!("{} is {status}", sandbox.id), Duration::from_secs(30), async || {
            let info = self.call(api, Method::GET, &path).send().await?.ok()?;
            let now = info.get("status").and_then(Value::as_str);
            Ok((now == Some(status)).then_some(()))
        })
        .await
    }
}

fn accepted(answer: &Answer) -> Result<Value> {
    let good = answer.status.is_success();
    ensure!(good, "the control plane refused: {} {}", answer.status, answer.text());
    if answer.status == StatusCode::NO_CONTENT || answer.body.is_empty() {
        return Ok(Value::Null);
    }
    answer.json()
}

/// A sandbox, by its id and its name.
#[derive(Clone, Debug)]
pub struct Sandbox {
    /// Canonical id.
    pub id: String,
    /// Name, if it has one.
    pub name: Option<String>,
}

impl Sandbox {
    /// The host of a port, with the name if there is one.
    #[must_use]
    pub fn host(&self, port: u16) -> String {
        format!("{port}-{}.{DOMAIN}", self.name.as_ref().unwrap_or(&self.id))
    }

    /// The host of the management API.
    #[must_use]
    pub fn management(&self) -> String {
        format!("{}.{DOMAIN}", self.name.as_ref().unwrap_or(&self.id))
    }
}
