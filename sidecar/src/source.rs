//! The sources of the policy (a file, or the control plane) and of the operator's settings (a file).
//!
//! A source retries forever, and never publishes a value that it can't parse: the previous value stays.

pub mod control_plane;
pub(crate) mod file;
mod tls;

pub use control_plane::ControlPlane;
pub use tls::Tls;

use std::path::PathBuf;

use sandgate_policy::egress::NetworkPolicy;
use tokio::sync::watch;

/// A source's last valid value, and the error in a newer one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct SourceState<T = NetworkPolicy> {
    /// The last valid value, or `None` before the first one.
    pub valid: Option<T>,
    /// Why a newer value is not valid or could not be read, in one sentence.
    pub problem: Option<String>,
}

/// Publishes the state of a source.
#[derive(Clone, Debug)]
pub struct SourceSender<T = NetworkPolicy>(watch::Sender<SourceState<T>>);

impl<T: Default + PartialEq> SourceSender<T> {
    /// Creates the sender and its receiver, with an empty state.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<SourceState<T>>) {
        let (sender, receiver) = watch::channel(SourceState::default());
        (Self(sender), receiver)
    }

    /// Publishes a valid value.
    pub(crate) fn publish(&self, value: T) {
        let state = SourceState { valid: Some(value), problem: None };
        self.0.send_if_modified(|current| {
            let changed = *current != state;
            *current = state;
            changed
        });
    }

    /// Publishes a value that applies because of an error, and logs the error.
    pub(crate) fn publish_with_problem(&self, value: T, problem: String) {
        let state = SourceState { valid: Some(value), problem: Some(problem) };
        self.0.send_if_modified(|current| {
            if *current == state {
                return false;
            }
            tracing::error!("{}", state.problem.as_deref().unwrap_or_default());
            *current = state;
            true
        });
    }

    /// Publishes and logs an error. The last valid value stays.
    pub(crate) fn publish_problem(&self, problem: String) {
        self.0.send_if_modified(|current| {
            if current.problem.as_ref() == Some(&problem) {
                return false;
            }
            match current.valid {
                Some(_) => tracing::error!("{problem}; the previous value stays"),
                None => tracing::error!("{problem}; no valid value yet"),
            }
            current.problem = Some(problem);
            true
        });
    }
}

/// The source of the policy.
#[derive(Clone, Debug)]
pub(crate) enum PolicySource {
    /// A JSON file.
    File(PathBuf),
    /// The control plane's long poll.
    ControlPlane(ControlPlane),
}
