//! Which Envoy an edge may be.

use crate::wire::{Node, SemanticVersion};

/// The oldest minor version that reads the configuration.
pub const OLDEST: (u32, u32) = (1, 39);

/// An Envoy that can't read the configuration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "Envoy {0}.{1}.{2} is too old: the address checks of sandboxes (`resolved_address_filter`, and RBAC as an upstream \
     filter) exist since Envoy {major}.{minor}; update this Envoy",
    major = OLDEST.0,
    minor = OLDEST.1
)]
pub struct TooOld(u32, u32, u32);

/// Checks the version that a node says it has. Other clients, and builds without a version, are not refused: they reject what
/// they can't read.
///
/// # Errors
///
/// If the node is an Envoy that is too old.
pub fn check(node: &Node) -> Result<(), TooOld> {
    let version = node.user_agent_build_version.as_ref().and_then(|build| build.version);
    match version {
        Some(SemanticVersion { major_number, minor_number, patch })
            if node.user_agent_name == "envoy" && (major_number, minor_number) < OLDEST =>
        {
            Err(TooOld(major_number, minor_number, patch))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::BuildVersion;

    fn node(agent: &str, version: Option<(u32, u32, u32)>) -> Node {
        let version = version.map(|(major_number, minor_number, patch)| SemanticVersion {
            major_number,
            minor_number,
            patch,
        });
        Node {
            user_agent_name: agent.to_owned(),
            user_agent_build_version: Some(BuildVersion { version }),
            ..Node::default()
        }
    }

    #[test]
    fn an_envoy_before_1_39_is_too_old_and_the_reason_names_both_versions() {
        let error = check(&node("envoy", Some((1, 38, 3)))).unwrap_err().to_string();
        assert!(error.contains("Envoy 1.38.3") && error.contains("since Envoy 1.39"), "{error}");
        for version in [(1, 39, 0), (1, 40, 0), (2, 0, 0)] {
            assert_eq!(check(&node("envoy", Some(version))), Ok(()), "{version:?}");
        }
    }

    #[test]
    fn other_clients_and_unknown_versions_are_not_refused() {
        assert_eq!(check(&node("quilkin", Some((0, 10, 0)))), Ok(()));
        assert_eq!(check(&node("envoy", None)), Ok(()));
        assert_eq!(check(&Node::default()), Ok(()));
    }
}
