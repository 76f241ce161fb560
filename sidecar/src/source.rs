//! Where the policy comes from: a file, or the control plane. And the operator's settings: a file.
//!
//! A source never gives up, and never hands on what it does not understand: what is in force stays.

pub mod control_plane;
pub mod file;

pub use control_plane::ControlPlane;

use sandgate_policy::egress::NetworkPolicy;
use tokio::sync::watch;

/// The last good one (a policy, mostly), none before there is one; and what is wrong with a later one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer<T = NetworkPolicy> {
    /// What should be in force.
    pub good: Option<T>,
    /// Why something newer is not: one sentence.
    pub problem: Option<String>,
}

/// A source's end of the line.
#[derive(Clone, Debug)]
pub struct Offers<T = NetworkPolicy>(watch::Sender<Offer<T>>);

impl<T: Default + PartialEq> Offers<T> {
    /// A line without an offer.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Offer<T>>) {
        let (sender, receiver) = watch::channel(Offer::default());
        (Self(sender), receiver)
    }

    /// A good one.
    pub fn good(&self, good: T) {
        let offer = Offer { good: Some(good), problem: None };
        self.0.send_if_modified(|held| {
            let changed = *held != offer;
            *held = offer;
            changed
        });
    }

    /// Something that is none. The one before stays.
    pub fn bad(&self, problem: String) {
        self.0.send_if_modified(|held| {
            if held.problem.as_ref() == Some(&problem) {
                return false;
            }
            tracing::error!("{problem}; what was in force before stays");
            held.problem = Some(problem);
            true
        });
    }
}
