//! The errors of an ingress configuration.

/// The reason why a configuration is not valid.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The document is not JSON, or does not have the expected structure.
    #[error("the ingress configuration is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// A field has a value that is not valid.
    #[error("the ingress configuration's `{field}` {problem}")]
    Field {
        /// The path of the field.
        field: &'static str,
        /// What is wrong with the value, and what is expected.
        problem: String,
    },
}

pub(super) fn wrong(field: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Field { field, problem: problem.into() }
}
