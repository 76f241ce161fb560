//! The gate: the nftables set `alive`. Outbound traffic passes only while the set has elements; they expire unless the
//! agent renews them.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::nftables::alive::{self, Handle};
use crate::nftables::apply::NftError;
use crate::nftables::{Nft, render};

/// Applies nftables transactions, and opens and closes the gate. Clones share their state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gate {
    nft: Nft,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    is_open: bool,
    alive: Handle,
}

impl Gate {
    /// Applies a transaction that does not open the gate.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the transaction. The rules are then unchanged.
    pub(crate) async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        // One transaction at a time.
        let _state = self.state.lock().await;
        self.nft.apply(transaction).await
    }

    /// Applies the rules of a policy generation, and opens the gate with them.
    ///
    /// # Errors
    ///
    /// If the transaction was not applied. The gate is then not renewed anymore, because the enforcers may have
    /// different generations.
    pub(crate) async fn open(&self, transaction: &str) -> Result<(), NftError> {
        let mut state = self.state.lock().await;
        let applied = self.nft.apply(transaction).await;
        state.is_open = applied.is_ok();
        applied
    }

    /// Closes the gate immediately. If that fails, it closes by itself, because it is not renewed anymore.
    pub(crate) async fn close(&self) {
        let mut state = self.state.lock().await;
        state.is_open = false;
        let Err(first) = state.alive.expire() else { return };
        // `nft` may work although the netlink socket of the agent does not.
        if let Err(error) = self.nft.apply(&render::closed()).await {
            tracing::error!(
                "outbound traffic could not be stopped immediately, and stops within {:?}: {first}; {error}",
                alive::ELEMENT_TIMEOUT
            );
        }
    }

    /// Renews the gate while it is open. Never returns.
    pub(crate) async fn renew(self) {
        let mut ticks = tokio::time::interval(alive::RENEW_INTERVAL);
        // A late renewal is not followed by additional ones.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut state = self.state.lock().await;
            if state.is_open
                && let Err(error) = state.alive.renew()
            {
                tracing::error!("the gate could not be renewed: {error}");
            }
        }
    }
}
