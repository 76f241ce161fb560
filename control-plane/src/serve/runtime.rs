//! The runtime of a server, and the platform that may report changes.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use anyhow::Context as _;

use super::{RuntimeSettings, StoreLocation};
use crate::api::EgressEnforcement;
use crate::gateway::{Platform, Tokens};
use crate::http::Listener;
use crate::runtime::{Exits, LocalRuntime, NamespacesRuntime, Runtime, WebhookRuntime};

/// What a runtime uses of its server.
pub(super) struct Surroundings<'a> {
    pub(super) store: &'a StoreLocation,
    pub(super) gateway_listener: &'a Listener,
    pub(super) tokens: &'a Tokens,
    pub(super) egress: EgressEnforcement,
}

impl Surroundings<'_> {
    /// Makes the runtime.
    pub(super) fn start(
        &self,
        settings: RuntimeSettings,
        exits: Exits,
    ) -> anyhow::Result<Arc<dyn Runtime>> {
        Ok(match settings {
            RuntimeSettings::Local(settings) => Arc::new(LocalRuntime::new(settings, exits)?),
            RuntimeSettings::Namespaces(settings) => {
                let data_dir =
                    self.store.data_dir()?.context("--runtime namespaces needs --data-dir")?;
                anyhow::ensure!(
                    self.gateway_listener.is_plain_text(),
                    "the sidecars of `--runtime namespaces` call the gateway API in plain text, without leaving this \
                     machine; remove `--gateway-tls-dir`"
                );
                let gateway_api = reachable(self.gateway_listener.address());
                let tokens = self.tokens.clone();
                let runtime =
                    NamespacesRuntime::new(*settings, &data_dir, gateway_api, tokens, exits)?;
                let runtime = Arc::new(runtime);
                let following = Arc::clone(&runtime);
                // It ends when the runtime shuts down.
                tokio::spawn(async move { following.follow_tokens().await });
                runtime
            }
            RuntimeSettings::Webhook(settings) => {
                let is_enforced = self.egress == EgressEnforcement::Enforced;
                let sidecars = is_enforced.then(|| self.tokens.clone());
                Arc::new(WebhookRuntime::new(*settings, sidecars)?)
            }
        })
    }
}

/// The address at which this process reaches its own listener.
fn reachable(listener: SocketAddr) -> SocketAddr {
    match listener {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        specified => specified,
    }
}

/// The platform that may report changes of sandboxes, if the runtime calls one.
pub(super) fn platform(settings: &RuntimeSettings) -> Option<Arc<Platform>> {
    match settings {
        RuntimeSettings::Local(_) | RuntimeSettings::Namespaces(_) => None,
        RuntimeSettings::Webhook(settings) => Some(Arc::new(Platform {
            key: settings.key.clone(),
            sandbox_cidrs: settings.sandbox_cidrs.clone(),
        })),
    }
}
