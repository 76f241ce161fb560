//! The initial data of a local run: an organization, a project, a user, credentials, and two sandboxes.
//!
//! A later run uses existing data again, and creates missing data, for example after the env file was deleted. Secrets
//! are only in the env file, which only its owner can read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::certificate::Certificates;
use crate::client::Answer;
use crate::control_plane::{ControlPlane, DOMAIN};
use crate::files::write_private;
use crate::output::say;
use crate::ports::Ports;
use crate::wait::until;

const NAME: &str = "demo";
const USER: &str = "demo@example.com";

const API_KEY: &str = "TENSORLAKE_API_KEY";
const PAT: &str = "TENSORLAKE_PAT";
const SESSION: &str = "TENSORLAKE_SESSION_TOKEN";

/// A proxy of the user can't reach this machine's loopback. Programs read either variable.
const NO_PROXY: &str = "\
export no_proxy=localhost,.localhost,127.0.0.1${no_proxy:+,$no_proxy}
export NO_PROXY=localhost,.localhost,127.0.0.1${NO_PROXY:+,$NO_PROXY}
";

/// The variables in the env file.
#[derive(Clone, Eq, PartialEq)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Creates the organization and its credentials where they are missing, and writes the env file if it changed.
    pub async fn create(
        control_plane: &ControlPlane,
        state: &Path,
        ports: &Ports,
        gateway_token: &str,
        certificates: &Certificates,
    ) -> Result<Self> {
        let organization = find_or_create(control_plane, "orgs", None)?;
        let project = find_or_create(control_plane, "projects", Some(&organization))?;
        // Adding an existing member changes nothing.
        control_plane.manage(&["members", "add", "--user", USER, "--project", &project])?;
        let file = state.join("env");
        let before = Self::read(&file);
        let mut variables: BTreeMap<String, String> = [
            ("TENSORLAKE_API_URL", format!("http://localhost:{}", ports.api)),
            ("TENSORLAKE_SANDBOX_PROXY_URL", format!("http://localhost:{}", ports.edge)),
            ("TENSORLAKE_ORGANIZATION_ID", organization.clone()),
            ("TENSORLAKE_PROJECT_ID", project.clone()),
            ("SANDGATE_DOMAIN", DOMAIN.to_owned()),
            ("SANDGATE_EDGE", format!("{DOMAIN}:{}", ports.edge)),
            ("SANDGATE_RUN_ADDRESS", format!("127.0.0.1:{}", ports.edge)),
            ("SANDGATE_EDGE_TLS", format!("{DOMAIN}:{}", ports.edge_tls)),
            ("SANDGATE_RUN_TLS_ADDRESS", format!("127.0.0.1:{}", ports.edge_tls)),
            ("SANDGATE_GATEWAY_URL", format!("http://127.0.0.1:{}", ports.gateway)),
            ("SANDGATE_CA", certificates.authority().display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let context = json!({ "organization_id": organization, "project_id": project });
        let credentials = [
            (API_KEY, json!({ "kind": "api_key" }), vec!["--project", &project, "--name", NAME]),
            (
                PAT,
                with_kind(&context, "personal_access_token"),
                vec!["--kind", "pat", "--user", USER],
            ),
            (
                SESSION,
                with_kind(&context, "session"),
                vec!["--kind", "session", "--user", USER, "--expires-in", "30d"],
            ),
        ];
        let mut created = Vec::new();
        for (variable, mut request, arguments) in credentials {
            if let Some(secret) = before.0.get(variable) {
                insert(&mut request, "secret", secret);
                if is_accepted(control_plane, gateway_token, &request, &project).await? {
                    variables.insert(variable.to_owned(), secret.clone());
                    continue;
                }
            }
            let arguments = [vec!["keys", "create"], arguments].concat();
            let made = control_plane.manage(&arguments)?;
            let secret = made.get("secret").and_then(Value::as_str);
            let secret = secret.context("`sandgate keys create` printed no secret")?;
            variables.insert(variable.to_owned(), secret.to_owned());
            created.push(variable);
        }
        if !created.is_empty() {
            say(&format!("new credentials: {}", created.join(", ")));
        }
        let this = Self(variables);
        // Secrets are kept even if the start fails later.
        this.write(&file, None)?;
        Ok(this)
    }

    /// Adds variables, and writes the env file, which also makes the programs of this folder known.
    pub fn complete(
        &mut self,
        state: &Path,
        programs: &Path,
        more: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<()> {
        self.0.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.write(&state.join("env"), Some(programs))
    }

    /// Reads an env file. Returns nothing if the file does not exist or can't be parsed.
    #[must_use]
    pub fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let variables = text.lines().filter_map(|line| {
            let words = shlex::split(line.strip_prefix("export ")?)?;
            let (name, value) = words.first()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Self(variables.collect())
    }

    fn write(&self, file: &Path, programs: Option<&Path>) -> Result<()> {
        let mut text =
            "# Written by `make run`; `source` it. It holds secrets of the local run.\n".to_owned();
        for (name, value) in &self.0 {
            text.push_str(&format!("export {name}={}\n", shlex::try_quote(value)?));
        }
        if let Some(programs) = programs {
            let programs = programs.display().to_string();
            text.push_str(&format!("export PATH={}:\"$PATH\"\n", shlex::try_quote(&programs)?));
            text.push_str(NO_PROXY);
        }
        write_private(file, &text)
    }

    /// The API key of the project.
    pub fn api_key(&self) -> Result<&str> {
        self.0.get(API_KEY).map(String::as_str).context("there is no API key")
    }
}

fn with_kind(context: &Value, kind: &str) -> Value {
    let mut request = context.clone();
    insert(&mut request, "kind", kind);
    request
}

fn insert(object: &mut Value, name: &str, value: &str) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value.into());
    }
}

/// The id of the organization or project with the name `demo`, which is created if it does not exist.
fn find_or_create(
    control_plane: &ControlPlane,
    kind: &str,
    organization: Option<&str>,
) -> Result<String> {
    let list = control_plane.manage(&[kind, "list"])?;
    let items = list.as_object().and_then(|list| list.values().find_map(Value::as_array));
    let items = items.with_context(|| format!("`sandgate {kind} list` printed {list}"))?;
    let text =
        |item: &Value, field: &str| item.get(field).and_then(Value::as_str).map(str::to_owned);
    let found = items.iter().find(|item| {
        text(item, "name").as_deref() == Some(NAME)
            && (organization.is_none() || text(item, "organization_id").as_deref() == organization)
    });
    let created;
    let item = match found {
        Some(item) => item,
        None => {
            let scope = organization.map_or(vec![], |id| vec!["--organization", id]);
            created = control_plane.manage(&[vec![kind, "create", NAME], scope].concat())?;
            &created
        }
    };
    text(item, "id").with_context(|| format!("`sandgate {kind}` printed no id: {item}"))
}

/// Whether the control plane still accepts a credential for this project.
async fn is_accepted(
    control_plane: &ControlPlane,
    token: &str,
    request: &Value,
    project: &str,
) -> Result<bool> {
    let call = control_plane.gateway().post("gateway", "/gateway/v1/credentials/introspect");
    let answer = call.bearer(token).json(request).send().await?;
    let answer = answer.ok().context("the control plane did not evaluate a credential")?;
    let projects = answer.pointer("/identity/project_ids").and_then(Value::as_array);
    Ok(projects.is_some_and(|projects| projects.iter().any(|id| id == project)))
}

/// Starts both sandboxes with the ports that the printed commands use; returns the id of `my-env`. The demo sandbox
/// serves HTTP on port 8080, WebSocket on port 3000, and gRPC on port 50051.
pub async fn start_sandboxes(control_plane: &ControlPlane, api_key: &str) -> Result<String> {
    let my_env =
        json!({ "exposed_ports": [3000, 8080, 50051], "allow_unauthenticated_access": false });
    let public = json!({ "exposed_ports": [8080], "allow_unauthenticated_access": true });
    let id = start_sandbox(control_plane, api_key, "my-env", &my_env).await?;
    start_sandbox(control_plane, api_key, "my-public-sandbox", &public).await?;
    Ok(id)
}

async fn start_sandbox(
    control_plane: &ControlPlane,
    api_key: &str,
    name: &str,
    wanted: &Value,
) -> Result<String> {
    let path = format!("/sandboxes/{name}");
    let call = async |method: Method, path: &str, body: Option<&Value>| {
        let call = control_plane.api().request(method, "api", path).bearer(api_key);
        match body {
            Some(body) => call.json(body).send().await,
            None => call.send().await,
        }
    };
    let found = call(Method::GET, &path, None).await?;
    if found.status == StatusCode::NOT_FOUND {
        say(&format!("creating sandbox {name}"));
        let request = json!({ "name": name });
        accept(&call(Method::POST, "/sandboxes", Some(&request)).await?)?;
    }
    let found = accept(&call(Method::GET, &path, None).await?)?;
    let wanted_fields = wanted.as_object().into_iter().flatten();
    if wanted_fields.into_iter().any(|(name, value)| found.get(name) != Some(value)) {
        accept(&call(Method::PATCH, &path, Some(wanted)).await?)?;
    }
    until(&format!("sandbox {name} runs"), Duration::from_secs(30), async || {
        let found = accept(&call(Method::GET, &path, None).await?)?;
        let text = |field: &str| found.get(field).and_then(Value::as_str).map(str::to_owned);
        match text("status").as_deref() {
            Some("running") => return Ok(Some(text("id").context("a sandbox without an id")?)),
            Some("suspended") => {
                accept(&call(Method::POST, &format!("{path}/resume"), None).await?)?;
            }
            Some(_) => {}
            None => bail!("a sandbox without a status: {found}"),
        }
        Ok(None)
    })
    .await
}

fn accept(answer: &Answer) -> Result<Value> {
    ensure!(answer.status.is_success(), "the API answered {}: {}", answer.status, answer.text());
    if answer.body.is_empty() { Ok(Value::Null) } else { answer.json() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_env_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("env");
        let variables = [("A", "it's $HOME"), ("B", "plain")];
        let variables = Variables(variables.map(|(a, b)| (a.to_owned(), b.to_owned())).into());
        variables.write(&file, None).unwrap();
        assert!(Variables::read(&file) == variables);
        assert!(Variables::read(&folder.path().join("other")).0.is_empty());
    }
}
