//! The sandbox's way out, which is open only while the agent says so again and again.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::nftables::alive::Handle;
use crate::nftables::apply::NftError;
use crate::nftables::{Nft, alive, render};

/// The one that speaks to nftables. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    nft: Nft,
    held: Arc<Mutex<Held>>,
}

#[derive(Debug, Default)]
struct Held {
    open: bool,
    handle: Handle,
}

impl Gate {
    /// Applies rules that leave the gate as it is.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses them.
    pub async fn apply(&self, transaction: &str) -> Result<(), NftError> {
        let _held = self.held.lock().await;
        self.nft.apply(transaction).await
    }

    /// Applies the rules of a generation, and opens with them.
    ///
    /// # Errors
    ///
    /// Where the kernel refuses them: what was in force stays.
    pub async fn open(&self, transaction: &str) -> Result<(), NftError> {
        let mut held = self.held.lock().await;
        self.nft.apply(transaction).await?;
        held.open = true;
        Ok(())
    }

    /// Closes at once. Where not even that works, it closes by itself: nobody renews it any more.
    pub async fn close(&self) {
        let mut held = self.held.lock().await;
        held.open = false;
        let Err(first) = held.handle.expire() else { return };
        // In another way: what keeps the one from working need not keep the other.
        if let Err(error) = self.nft.apply(&render::closed()).await {
            tracing::error!(
                "{first}; {error}; the way out closes by itself within {:?}",
                alive::HELD
            );
        }
    }

    /// Renews it for ever, while it is open.
    pub async fn keep(self) {
        let mut ticks = tokio::time::interval(alive::RENEWED);
        // Late is late: no burst makes up for it.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let mut held = self.held.lock().await;
            if held.open
                && let Err(error) = held.handle.renew()
            {
                tracing::error!("the way out could not be kept open: {error}");
            }
        }
    }
}
