//! Sandboxes begin and end, whatever happens to the server.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sandgate_stack::wait::until;
use serde_json::json;

use crate::machine::{LIMIT, Machine, Setup, only, run};

pub(crate) fn a_sandbox_is_created_and_removed_with_all_that_belongs_to_it() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        // Odd names reach no command of this machine.
        for name in ["../up", "a b", "a;reboot", "$(id)", "-rf", "a\nb", "über"] {
            let refused = machine.create(name, json!(null)).await;
            ensure!(refused.is_err(), "{name:?} was accepted");
        }
        let before = machine.made();
        let one = machine.create("one", json!(null)).await?;
        let other = machine.create("other", only(&[])).await?;
        let health = machine.edge(&one)?.get("one", "/health").send().await?;
        ensure!(health.status.is_success(), "{} {}", health.status, health.text());
        ensure!(!machine.rest_of(&one).is_empty() && !machine.rest_of(&other).is_empty());
        // The kernel counts processes, and what they watch, for each user.
        let mut users = Vec::new();
        for sandbox in [&one, &other] {
            users.extend(machine.users(sandbox, "sandbox")?.last().copied());
            users.extend(machine.users(sandbox, "gateway")?.last().copied());
        }
        users.sort_unstable();
        users.dedup();
        ensure!(users.len() == 4 && !users.contains(&0), "{users:?}");
        machine.owner.delete(machine.control_plane.api(), &one).await?;
        machine.until_gone(&one).await?;
        ensure!(!machine.processes(&other, "sandbox")?.is_empty());
        machine.owner.delete(machine.control_plane.api(), &other).await?;
        machine.until_gone(&other).await?;
        until("the links are gone", LIMIT, async || {
            let after = machine.made();
            ensure!(after == before, "{after:?}");
            Ok(Some(()))
        })
        .await?;
        machine.stop()
    })
}

pub(crate) fn the_next_server_starts_the_sandboxes_of_a_killed_one_again() -> Result<()> {
    run(async {
        let mut machine = Machine::start(Setup::default()).await?;
        let runs = machine.create("runs", only(&["packages.test"])).await?;
        let sleeps = machine.create("sleeps", only(&[])).await?;
        machine.owner.suspend(machine.control_plane.api(), &sleeps).await?;
        machine.control_plane.crash()?;
        until("it is dead", LIMIT, async || Ok(machine.control_plane.ended())).await?;
        // Its processes end with it, also the frozen ones, so nothing runs without a server.
        for (sandbox, which) in [(&runs, "sandbox"), (&runs, "gateway"), (&sleeps, "sandbox")] {
            until(&format!("{} ended", sandbox.id), LIMIT, async || {
                let left = machine.processes(sandbox, which)?;
                ensure!(left.is_empty(), "{which}: {left:?}");
                Ok(Some(()))
            })
            .await?;
        }
        machine.control_plane.run().await?;
        machine.owner.wait_for(machine.control_plane.api(), &runs, "running").await?;
        let (status, text) = machine.fetch(&runs, "http://packages.test/again")?;
        ensure!(status == Some(0) && text.contains("packages.test answers"), "{status:?} {text}");
        let (status, text) = machine.fetch(&runs, "http://elsewhere.test/")?;
        ensure!(status == Some(6), "{status:?} {text}");
        // The one that was suspended is gone until it is resumed.
        machine.until_gone(&sleeps).await?;
        machine.resume(&sleeps).await?;
        machine.edge(&sleeps)?.get("sleeps", "/health").send().await?.ok()?;
        machine.stop()
    })
}

pub(crate) fn a_sandbox_whose_sidecar_dies_ends_and_can_be_resumed() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let sandbox = machine.create("survivor", only(&["packages.test"])).await?;
        for pid in machine.processes(&sandbox, "gateway")? {
            // It fails if the process has ended with another one.
            let _: nix::Result<()> = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        machine.owner.wait_for(machine.control_plane.api(), &sandbox, "suspended").await?;
        machine.until_gone(&sandbox).await?;
        machine.resume(&sandbox).await?;
        let (status, text) = machine.fetch(&sandbox, "http://packages.test/")?;
        ensure!(status == Some(0), "{status:?} {text}");
        machine.stop()
    })
}

pub(crate) fn two_servers_do_not_touch_one_anothers_sandboxes() -> Result<()> {
    run(async {
        let one = Machine::start(Setup::default()).await?;
        // The range is taken before there is a sandbox.
        let refused = Machine::start(Setup { range: Some(one.range), ..Setup::default() }).await;
        let error = format!("{:?}", refused.err().map(|error| error.to_string()));
        ensure!(error.contains("leads nowhere, as that of another server does"), "{error}");
        let of_one = one.create("of-one", json!(null)).await?;
        let other = Machine::start(Setup::default()).await?;
        let of_other = other.create("of-other", json!(null)).await?;
        let processes = one.processes(&of_one, "gateway")?;
        ensure!(!other.processes(&of_other, "gateway")?.is_empty());
        other.stop()?;
        ensure!(one.processes(&of_one, "gateway")? == processes);
        one.edge(&of_one)?.get("of-one", "/health").send().await?.ok()?;
        let (status, text) = one.fetch(&of_one, "http://elsewhere.test/")?;
        ensure!(status == Some(0), "{status:?} {text}");
        one.stop()
    })
}

pub(crate) fn a_range_that_the_machine_uses_is_refused() -> Result<()> {
    run(async {
        // Loopback has this one on every machine.
        let range = "127.0.0.0/16".parse()?;
        let refused = Machine::start(Setup { range: Some(range), ..Setup::default() }).await;
        let error = refused.err().map(|error| error.to_string()).unwrap_or_default();
        let expected = "--namespaces-cidr 127.0.0.0/16 is in use on this machine: interface lo has the address 127.0.0.1/8";
        ensure!(error.contains(expected), "{error}");
        Ok(())
    })
}
