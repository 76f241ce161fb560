//! The filter reports a configuration of Envoy that lacks a guard around it, in both forms and with both kinds of upstream.

use anyhow::Result;
use sandgate_e2e::{DOMAIN, Setup, Stack, run};

use crate::support::replace_once;

const REPORTS: [(&str, &str); 2] = [
    ("missing_black_holes", "no filter in front of this one has set the black hole"),
    ("missing_address_checks", "has no address check"),
];

/// The reports so far: of each guard, whether it is counted and logged.
async fn reports(stack: &Stack) -> Result<Vec<(bool, bool)>> {
    let mut all = Vec::new();
    for (metric, message) in REPORTS {
        let pattern = format!("sandgate_ingress_{metric}_total");
        let is_counted = stack.envoy().stat(&pattern).await? > 0;
        all.push((is_counted, stack.envoy().output().await.contains(message)));
    }
    Ok(all)
}

#[test]
fn the_guards_of_the_edge_are_found_whatever_host_names_the_sandbox() {
    run(Setup::default(), async |stack| {
        let sandbox = stack.my_env().await?;
        // Each worker looks at its first permit, and each connection may go to another worker.
        for _ in 0..8 {
            let by_header = stack.edge().get(DOMAIN, "/api/v1/health");
            let by_header = by_header.header("x-tensorlake-sandbox-id", &sandbox.id);
            by_header.bearer(stack.key()).send().await?.ok()?;
            let by_host = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
            by_host.send().await?.ok()?;
        }
        assert_eq!(reports(stack).await?, [(false, false); 2]);
        Ok(())
    });
}

#[test]
fn missing_guards_are_reported() {
    let change = |text: &str| {
        let hole = "- name: sandgate.black_hole\n";
        let text = replace_once(text, hole, &format!("{hole}                    disabled: true\n"));
        replace_once(&text, "{ sandgate: { address_check:", "{ sandgate: { renamed:")
    };
    run(Setup { change, ..Setup::default() }, async |stack| {
        let sandbox = stack.my_env().await?;
        let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
        call.send().await?.ok()?;
        assert_eq!(reports(stack).await?, [(true, true); 2]);
        Ok(())
    });
}
