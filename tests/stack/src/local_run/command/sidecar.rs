//! The commands for the sandbox behind a sidecar.

use super::{Command, OK, STATUS};
use crate::local_run::sidecar::{
    self, ALLOWED, DENIED, EDGE_ADDRESS, SANDBOX_ADDRESS, SidecarDemo,
};
use crate::output::relative;

// curl's exit statuses (curl(1)).
const NO_SUCH_HOST: i64 = 6;
const NO_TLS: i64 = 35;

/// The commands for the sandbox behind a sidecar. They need root.
#[must_use]
pub fn for_the_sidecar(demo: &SidecarDemo) -> Vec<Command> {
    let sandbox = demo.inside("sandbox").join(" ");
    let internet = demo.inside("internet").join(" ");
    let curl = format!("{sandbox} curl -sS --max-time 10 {STATUS}");
    let secure = format!("{curl} --cacert {}", relative(&demo.authority()));
    let (allowed, denied) = (ALLOWED.name, DENIED.name);
    let denied_address = DENIED.address;
    // A change takes effect within a second. The pause lets users paste all commands at once.
    let set_policy = |name: &str| {
        format!("echo '{}' > {}; sleep 2", sidecar::policy(name), relative(&demo.policy_file()))
    };
    let banner = |host: &str| format!("{sandbox} bash -c 'cat < /dev/tcp/{host}/25'");
    let answered = |name: &str| format!(r"^{name} answers GET /hello[\s\S]*\n200$");

    vec![
        Command::new(
            "an allowed name, by HTTP",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        ),
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
        Command::new(
            "the other direction: the edge reaches every port of the sandbox",
            format!(
                "{internet} curl -sS {STATUS} --interface {EDGE_ADDRESS} http://{SANDBOX_ADDRESS}:8080/health"
            ),
            OK,
        ),
        Command::new("change the policy: allow the other name instead", set_policy(denied), "^$"),
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
        Command::new("change the policy back", set_policy(allowed), "^$"),
        Command::new(
            "the first name is allowed again",
            format!("{curl} http://{allowed}/hello"),
            &answered(allowed),
        )
        .with_patience(30),
    ]
}
