//! The network policy of a sandbox, as it is observed from inside.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::{Context as _, Result, ensure};
use sandgate_stack::wait::until;

use crate::machine::{LIMIT, Machine, Setup, only, run};

/// curl's status for a name without an address.
const NO_SUCH_HOST: Option<i32> = Some(6);

pub(crate) fn a_policy_is_enforced_from_inside_and_a_change_closes_connections() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let sandbox = machine.create("policed", only(&["packages.test"])).await?;
        let (status, text) = machine.fetch(&sandbox, "http://packages.test/a")?;
        ensure!(status == Some(0) && text.contains("packages.test answers GET /a"), "{text}");
        let (status, text) = machine.fetch(&sandbox, "http://elsewhere.test/")?;
        ensure!(status == NO_SUCH_HOST, "{status:?} {text}");
        let (_, text) = machine.fetch(&sandbox, "http://203.0.113.20/")?;
        ensure!(text.contains("EGRESS_DENIED"), "{text}");

        // A connection that lives until somebody closes it.
        let script = "exec 3<>/dev/tcp/packages.test/80; printf 'GET /live HTTP/1.1\\r\\nHost: packages.test\\r\\n\\r\\n' >&3; \
                      head -n 1 <&3; cat <&3 >/dev/null; echo closed";
        let mut live = machine.command_inside(&sandbox, script)?.stdout(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(live.stdout.take().context("no output")?).lines();
        let first = lines.next().context("no first line")??;
        ensure!(first.starts_with("HTTP/1.1 200"), "{first}");
        ensure!(live.try_wait()?.is_none(), "the connection has closed already");
        machine.set_policy(&sandbox, only(&["elsewhere.test"])).await?;
        let last = lines.last().context("no last line")??;
        ensure!(
            last == "closed" && live.wait()?.success(),
            "the connection was not closed: {last}"
        );

        let allowed = async || {
            let (status, text) = machine.fetch(&sandbox, "http://elsewhere.test/b")?;
            ensure!(status == Some(0) && text.contains("elsewhere.test answers"), "{text}");
            Ok(Some(()))
        };
        until("the new policy allows", LIMIT, allowed).await?;
        let (status, text) = machine.fetch(&sandbox, "http://packages.test/")?;
        ensure!(status == NO_SUCH_HOST, "{status:?} {text}");
        machine.stop()
    })
}

/// It tries to reach a site for as long as it runs, from its first moment on.
const EAGER: &str = "
( while :; do
    echo >>/tmp/tries
    timeout 1 bash -c 'echo >/dev/tcp/203.0.113.10/80' 2>/dev/null && echo >>/tmp/leaks
    timeout 1 bash -c 'echo x >/dev/udp/203.0.113.10/5000; echo >/dev/tcp/203.0.113.20/25' 2>/dev/null && echo >>/tmp/leaks
  done ) &
until [ -s /tmp/tries ]; do sleep 0.01; done
echo ready
cat
";

pub(crate) fn nothing_leaves_before_the_policy_is_enforced() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup { program: Some(EAGER), ..Setup::default() }).await?;
        let sandbox = machine.create("eager", only(&[])).await?;
        let tries = async || {
            let text = std::fs::read(machine.own_file(&sandbox, "tries")?)?;
            Ok((text.len() >= 3).then_some(()))
        };
        until("it has tried", LIMIT, tries).await?;
        let leaks = machine.own_file(&sandbox, "leaks")?;
        ensure!(!leaks.exists(), "something left the sandbox");
        // The same tries succeed as soon as the policy permits them.
        machine.set_policy(&sandbox, only(&["203.0.113.0/24"])).await?;
        until("it gets out", LIMIT, async || Ok(leaks.exists().then_some(()))).await?;
        machine.stop()
    })
}

pub(crate) fn a_sandbox_reaches_neither_another_one_nor_the_machine() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let one = machine.create("one", serde_json::json!(null)).await?;
        let other = machine.create("other", serde_json::json!(null)).await?;
        let address = machine.address(&other)?;
        let std::net::IpAddr::V4(address) = address else { anyhow::bail!("{address}") };
        // Another sandbox; its gateway on both sides; this machine's end of both gateways.
        let (own, theirs) = (machine.address(&one)?.to_string(), u32::from(address));
        let of_other = [0, 1, 3, 5].map(|offset| std::net::Ipv4Addr::from(theirs - offset));
        let own: std::net::Ipv4Addr = own.parse()?;
        let this_machine = [6, 5].map(|offset| std::net::Ipv4Addr::from(u32::from(own) - offset));
        for target in of_other.into_iter().chain(this_machine) {
            for port in [8080, 8901, 22] {
                let script = format!(
                    "timeout 5 bash -c 'echo hello >/dev/tcp/{target}/{port} && timeout 2 cat </dev/tcp/{target}/{port}'"
                );
                let output = machine.inside(&one, &script)?;
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                ensure!(!output.status.success() && text.is_empty(), "{target}:{port}: {text}");
            }
        }
        // A policy can't allow it either.
        machine.set_policy(&one, only(&[&format!("{}", machine.range)])).await?;
        let (_, text) = machine.fetch(&one, &format!("http://{address}:8080/health"))?;
        ensure!(!text.contains("ok") || text.contains("EGRESS_DENIED"), "{text}");
        machine.stop()
    })
}
