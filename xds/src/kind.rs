//! The kinds of resources.

use std::fmt;

/// A kind of resource. The order is the order in which changes are sent: what a resource needs comes before it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    Cluster,
    Endpoints,
    Secret,
    /// The rate of an access log.
    TokenBucket,
    /// A filter's configuration (ECDS).
    Extension,
    Listener,
    Route,
}

impl Kind {
    /// All kinds, in their order.
    pub const ALL: [Self; 7] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Secret,
        Self::TokenBucket,
        Self::Extension,
        Self::Listener,
        Self::Route,
    ];

    /// The name of the message.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::Cluster => "envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::TokenBucket => "envoy.type.v3.TokenBucket",
            Self::Extension => "envoy.config.core.v3.TypedExtensionConfig",
            Self::Listener => "envoy.config.listener.v3.Listener",
            Self::Route => "envoy.config.route.v3.RouteConfiguration",
        }
    }

    /// The URL that names this kind in requests and responses.
    #[must_use]
    pub fn type_url(self) -> String {
        format!("type.googleapis.com/{}", self.message())
    }

    /// The kind that a URL names.
    #[must_use]
    pub fn from_type_url(url: &str) -> Option<Self> {
        let message = url.strip_prefix("type.googleapis.com/")?;
        Self::ALL.into_iter().find(|kind| kind.message() == message)
    }

    /// Whether a first request without names subscribes to all resources.
    #[must_use]
    pub fn has_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// The kinds whose resources may name a resource of this kind.
    #[must_use]
    pub(crate) fn referrers(self) -> &'static [Self] {
        match self {
            Self::Cluster => &[Self::Listener, Self::Route, Self::Extension],
            Self::Endpoints => &[Self::Cluster],
            Self::Secret => &[Self::Cluster, Self::Listener],
            Self::TokenBucket | Self::Extension | Self::Route => &[Self::Listener],
            Self::Listener => &[],
        }
    }

    /// Whether a client that has a resource of this kind is never told that it was removed. Envoy keeps serving with a
    /// listener while the listener drains. Without the resource, that listener would lose a filter, or its certificate. A
    /// client unsubscribes when it no longer uses the resource.
    #[must_use]
    pub(crate) fn is_kept(self) -> bool {
        matches!(self, Self::Secret | Self::Extension | Self::TokenBucket)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Secret => "secret",
            Self::TokenBucket => "token_bucket",
            Self::Extension => "extension",
            Self::Listener => "listener",
            Self::Route => "route",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_url_names_one_kind() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_type_url(&kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::from_type_url("type.googleapis.com/envoy.config.cluster.v3"), None);
    }

    #[test]
    fn the_order_is_the_order_of_all() {
        let mut sorted = Kind::ALL;
        sorted.sort();
        assert_eq!(sorted, Kind::ALL);
    }
}
