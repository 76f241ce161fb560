//! Replaces the names of a template by their values.

use std::collections::BTreeMap;

use crate::value::{Value, ValueError};

/// Values by the name that a template uses for them.
pub type Values = BTreeMap<&'static str, Value>;

/// A template can't be rendered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RenderError {
    /// A value has a form that its name does not permit.
    #[error("{name}: {reason}")]
    InvalidValue {
        /// The name in the template.
        name: &'static str,
        /// What is wrong with the value.
        reason: ValueError,
    },
    /// The template contains a name that has no value.
    #[error("the template contains `${{{name}}}` in line {line}, and there is no such value")]
    UnknownName {
        /// The name in the template.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// The template contains the name of a part that no file contains.
    #[error("the template contains `${{part {name}}}` in line {line}, and there is no such part")]
    UnknownPart {
        /// The name of the part.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// A file of parts contains a line that belongs to no part.
    #[error("line {0} of a file of parts belongs to no part")]
    OutsideOfParts(usize),
    /// The template contains `${` without `}` in the same line.
    #[error("the template contains `${{` without `}}` in line {0}")]
    UnclosedName(usize),
}

/// Returns the template's text with each `${NAME}` replaced by its value. Values are not searched for names.
///
/// # Errors
///
/// If the template contains a name that `values` does not contain.
pub fn render(template: &str, values: &Values) -> Result<String, RenderError> {
    let mut rendered = String::with_capacity(template.len());
    for (index, line) in template.split_inclusive('\n').enumerate() {
        let line_number = index + 1;
        let mut rest = line;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) =
                after.split_once('}').ok_or(RenderError::UnclosedName(line_number))?;
            let value = values.get(name).ok_or_else(|| RenderError::UnknownName {
                name: name.to_owned(),
                line: line_number,
            })?;
            rendered.push_str(before);
            rendered.push_str(value.as_str());
            rest = behind;
        }
        rendered.push_str(rest);
    }
    Ok(rendered)
}

/// Collects values, and names the one that is invalid.
pub(crate) fn collect<const N: usize>(
    values: [(&'static str, Result<Value, ValueError>); N],
) -> Result<Values, RenderError> {
    values
        .into_iter()
        .map(|(name, value)| match value {
            Ok(value) => Ok((name, value)),
            Err(reason) => Err(RenderError::InvalidValue { name, reason }),
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests_support {
    /// The names that a template contains.
    pub(crate) fn names(text: &str) -> std::collections::BTreeSet<&str> {
        text.split("${").skip(1).map(|part| part.split_once('}').unwrap().0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(pairs: [(&'static str, &str); 2]) -> Values {
        pairs.map(|(name, text)| (name, Value::secret(text).unwrap())).into()
    }

    #[test]
    fn each_name_is_replaced_and_values_are_not_searched_for_names() {
        let values = values([("A", "${B}"), ("B", "b")]);
        assert_eq!(
            render("x: \"${A}\" ${B}0\n  $ {A}\n", &values).unwrap(),
            "x: \"${B}\" b0\n  $ {A}\n"
        );
    }

    #[test]
    fn a_name_without_a_value_is_refused_with_its_line() {
        let values = values([("A", "a"), ("B", "b")]);
        let error = render("${A}\n${C}\n", &values).unwrap_err();
        assert_eq!(error, RenderError::UnknownName { name: "C".to_owned(), line: 2 });
        assert_eq!(
            error.to_string(),
            "the template contains `${C}` in line 2, and there is no such value"
        );
    }

    #[test]
    fn a_name_that_does_not_end_in_its_line_is_refused() {
        let values = values([("A", "a"), ("B", "b")]);
        assert_eq!(render("\n${A\n}", &values), Err(RenderError::UnclosedName(2)));
    }
}
