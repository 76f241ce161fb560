//! The limits of requests in flight to one sandbox, by class.

/// The class of a request. Each class is counted separately.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// A request to the management port, which always has an authorized caller.
    Management,
    /// A request to an exposed port that is not public, by an authorized caller.
    Authenticated,
    /// A request to a public port, for which no credential is evaluated.
    Anonymous,
}

/// The number of requests in flight to one sandbox, by class.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct InFlight {
    management: usize,
    authenticated: usize,
    anonymous: usize,
}

impl InFlight {
    /// The number of requests of one class.
    #[must_use]
    pub fn of(&self, class: Class) -> usize {
        match class {
            Class::Management => self.management,
            Class::Authenticated => self.authenticated,
            Class::Anonymous => self.anonymous,
        }
    }

    fn of_mut(&mut self, class: Class) -> &mut usize {
        match class {
            Class::Management => &mut self.management,
            Class::Authenticated => &mut self.authenticated,
            Class::Anonymous => &mut self.anonymous,
        }
    }

    /// The number of requests of all classes.
    #[must_use]
    pub fn total(&self) -> usize {
        self.management.saturating_add(self.authenticated).saturating_add(self.anonymous)
    }

    /// Counts one more request.
    pub fn add(&mut self, class: Class) {
        let count = self.of_mut(class);
        *count = count.saturating_add(1);
    }

    /// Counts one request less.
    pub fn remove(&mut self, class: Class) {
        let count = self.of_mut(class);
        *count = count.saturating_sub(1);
    }

    /// Whether no request is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// The slots of one sandbox that each class may take.
///
/// A tenth of the slots is reserved for management requests, and another tenth is not available to anonymous requests.
/// Anonymous clients therefore can't lock the owner out, and no client of an app can keep the owner from the management
/// port.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shares {
    all: usize,
    reserve: usize,
}

impl Shares {
    /// The minimum number of slots, which leaves one for each class.
    pub const MIN: usize = 3;

    /// Divides the slots of one sandbox. `None` if there are fewer than [`Self::MIN`].
    #[must_use]
    pub fn of(slots: usize) -> Option<Self> {
        let reserve = (slots / 10).max(1);
        (slots >= Self::MIN).then_some(Self { all: slots, reserve })
    }

    /// The slots that requests to exposed ports may take.
    fn users(&self) -> usize {
        self.all.saturating_sub(self.reserve)
    }

    /// The slots that anonymous requests may take.
    #[must_use]
    pub fn anonymous(&self) -> usize {
        self.users().saturating_sub(self.reserve)
    }

    /// Whether one more request of the class may be forwarded.
    #[must_use]
    pub fn admit(&self, class: Class, in_flight: &InFlight) -> bool {
        let InFlight { management, authenticated, anonymous } = *in_flight;
        let users = authenticated.saturating_add(anonymous);
        let is_free = management.saturating_add(users) < self.all;
        match class {
            Class::Management => is_free,
            Class::Authenticated => is_free && users < self.users(),
            Class::Anonymous => is_free && users < self.users() && anonymous < self.anonymous(),
        }
    }
}
