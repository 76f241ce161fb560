//! What `make run` prints when it is ready: one screen, with a command for each of the things that matter.

use super::edge::{API, KEY};
use super::{Command, STATUS};
use crate::ports::Ports;

/// What the demo sandbox answers.
const HEALTHY: &str = r#""status": ?"ok""#;

const COLUMNS: usize = 100;

/// What the screen says about this run.
pub struct FirstPage<'a> {
    pub ports: &'a Ports,
    /// The file with the environment, and the folder with the logs.
    pub env: &'a str,
    pub folder: &'a str,
    /// A sentence that says why the example of network policies can't run here, if so.
    pub left_out: Option<&'a str>,
}

impl FirstPage<'_> {
    /// The commands, in the order in which users run them.
    #[must_use]
    pub fn commands(&self) -> Vec<Command> {
        let health = "http://8080-my-env.$SANDGATE_EDGE/health";
        let private = format!("curl -sS {health} {KEY}");
        let from_inside = if self.left_out.is_none() {
            Command::new(
                "network policies, set with the Python SDK; curl inside the sandbox shows what they deny",
                "scripts/python docs/examples/try_a_policy.py".to_owned(),
                r"Could not resolve host[\s\S]*outbound_denied[\s\S]*\ndeleted try-",
            )
        } else {
            Command::new(
                "the Python SDK runs a command inside the sandbox",
                "scripts/python -c 'from tensorlake.sandbox import Sandbox\n\
                 print(Sandbox.connect(\"my-env\").run(\"echo\", [\"hello from inside\"]).stdout)'"
                    .to_owned(),
                "hello from inside$",
            )
        };
        vec![
            Command::new("a private port, with an API key", private.clone(), HEALTHY),
            Command::new(
                "a public port needs no credential",
                "curl -sS http://8080-my-public-sandbox.$SANDGATE_EDGE/health".to_owned(),
                HEALTHY,
            ),
            Command::new(
                "a denial: the private port without a credential",
                format!("curl -sS {STATUS} {health}"),
                r#""UNAUTHENTICATED"[\s\S]*\n401$"#,
            ),
            from_inside,
            Command::new(
                "a request resumes a suspended sandbox",
                format!("curl -fsS -o /dev/null -X POST {API}/suspend \\\n  {KEY}\n{private}"),
                HEALTHY,
            ),
        ]
    }

    /// The screen.
    #[must_use]
    pub fn text(&self) -> String {
        let Ports { edge, edge_tls, api, admin, .. } = self.ports;
        let policies = self.left_out.unwrap_or("A sidecar enforces the network policy of each.");
        let sandboxes = wrapped(&format!("Sandboxes: my-env, my-public-sandbox. {policies}"));
        let commands: String = self
            .commands()
            .iter()
            .map(|command| format!("# {}\n{}\n", command.description, command.line))
            .collect();
        format!(
            "Edge: http://localhost:{edge} and https://localhost:{edge_tls}. Owners' API: http://localhost:{api}.\n\
             Envoy's admin pages: http://localhost:{admin}. Logs: {}/*.log.\n\
             {sandboxes}\n\
             In another terminal, in this folder:\n\
             source {}\n\n\
             {commands}\n\
             More commands: docs/tour.md. curl before 7.85 needs --resolve '*:{edge}:127.0.0.1' for these hosts.\n\
             Sandgate is ready. Ctrl-C stops everything.",
            self.folder, self.env
        )
    }
}

/// The text in lines that fit on the screen, where its words permit that.
fn wrapped(text: &str) -> String {
    let mut lines = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > COLUMNS {
            lines.push('\n');
            column = 0;
        } else if column > 0 {
            lines.push(' ');
            column += 1;
        }
        lines.push_str(word);
        column += length;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: usize = 24;

    #[test]
    fn the_first_page_fits_on_one_screen_and_has_five_commands() {
        let ports =
            Ports { edge: 19443, edge_tls: 19444, api: 18900, gateway: 18901, admin: 19901 };
        let obstacle = "Network policies are not enforced, and refused: this machine permits no network namespace with a \
                        firewall (`ip netns add`: Operation not permitted). All else works.";
        for left_out in [None, Some(obstacle)] {
            let page =
                FirstPage { ports: &ports, env: ".sandgate/env", folder: ".sandgate", left_out };
            let text = page.text();
            assert!(text.lines().count() <= LINES, "{text}");
            for line in text.lines() {
                let columns = line.chars().count();
                assert!(columns <= COLUMNS, "{columns} columns: {line}");
            }
            let commands = page.commands();
            assert_eq!(commands.len(), 5);
            for command in commands {
                assert!(text.contains(&command.line), "{}", command.line);
            }
        }
    }

    #[test]
    fn without_sidecars_the_page_says_so_and_has_no_command_that_needs_one() {
        let ports = Ports { edge: 9443, edge_tls: 9444, api: 8900, gateway: 8901, admin: 9901 };
        let left_out = Some("Network policies are not enforced.");
        let page = FirstPage { ports: &ports, env: ".sandgate/env", folder: ".sandgate", left_out };
        let text = page.text();
        assert!(text.contains("Network policies are not enforced."), "{text}");
        assert!(!text.contains("try_a_policy"), "{text}");
    }
}
