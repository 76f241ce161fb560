//! Many sandboxes are created and removed. `SANDGATE_SANDBOX_SECONDS=600` and `SANDGATE_SANDBOXES=50` choose for how long, and
//! how many at a time.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sandgate_stack::Sandbox;
use sandgate_stack::wait::until;

use crate::machine::{LIMIT, Machine, Setup, only, run};

/// How many are created or removed at the same time.
const AT_ONCE: usize = 8;

fn variable(name: &str, default: u64) -> Result<u64> {
    let text = std::env::var(name).unwrap_or_default();
    if text.is_empty() {
        return Ok(default);
    }
    text.parse().with_context(|| format!("{name} is `{text}`; it takes a number"))
}

pub(crate) fn sandboxes_that_come_and_go_leave_nothing() -> Result<()> {
    let limit = Duration::from_secs(variable("SANDGATE_SANDBOX_SECONDS", 4)?);
    let count = variable("SANDGATE_SANDBOXES", 4)?;
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let before = machine.made();
        let begun = Instant::now();
        let (mut rounds, mut memory) = (0_u64, Vec::new());
        while rounds == 0 || begun.elapsed() < limit {
            let names: Vec<String> =
                (0..count).map(|number| format!("round-{rounds}-{number}")).collect();
            let creates = names.iter().map(|name| machine.create(name, only(&["packages.test"])));
            let sandboxes: Vec<Sandbox> =
                stream::iter(creates).buffer_unordered(AT_ONCE).try_collect().await?;
            let some = sandboxes.first().context("no sandbox")?;
            let (status, text) = machine.fetch(some, "http://packages.test/")?;
            ensure!(status == Some(0), "{status:?} {text}");
            let api = machine.control_plane.api();
            let deletes = sandboxes.iter().map(|sandbox| machine.owner.delete(api, sandbox));
            stream::iter(deletes).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await?;
            until("nothing is left", LIMIT, async || {
                let after = machine.made();
                ensure!(after == before, "{after:?}");
                Ok(Some(()))
            })
            .await?;
            rounds += 1;
            memory.push(machine.control_plane.resident_kib()?);
        }
        println!(
            "{rounds} rounds of {count} sandboxes in {:?}; memory of the control plane after each, in KiB: {memory:?}",
            begun.elapsed()
        );
        machine.stop()
    })
}
