//! The ways of a request to a sandbox that are compared.

use sandgate_stack::Owner;

use crate::bootstrap::{Decision, Form};
use crate::load::{Load, Protocol};
use crate::proxy::Proxy;
use crate::world::{PRIVATE, PUBLIC, World};

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The name in the raw data.
    pub(crate) name: &'static str,
    /// The name in the tables.
    pub(crate) title: &'static str,
    pub(crate) server: Server,
    pub(crate) request: Request,
}

/// Which proxy a request goes through.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Server {
    Envoy(Decision),
    Nginx,
}

/// What a request contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Request {
    /// To a public port, without a credential.
    Public,
    ApiKey,
    PersonalAccessToken,
    /// The headers of a page load by a browser, with cookies.
    Browser,
    BrowserApiKey,
}

/// The way that the others are compared with.
pub(crate) const BARE: &str = "bare";

const fn way(name: &'static str, title: &'static str, decision: Decision, request: Request) -> Way {
    Way { name, title, server: Server::Envoy(decision), request }
}

/// All ways, in the order of the table.
pub(crate) const ALL: [Way; 17] = [
    way(BARE, "bare dynamic forward proxy", Decision::Bare, Request::ApiKey),
    way("bare_browser", "the same, browser headers", Decision::Bare, Request::Browser),
    way(
        "without_filter",
        "`edge.yaml` without the filter",
        Decision::WithoutFilter,
        Request::ApiKey,
    ),
    way("noop", "a wasm filter that does nothing", Decision::Noop, Request::ApiKey),
    way("lua_public", "Lua, public port", Decision::Lua, Request::Public),
    way("lua_key", "Lua, API key", Decision::Lua, Request::ApiKey),
    way("ext_authz_http", "`ext_authz` over HTTP", Decision::ExtAuthzHttp, Request::ApiKey),
    way("ext_authz_grpc", "`ext_authz` over gRPC", Decision::ExtAuthzGrpc, Request::ApiKey),
    Way {
        name: "nginx",
        title: "nginx with `auth_request`",
        server: Server::Nginx,
        request: Request::ApiKey,
    },
    way(
        "wasm_public",
        "Sandgate, wasm, public port",
        Decision::Filter(Form::Wasm),
        Request::Public,
    ),
    way("wasm_key", "Sandgate, wasm, API key", Decision::Filter(Form::Wasm), Request::ApiKey),
    way(
        "wasm_pat",
        "Sandgate, wasm, personal access token",
        Decision::Filter(Form::Wasm),
        Request::PersonalAccessToken,
    ),
    way(
        "wasm_browser",
        "Sandgate, wasm, browser headers and API key",
        Decision::Filter(Form::Wasm),
        Request::BrowserApiKey,
    ),
    way(
        "native_public",
        "Sandgate, native, public port",
        Decision::Filter(Form::Native),
        Request::Public,
    ),
    way("native_key", "Sandgate, native, API key", Decision::Filter(Form::Native), Request::ApiKey),
    way(
        "native_pat",
        "Sandgate, native, personal access token",
        Decision::Filter(Form::Native),
        Request::PersonalAccessToken,
    ),
    way(
        "native_browser",
        "Sandgate, native, browser headers and API key",
        Decision::Filter(Form::Native),
        Request::BrowserApiKey,
    ),
];

/// The ways of the table of protocols, and of the one of latency.
pub(crate) fn named(names: &[&str]) -> Vec<Way> {
    ALL.into_iter().filter(|way| names.contains(&way.name)).collect()
}

impl Way {
    /// Why this way can't be measured, if it can't.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        match self.server {
            Server::Envoy(Decision::Filter(form)) if !form.is_built() => Some("not built"),
            Server::Nginx if !has_nginx() => Some("nginx is not installed"),
            Server::Envoy(_) | Server::Nginx => None,
        }
    }

    /// The requests of this way through its proxy.
    pub(crate) fn load(&self, world: &World, proxy: &Proxy, protocol: Protocol) -> Load {
        let number = if self.request == Request::Public { PUBLIC } else { PRIVATE };
        let address = if protocol == Protocol::Tls { proxy.tls() } else { proxy.plain() };
        Load {
            address,
            protocol,
            host: world.host(&number.to_string()),
            first: number,
            hosts: 1,
            headers: self.request.headers(&world.owner),
            connections: 32,
        }
    }
}

fn has_nginx() -> bool {
    std::process::Command::new("nginx").arg("-v").output().is_ok()
}

impl Request {
    pub(crate) fn headers(self, owner: &Owner) -> Vec<(String, String)> {
        let bearer = |secret: &str| ("authorization".to_owned(), format!("Bearer {secret}"));
        let mut headers: Vec<(String, String)> = Vec::new();
        if matches!(self, Self::Browser | Self::BrowserApiKey) {
            headers.extend(BROWSER.map(|(name, value)| (name.to_owned(), value.to_owned())));
        }
        match self {
            Self::Public | Self::Browser => {}
            Self::ApiKey | Self::BrowserApiKey => headers.push(bearer(&owner.api_key)),
            Self::PersonalAccessToken => headers.extend([
                bearer(&owner.pat),
                ("x-forwarded-organization-id".to_owned(), owner.organization.clone()),
                ("x-forwarded-project-id".to_owned(), owner.project.clone()),
            ]),
        }
        headers
    }
}

const BROWSER: [(&str, &str); 13] = [
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/139.0.0.0 Safari/537.36",
    ),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    ),
    ("accept-language", "en-US,en;q=0.9,de;q=0.8"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-site", "same-origin"),
    ("sec-fetch-user", "?1"),
    ("sec-ch-ua", "\"Chromium\";v=\"139\", \"Not;A=Brand\";v=\"99\""),
    ("sec-ch-ua-platform", "\"Linux\""),
    ("referer", "https://example.com/page"),
    ("upgrade-insecure-requests", "1"),
    (
        "cookie",
        "_ga=GA1.2.1234567890.1700000000; theme=dark; session=0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
];
