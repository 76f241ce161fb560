//! Which group of edges a node belongs to.

use std::collections::BTreeMap;

use crate::keys::is_node;

/// The groups of nodes. A node is known by the name in its credential, so no client chooses its group.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Members {
    names: BTreeMap<String, String>,
    beginnings: BTreeMap<String, String>,
}

/// A group can't have such a member.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MemberError {
    #[error("`{0}` is neither the name of a node nor its beginning and `*`")]
    Malformed(String),
    #[error("`{member}` is also in the group `{group}`")]
    Twice { member: String, group: String },
}

impl Members {
    /// Adds a node, or, with `*` at the end, all nodes whose names begin like this.
    ///
    /// # Errors
    ///
    /// If the member is malformed, or in another group.
    pub fn add(&mut self, member: &str, group: &str) -> Result<(), MemberError> {
        let (name, members) = match member.strip_suffix('*') {
            Some(beginning) => (beginning, &mut self.beginnings),
            None => (member, &mut self.names),
        };
        if !is_node(name) {
            return Err(MemberError::Malformed(member.to_owned()));
        }
        match members.insert(name.to_owned(), group.to_owned()) {
            Some(group) => Err(MemberError::Twice { member: member.to_owned(), group }),
            None => Ok(()),
        }
    }

    /// The group of a node: the one that has its name, or else the one that has the longest beginning of its name.
    #[must_use]
    pub fn group(&self, node: &str) -> Option<&str> {
        let mut beginnings = (1..=node.len()).rev().filter_map(|length| node.get(..length));
        let by_name = self.names.get(node);
        by_name
            .or_else(|| beginnings.find_map(|beginning| self.beginnings.get(beginning)))
            .map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(all: &[(&str, &str)]) -> Result<Members, MemberError> {
        let mut members = Members::default();
        for (member, group) in all {
            members.add(member, group)?;
        }
        Ok(members)
    }

    #[test]
    fn a_name_comes_before_a_beginning_and_a_long_beginning_before_a_short_one() {
        let members =
            members(&[("e*", "short"), ("eu-*", "long"), ("eu-1", "name"), ("us", "other")]);
        let members = members.unwrap();
        for (node, group) in [
            ("eu-1", Some("name")),
            ("eu-12", Some("long")),
            ("eu-", Some("long")),
            ("eu", Some("short")),
            ("us", Some("other")),
            ("us-1", None),
            ("u", None),
            ("", None),
        ] {
            assert_eq!(members.group(node), group, "{node}");
        }
    }

    #[test]
    fn a_member_has_one_group_and_the_form_of_a_name() {
        let error = members(&[("a", "one"), ("a", "two")]).unwrap_err().to_string();
        assert_eq!(error, "`a` is also in the group `one`");
        assert!(members(&[("a", "one"), ("a*", "two")]).is_ok());
        for malformed in ["", "*", "a**", "a*b", "a b", "é"] {
            assert!(members(&[(malformed, "one")]).is_err(), "{malformed}");
        }
    }
}
