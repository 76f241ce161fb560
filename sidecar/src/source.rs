//! Where the policy comes from: a file, or the control plane.
//!
//! A source never gives up, and never hands on what it does not understand: what is in force stays.

pub mod control_plane;
pub mod file;

pub use control_plane::ControlPlane;

use sandgate_policy::egress::NetworkPolicy;
use tokio::sync::watch;

/// The last good policy, none before there is one; and what is wrong with a later one.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Offer {
    /// What should be in force.
    pub policy: Option<NetworkPolicy>,
    /// Why something newer is not: one sentence.
    pub problem: Option<String>,
}

/// A source's end of the line.
#[derive(Clone, Debug)]
pub struct Offers(watch::Sender<Offer>);

impl Offers {
    /// A line without an offer.
    #[must_use]
    pub fn new() -> (Self, watch::Receiver<Offer>) {
        let (sender, receiver) = watch::channel(Offer::default());
        (Self(sender), receiver)
    }

    /// A good policy.
    pub fn good(&self, policy: NetworkPolicy) {
        let offer = Offer { policy: Some(policy), problem: None };
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
