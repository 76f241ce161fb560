//! A sandbox as owners see it: the union of what the clients read.

use serde_json::{Map, Value, json};

use crate::model::{Sandbox, state_name};

/// Keys of a sandbox's specification that answers repeat.
const REPEATED: [&str; 6] =
    ["image", "timeout_secs", "entrypoint", "file_systems", "template_id", "pool_id"];

/// How sandboxes are reached from outside.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublicUrls {
    scheme: String,
    /// `localhost` or an address: then the clients connect there and put the sandbox in `Host`.
    local_proxy: Option<String>,
    /// The first configured domain, with the proxy's port if it has one.
    authority: String,
}

/// The proxy's URL is none that clients could use.
#[derive(Debug, thiserror::Error)]
#[error(
    "--proxy-url `{0}` must be `http://` or `https://` with a host and perhaps a port, without a path: `http://localhost:9443`, `https://sandbox.example.com`"
)]
pub struct InvalidProxyUrl(String);

impl PublicUrls {
    /// URLs for a proxy at `proxy_url` that serves `domain`.
    ///
    /// # Errors
    /// [`InvalidProxyUrl`] when it is no origin.
    pub fn new(proxy_url: &str, domain: &str) -> Result<Self, InvalidProxyUrl> {
        let invalid = || InvalidProxyUrl(proxy_url.to_owned());
        let (scheme, rest) = proxy_url.split_once("://").ok_or_else(invalid)?;
        let origin = rest.strip_suffix('/').unwrap_or(rest);
        let authority: axum::http::uri::Authority = origin.parse().map_err(|_| invalid())?;
        if !matches!(scheme, "http" | "https") || origin.contains('@') {
            return Err(invalid());
        }
        // The clients send `Host: <id>.local` to these two; to any other host they send that host.
        let local = matches!(authority.host(), "localhost" | "127.0.0.1");
        Ok(Self {
            scheme: scheme.to_owned(),
            local_proxy: local.then(|| format!("{scheme}://{authority}")),
            authority: match authority.port_u16() {
                Some(port) => format!("{domain}:{port}"),
                None => domain.to_owned(),
            },
        })
    }

    /// Where the management API of a sandbox is. Also while it is suspended: a request there is
    /// what resumes it.
    fn sandbox(&self, id: &str) -> String {
        self.local_proxy
            .clone()
            .unwrap_or_else(|| format!("{}://{id}.{}", self.scheme, self.authority))
    }

    /// The origin that clients put `<port>-<id>.` before.
    fn ingress(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }
}

/// Answer to get, list and patch.
pub(super) fn info(sandbox: &Sandbox, namespace: &str, urls: &PublicUrls) -> Value {
    let mut fields = common(sandbox, urls);
    fields.insert("id".into(), json!(sandbox.id.as_str()));
    fields.insert("namespace".into(), json!(namespace));
    fields.into()
}

/// Answer to create: the same, but the id has another name. Never both: clients treat the two as
/// one field, and refuse it twice.
pub(super) fn created(sandbox: &Sandbox, namespace: &str, urls: &PublicUrls) -> Map<String, Value> {
    let mut fields = common(sandbox, urls);
    fields.insert("sandbox_id".into(), json!(sandbox.id.as_str()));
    fields.insert("namespace".into(), json!(namespace));
    fields
}

fn common(sandbox: &Sandbox, urls: &PublicUrls) -> Map<String, Value> {
    let policy = json!({ "allow_internet_access": true, "allow_out": [], "deny_out": [] });
    let mut fields = Map::new();
    let mut put = |key: &str, value: Value| fields.insert(key.to_owned(), value);
    for key in REPEATED {
        put(key, sandbox.spec.get(key).cloned().unwrap_or(Value::Null));
    }
    put("name", json!(sandbox.name.as_ref().map(ToString::to_string)));
    put("status", json!(state_name(sandbox.state)));
    put("project_id", json!(sandbox.project_id));
    put("resources", resources(sandbox));
    put("exposed_ports", json!(sandbox.exposed_ports.as_slice()));
    put("allow_unauthenticated_access", json!(sandbox.allow_unauthenticated_access));
    put("auto_resume", json!(sandbox.auto_resume));
    // The name that is documented, and the one that some clients read.
    put("network_policy", policy.clone());
    put("network", policy);
    put("sandbox_url", json!(urls.sandbox(sandbox.id.as_str())));
    put("ingress_endpoint", json!(urls.ingress()));
    put("created_at", json!(sandbox.created_at.millis()));
    // Clients refuse null here.
    if fields.get("file_systems").is_none_or(Value::is_null) {
        fields.insert("file_systems".to_owned(), json!([]));
    }
    fields
}

/// Clients require these numbers; what the owner sent wins.
fn resources(sandbox: &Sandbox) -> Value {
    let mut resources = json!({
        "cpus": 1.0, "memory_mb": 1024, "disk_mb": 10_240, "ephemeral_disk_mb": 10_240,
    });
    if let (Value::Object(all), Some(Value::Object(sent))) =
        (&mut resources, sandbox.spec.get("resources"))
    {
        for (key, value) in sent {
            all.insert(key.clone(), value.clone());
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_on_localhost_is_named_as_it_is_for_clients_and_by_domain_for_apps() {
        let urls = PublicUrls::new("http://localhost:9443", "sandbox.localhost").unwrap();
        assert_eq!(urls.sandbox("abc"), "http://localhost:9443");
        assert_eq!(urls.ingress(), "http://sandbox.localhost:9443");
    }

    #[test]
    fn elsewhere_each_sandbox_has_its_own_host() {
        let urls = PublicUrls::new("https://sandbox.example.com/", "sandbox.example.com").unwrap();
        assert_eq!(urls.sandbox("abc"), "https://abc.sandbox.example.com");
        assert_eq!(urls.ingress(), "https://sandbox.example.com");
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for url in
            ["localhost:9443", "ftp://a", "http://", "http://a/b", "http://u:p@a", "http://a?b"]
        {
            assert!(PublicUrls::new(url, "d").is_err(), "{url}");
        }
    }
}
