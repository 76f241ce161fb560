//! The commands for the network policy of a sandbox behind a sidecar.

use serde_json::json;

use super::edge::{API, KEY};
use super::{Command, OK, STATUS};
use crate::local_run::far_side::{ELSEWHERE, PACKAGES};

// curl's exit statuses (curl(1)).
const NO_SUCH_HOST: i64 = 6;
const NO_TLS: i64 = 35;

/// The start of a command in the network namespace of `my-env`.
const INSIDE: &str = "ip netns exec $SANDGATE_MY_ENV_NAMESPACE";

/// The commands for the policy of `my-env`. They need root.
#[must_use]
pub fn for_the_policy() -> Vec<Command> {
    let curl = format!("{INSIDE} curl -sS --max-time 10 {STATUS}");
    let secure = format!("{curl} --cacert $SANDGATE_INTERNET_CA");
    let (allowed, denied) = (PACKAGES.name, ELSEWHERE.name);
    let denied_address = ELSEWHERE.address;
    let set_policy = |what: &str, name: &str| {
        let policy = json!({ "network": { "allow_internet_access": false, "allow_out": [name] } });
        let line = format!(
            r#"curl -sS {STATUS} -X PATCH {API} {KEY} -H "Content-Type: application/json" -d '{policy}'"#
        );
        Command::new(what, line, OK)
    };
    let banner = |host: &str| format!("{INSIDE} bash -c 'cat < /dev/tcp/{host}/25'");
    let answered = |name: &str| format!(r"^{name} answers GET /hello[\s\S]*\n200$");

    vec![
        Command::new(
            "without a policy, all of the sandboxes' internet is allowed",
            format!("{curl} http://{denied}/hello"),
            &answered(denied),
        ),
        set_policy(&format!("set a policy: nothing but {allowed}"), allowed),
        Command::new(
            "an allowed name, by HTTP",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        )
        .with_patience(30),
        Command::new("by HTTPS", format!("{secure} https://{allowed}/hello"), &answered(allowed)),
        Command::new(
            "by a protocol that contains no server name (this one is like SMTP)",
            banner(allowed),
            &format!("^220 {allowed} ready"),
        ),
        Command::new(
            "another name: it does not exist for this sandbox",
            format!("{curl} http://{denied}/hello"),
            "Could not resolve host",
        )
        .with_status(NO_SUCH_HOST),
        Command::new(
            "its address, by HTTP: denied, 403, with the rule",
            format!("{curl} http://{denied_address}/hello"),
            r#""EGRESS_DENIED"[\s\S]*"rule":"default deny"[\s\S]*\n403$"#,
        ),
        Command::new(
            "its address, by HTTPS: reset",
            format!(
                "{secure} --connect-to {denied}:443:{denied_address}:443 https://{denied}/hello"
            ),
            "[Rr]eset by peer",
        )
        .with_status(NO_TLS),
        Command::new(
            "its address, by the protocol without a server name: reset",
            banner(&denied_address.to_string()),
            "reset by peer",
        )
        .with_status(1),
        set_policy("change the policy: allow the other name instead", denied),
        Command::new(
            "the other name is allowed now",
            format!("{curl} http://{denied}/hello"),
            &answered(denied),
        )
        .with_patience(30),
        Command::new(
            "and the first name is denied",
            format!("{curl} http://{allowed}/hello"),
            "Could not resolve host",
        )
        .with_status(NO_SUCH_HOST)
        .with_patience(30),
        Command::new(
            "remove the policy",
            format!(
                r#"curl -sS {STATUS} -X PATCH {API} {KEY} -H "Content-Type: application/json" -d '{{"network": null}}'"#
            ),
            OK,
        ),
        Command::new(
            "the first name is allowed again",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        )
        .with_patience(30),
    ]
}
