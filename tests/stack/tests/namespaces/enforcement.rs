//! The network policy of a sandbox, as it is observed from inside.

use std::process::Stdio;

use anyhow::{Result, ensure};
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
        let script = "exec 3<>/dev/tcp/packages.test/80; cat <&3 >/dev/null; echo closed";
        let live = machine.command_inside(&sandbox, script)?.stdout(Stdio::piped()).spawn()?;
        until("it arrives", LIMIT, async || {
            Ok(machine.connections_outside()?.contains("203.0.113.10:80").then_some(()))
        })
        .await?;
        machine.set_policy(&sandbox, only(&["elsewhere.test"])).await?;
        let output = live.wait_with_output()?;
        let text = String::from_utf8(output.stdout)?;
        ensure!(
            text == "closed\n" && output.status.success(),
            "not closed: {text} {}",
            output.status
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
    timeout 1 bash -c 'echo >/dev/tcp/203.0.113.10/80' 2>/dev/null
    echo >/dev/udp/203.0.113.10/5000
    timeout 1 bash -c 'head -n 1 </dev/tcp/203.0.113.20/25' 2>/dev/null >>/tmp/answers
  done ) &
until [ -s /tmp/tries ]; do sleep 0.01; done
echo ready
cat
";

pub(crate) fn nothing_leaves_before_the_policy_is_enforced() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup { program: Some(EAGER), ..Setup::default() }).await?;
        machine.count_arrivals()?;
        let sandbox = machine.create("eager", only(&[])).await?;
        let tries = async || {
            let text = std::fs::read(machine.own_file(&sandbox, "tries")?)?;
            Ok((text.len() >= 3).then_some(()))
        };
        until("it has tried", LIMIT, tries).await?;
        let arrived = machine.arrivals()?;
        ensure!(arrived == 0, "{arrived} packets left the sandbox");
        // The same tries succeed as soon as the policy permits them.
        machine.set_policy(&sandbox, only(&["203.0.113.0/24"])).await?;
        until("it gets out", LIMIT, async || {
            let text = std::fs::read_to_string(machine.own_file(&sandbox, "answers")?)?;
            Ok((text.contains("220 elsewhere.test") && machine.arrivals()? > 0).then_some(()))
        })
        .await?;
        machine.stop()
    })
}

pub(crate) fn a_sandbox_reaches_neither_another_one_nor_the_machine() -> Result<()> {
    run(async {
        let machine = Machine::start(Setup::default()).await?;
        let one = machine.create("one", serde_json::json!(null)).await?;
        let other = machine.create("other", serde_json::json!(null)).await?;
        machine.edge(&other)?.get("other", "/health").send().await?.ok()?;
        let address = machine.address(&other)?;
        let std::net::IpAddr::V4(address) = address else { anyhow::bail!("{address}") };
        // Another sandbox; its gateway on both sides; this machine's end of both gateways.
        let (own, theirs) = (machine.address(&one)?.to_string(), u32::from(address));
        let of_other = [0, 1, 3, 5].map(|offset| std::net::Ipv4Addr::from(theirs - offset));
        let own: std::net::Ipv4Addr = own.parse()?;
        let this_machine = [6, 5].map(|offset| std::net::Ipv4Addr::from(u32::from(own) - offset));
        let targets: Vec<String> =
            of_other.into_iter().chain(this_machine).map(|address| address.to_string()).collect();
        let script = format!(
            "for host in {}; do for port in 8080 8901 22; do
               ( timeout 3 bash -c \"exec 3<>/dev/tcp/$host/$port; echo hello >&3; timeout 2 head -c 1 <&3\" | grep -q . && echo $host:$port ) &
             done; done 2>/dev/null; wait",
            targets.join(" ")
        );
        let output = machine.inside(&one, &script)?;
        let reached = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success() && reached.is_empty(), "{reached}");
        // A policy can't allow it either.
        machine.set_policy(&one, only(&[&format!("{}", machine.range)])).await?;
        let (_, text) = machine.fetch(&one, &format!("http://{address}:8080/health"))?;
        ensure!(text.contains("EGRESS_DENIED"), "{text}");
        machine.stop()
    })
}
