//! A reference implementation of the ingress rules, independent of the code under test. The properties compare the two.

use sandgate_policy::gateway_api::SandboxState;
use sandgate_policy::ingress::Resolved;
use sandgate_policy::ingress::concurrency::Class;

use crate::ingress::support::{NOW, Req, World};

/// What a host of `sandbox.example.com` or `local` names: the sandbox, and its port.
pub(crate) fn target(authority: &[u8]) -> Option<(String, u16)> {
    let text = String::from_utf8(authority.to_vec()).ok()?.to_ascii_lowercase();
    let host = match text.rsplit_once(':') {
        Some((host, port)) => {
            let digits = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
            if !digits || port.parse::<u16>().is_err() {
                return None;
            }
            host.to_owned()
        }
        None => text,
    };
    let host = host.strip_suffix('.').map(str::to_owned).unwrap_or(host);
    let label = [".sandbox.example.com", ".local"].iter().find_map(|d| host.strip_suffix(d))?;
    if label == "api" || label.len() > 63 {
        return None;
    }
    // Every split that the grammar allows; the property is that there is one at most.
    let mut readings = Vec::new();
    if is_sandbox(label) {
        readings.push((label.to_owned(), 9501));
    }
    let parts: Vec<&str> = label.split('-').collect();
    for at in 1..parts.len() {
        let (port, sandbox) = (parts[..at].join("-"), parts[at..].join("-"));
        let number = port.parse::<u16>().ok().filter(|n| *n > 0 && n.to_string() == port);
        if let Some(number) = number.filter(|_| is_sandbox(&sandbox)) {
            readings.push((sandbox, number));
        }
    }
    assert!(readings.len() <= 1, "`{label}` has two meanings: {readings:?}");
    readings.pop()
}

/// An id, or a name.
fn is_sandbox(text: &str) -> bool {
    let all = |allowed: fn(char) -> bool| text.chars().all(allowed);
    let id = text.len() == 21 && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let name = text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    id || name
}

/// Whether any rule lets this request through, for an address that is a sandbox's.
pub(crate) fn may_pass(request: &Req, world: &World, upstream_port: u16) -> bool {
    let values = |name: &str| -> Vec<&[u8]> {
        let all = request.headers().iter();
        all.filter(|(n, _)| n == name).map(|(_, value)| value.as_slice()).collect()
    };
    let Resolved::Found(sandbox) = &world.sandbox else { return false };
    let [authority] = values(":authority")[..] else { return false };
    let port = match target(authority) {
        Some((_, port)) => port,
        // A bare domain, with the header that routes there.
        None if !values("x-tensorlake-sandbox-id").is_empty() => 9501,
        None => return false,
    };
    let exposed = sandbox.exposed_ports.contains(&port);
    let public = port != 9501 && exposed && sandbox.allow_unauthenticated_access;
    let authenticated = match &world.caller {
        Resolved::Found(caller) => {
            let shown = ["authorization", "x-sandgate-authorization", "cookie"];
            shown.iter().any(|name| !values(name).is_empty())
                && caller.organization_id == sandbox.organization_id
                && caller.project_ids.contains(&sandbox.project_id)
                && caller.expires_at.is_none_or(|at| at > NOW)
        }
        Resolved::NotFound | Resolved::Unavailable => false,
    };
    // Of the four slots, one is reserved for management, and another one is not available to anonymous requests.
    let [management, users, nobody] = [Class::Management, Class::Authenticated, Class::Anonymous]
        .map(|class| world.in_flight.of(class));
    let has_slot = management + users + nobody < 4
        && (port == 9501 || users + nobody < 3)
        && (port == 9501 || !public || nobody < 2);
    port == upstream_port
        && sandbox.state == SandboxState::Running
        && has_slot
        && (public || (authenticated && (exposed || port == 9501)))
}

/// What in these headers a sandbox must never see. Written down as text, for the failure's sake.
pub(crate) fn leaks(headers: &[(String, Vec<u8>)], used: Option<&str>) -> Vec<String> {
    let mut leaks = Vec::new();
    for (name, value) in headers.iter().filter(|(name, _)| !name.starts_with(':')) {
        let value = String::from_utf8_lossy(value);
        let plain = as_cgi_reads(name);
        let internal =
            ["x-tensorlake-sandbox-", "x-tensorlake-route-hint", "x-sandgate-", "x-envoy-"];
        let words: Vec<&str> = value.split([' ', '\t', ',', '=', '"']).collect();
        let session = plain == "cookie"
            && value.split(';').any(|pair| {
                let pair = pair.trim_ascii().trim_start_matches(['=', ' ', '\t']);
                let name = pair.split('=').next().unwrap_or_default().trim_ascii();
                name == "tl-session" || name == "tl.session_token"
            });
        let carries_credentials = plain == "authorization" || plain == "proxy-authorization";
        let secret = carries_credentials && words.iter().any(|word| word.starts_with("tl_"));
        let long = |text: &str| text.starts_with("tl_") && text.len() >= 40;
        let bare = match plain.as_str() {
            "cookie" => value.split(';').filter_map(|p| p.split_once('=')).any(|(_, v)| long(v)),
            _ => long(&value),
        };
        let is_used = used.is_some_and(|used| {
            value == used || value.eq_ignore_ascii_case(&format!("bearer {used}"))
        });
        if internal.iter().any(|prefix| plain.starts_with(prefix))
            || session
            || secret
            || bare
            || is_used
        {
            leaks.push(format!("{name}: {value}"));
        }
    }
    leaks
}

/// A header name as a CGI program sees it, without `HTTP_` and with `-` for `_`.
pub(crate) fn as_cgi_reads(name: &str) -> String {
    name.to_lowercase().chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect()
}
