//! The errors of a configuration.

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not the JSON that is expected.
    #[error("the ingress configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that can't be used.
    #[error("the ingress configuration's `{field}` {problem}")]
    Field {
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it, and what is expected.
        problem: String,
    },
}

pub(super) fn wrong(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, problem: problem.into() }
}
