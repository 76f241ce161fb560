//! Envoy's configuration: the very files that operators use, filled in.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use crate::artifacts::root;

/// Values for a template's names.
pub type Values = BTreeMap<&'static str, String>;

/// Fills `envoy/<file>` in, after `change` had its way with the template's text.
pub fn render(file: &str, values: &Values, change: impl FnOnce(&str) -> String) -> Result<String> {
    let path = root().join("envoy").join(file);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("`{}` can't be read", path.display()))?;
    let text = change(&text);
    let mut parts = text.split("${");
    let mut rendered = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').context("a `${` without its `}`")?;
        let value = values.get(name);
        ensure!(value.is_some(), "`envoy/{file}` asks for `{name}`, which these tests do not set");
        rendered.push_str(value.map_or("", String::as_str));
        rendered.push_str(rest);
    }
    Ok(rendered)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::process::Command;

    use super::*;

    fn template() -> String {
        std::fs::read_to_string(root().join("envoy/edge.yaml")).unwrap()
    }

    /// Names that the template asks for.
    fn names(text: &str) -> BTreeSet<&str> {
        text.split("${").skip(1).map(|part| part.split_once('}').unwrap().0).collect()
    }

    #[test]
    fn the_head_of_the_template_lists_every_name_and_no_other() {
        let text = template();
        let (head, body) = text.split_once("\nnode:").unwrap();
        let listed: BTreeSet<&str> =
            head.split_whitespace().filter(|word| word.starts_with("SANDGATE_")).collect();
        assert_eq!(listed, names(body));
    }

    #[test]
    fn the_image_renders_the_template_as_these_tests_do() {
        let text = template();
        // Characters that a careless substitution would trip over.
        let value = |name: &str| format!("{name}: & \\1 $x /| \"'");
        let mut command = Command::new("sh");
        command.arg(root().join("envoy/render.sh")).arg(root().join("envoy/edge.yaml"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        let mut expected = text.clone();
        for name in names(&text) {
            command.env(name, value(name));
            expected = expected.replace(&format!("${{{name}}}"), &value(name));
        }
        let rendered = command.output().unwrap();
        assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
        assert_eq!(String::from_utf8(rendered.stdout).unwrap(), expected);
    }

    #[test]
    fn the_image_refuses_a_name_without_a_value() {
        let mut command = Command::new("sh");
        command.arg(root().join("envoy/render.sh")).arg(root().join("envoy/edge.yaml"));
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        let rendered = command.output().unwrap();
        assert!(!rendered.status.success());
        assert!(String::from_utf8_lossy(&rendered.stderr).contains("has no value"));
    }
}
