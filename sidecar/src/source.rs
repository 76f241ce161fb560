//! The sources of the policy (a file, or the control plane) and of the operator's settings (a file).
//!
//! A source retries forever, and never publishes a value that it can't parse: the previous value stays.

pub mod control_plane;
pub(crate) mod file;

pub use control_plane::ControlPlane;

use sandgate_policy::egress::NetworkPolicy;
use tokio::sync::watch;

/// The state of a source: its last valid value, and the error in a newer one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Update<T = NetworkPolicy> {
    /// The last valid value, or `None` before the first one.
    pub valid: Option<T>,
    /// Why a newer value is not valid or could not be read, in one sentence.
    pub problem: Option<String>,
}

/// Publishes the updates of a source.
#[derive(Clone, Debug)]
pub struct UpdateSender<T = NetworkPolicy>(watch::Sender<Update<T>>);

impl<T: Default + PartialEq> UpdateSender<T> {
    /// Creates the sender and its receiver, with an empty update.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Update<T>>) {
        let (sender, receiver) = watch::channel(Update::default());
        (Self(sender), receiver)
    }

    /// Publishes a valid value.
    pub(crate) fn publish(&self, value: T) {
        let update = Update { valid: Some(value), problem: None };
        self.0.send_if_modified(|current| {
            let changed = *current != update;
            *current = update;
            changed
        });
    }

    /// Publishes a value that applies because of an error, and logs the error.
    pub(crate) fn publish_with_problem(&self, value: T, problem: String) {
        let update = Update { valid: Some(value), problem: Some(problem) };
        self.0.send_if_modified(|current| {
            if *current == update {
                return false;
            }
            tracing::error!("{}", update.problem.as_deref().unwrap_or_default());
            *current = update;
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
