//! Suspended sandboxes do nothing, and go on where they stopped.

use std::time::Duration;

use anyhow::{Result, ensure};
use sandgate_stack::Sandbox;
use sandgate_stack::wait::until;

use crate::machine::{LIMIT, Machine, Setup, only, run};

pub(crate) fn a_suspended_sandbox_goes_on_where_it_stopped() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let sandbox = machine.create("sleeper", only(&["packages.test"])).await?;
        let (processes, address) =
            (machine.processes(&sandbox, "sandbox")?, machine.address(&sandbox)?);
        machine.owner.suspend(machine.control_plane.api(), &sandbox).await?;
        if !machine.freezes() {
            ensure!(machine.processes(&sandbox, "sandbox")?.is_empty(), "it still runs");
            machine.resume(&sandbox).await?;
            machine.edge(&sandbox)?.get("sleeper", "/health").send().await?.ok()?;
            return machine.stop();
        }
        ensure!(machine.processes(&sandbox, "sandbox")? == processes);
        let request = machine.edge(&sandbox)?.get("sleeper", "/health").send();
        let answered = tokio::time::timeout(Duration::from_millis(500), request).await;
        ensure!(answered.is_err(), "a suspended sandbox answered");
        // A policy that changes meanwhile applies after the resume.
        machine.set_policy(&sandbox, only(&["elsewhere.test"])).await?;
        machine.resume(&sandbox).await?;
        ensure!(machine.processes(&sandbox, "sandbox")? == processes);
        ensure!(machine.address(&sandbox)? == address);
        machine.edge(&sandbox)?.get("sleeper", "/health").send().await?.ok()?;
        until("the new policy denies", LIMIT, async || {
            let (status, text) = machine.fetch(&sandbox, "http://packages.test/")?;
            ensure!(status == Some(6), "{status:?} {text}");
            Ok(Some(()))
        })
        .await?;
        // A suspended sandbox can be removed.
        machine.owner.suspend(machine.control_plane.api(), &sandbox).await?;
        machine.owner.delete(machine.control_plane.api(), &sandbox).await?;
        machine.until_gone(&sandbox).await?;
        machine.stop()
    })
}

/// It starts processes all the time, whose parents end before them. At most 8 are alive at a time.
const FORKING: &str = "
for i in 1 2 3 4; do ( while :; do ( (sleep 0.01; echo $i >>/tmp/ticks) & ); sleep 0.005; done ) & done
until [ -s /tmp/ticks ]; do sleep 0.01; done
echo ready
cat
";

pub(crate) fn a_sandbox_that_starts_processes_all_the_time_is_suspended() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup { program: Some(FORKING), ..Setup::default() }).await?;
        let sandbox = machine.create("forking", only(&[])).await?;
        for _ in 0..5 {
            machine.owner.suspend(machine.control_plane.api(), &sandbox).await?;
            if !machine.freezes() {
                ensure!(machine.processes(&sandbox, "sandbox")?.is_empty(), "it still runs");
                machine.resume(&sandbox).await?;
                continue;
            }
            let (processes, ticks) = state(&machine, &sandbox)?;
            tokio::time::sleep(Duration::from_millis(100)).await;
            ensure!(state(&machine, &sandbox)? == (processes, ticks), "something still runs");
            machine.resume(&sandbox).await?;
            until("it goes on", LIMIT, async || {
                Ok((state(&machine, &sandbox)?.1 > ticks).then_some(()))
            })
            .await?;
        }
        machine.owner.delete(machine.control_plane.api(), &sandbox).await?;
        machine.until_gone(&sandbox).await?;
        machine.stop()
    })
}

/// The processes of a sandbox, and how often one has done something.
fn state(machine: &Machine, sandbox: &Sandbox) -> Result<(Vec<i32>, u64)> {
    // The last process may end before its files are read, if the sandbox runs.
    loop {
        let processes = machine.processes(sandbox, "sandbox")?;
        let file = machine.own_file(sandbox, "ticks")?;
        if let Ok(found) = std::fs::metadata(file) {
            return Ok((processes, found.len()));
        }
    }
}
