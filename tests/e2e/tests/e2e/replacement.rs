//! The configuration of the filter is replaced while Envoy runs, as by LDS or ECDS.
//!
//! Envoy 1.40 destroys a replaced configuration of a dynamic module on the worker that ends its last stream. Calls of the
//! configuration that were in flight then ended Envoy in most runs of these tests, until the module's bootstrap extension made
//! the calls.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::StatusCode;
use sandgate_e2e::{DOMAIN, Protocol, Sandbox, Setup, Stack, run};
use sandgate_stack::wait::until;

/// The requests that wait while a configuration is replaced.
const WAITING: usize = 12;
const SOON: Duration = Duration::from_secs(20);
/// What [`filter_from_file`] puts before each line of the filter.
const MARK: &str = "# filter: ";

/// The number of replacements. `SANDGATE_E2E_REPLACEMENTS` sets another one.
fn replacements() -> Result<u32> {
    let number = std::env::var("SANDGATE_E2E_REPLACEMENTS").unwrap_or_else(|_| "25".to_owned());
    number.parse().context("SANDGATE_E2E_REPLACEMENTS is not a number")
}

/// Lets Envoy read the filter from a file next to its own one. The filter's lines become comments, so that they are rendered.
fn filter_from_file(text: &str) -> String {
    let indentation = |line: &str| line.len() - line.trim_start().len();
    let mut lines = text.lines();
    let mut changed = Vec::new();
    for line in lines.by_ref() {
        changed.push(line.to_owned());
        if line.trim() == "- name: sandgate.ingress" {
            break;
        }
    }
    let rest: Vec<&str> = lines.collect();
    let outer = indentation(rest[0]);
    assert_eq!(rest[0].trim(), "typed_config:");
    let length = rest.iter().skip(1).take_while(|line| indentation(line) > outer).count();
    let (filter, rest) = rest[1..].split_at(length);
    let source = r#"config_discovery:
  config_source:
    resource_api_version: V3
    path_config_source: { path: "$FOLDER/filter.yaml" }
  type_urls:
    - type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    - type.googleapis.com/envoy.extensions.filters.http.dynamic_modules.v3.DynamicModuleFilter"#;
    changed.extend(source.lines().map(|line| format!("{:outer$}{line}", "")));
    changed.extend(rest.iter().map(|line| (*line).to_owned()));
    let marked = |line: &&str| format!("{MARK}{}", line.get(outer..).unwrap_or_default());
    changed.extend(filter.iter().filter(|line| !line.trim().is_empty()).map(marked));
    changed.join("\n") + "\n"
}

/// The folder of Envoy's files.
fn folder(stack: &Stack) -> Result<PathBuf> {
    Ok(stack.certificate_folder().parent().context("no folder")?.to_owned())
}

/// Replaces the filter by one with other limits, and waits until Envoy has it.
async fn replace(stack: &Stack, number: u32) -> Result<()> {
    let folder = folder(stack)?;
    let rendered = std::fs::read_to_string(folder.join("edge.yaml"))?;
    let limits = format!("\"limits\": {{ \"cache_entries\": {} }}", 10_000 + number);
    let filter: Vec<String> = rendered
        .lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .map(|line| format!("  {}", line.replace("\"limits\": {}", &limits)))
        .collect();
    assert!(filter.iter().any(|line| line.contains(&limits)), "{filter:#?}");
    let resource = [
        "resources:",
        "- \"@type\": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "  name: sandgate.ingress",
        "  typed_config:",
        &filter.join("\n"),
        "",
    ]
    .join("\n");
    let before = reloads(stack).await?;
    let new = folder.join("new-filter.yaml");
    std::fs::write(&new, resource)?;
    std::fs::rename(new, folder.join("filter.yaml"))?;
    until("Envoy has the filter", SOON, async || Ok((reloads(stack).await? > before).then_some(())))
        .await
}

/// How often Envoy has replaced the filter.
async fn reloads(stack: &Stack) -> Result<u64> {
    stack.envoy().stat("extension_config_discovery.*.config_reload$").await
}

async fn passes(stack: &Stack, sandbox: &Sandbox) -> Result<()> {
    for client in [stack.edge(), stack.edge_tls()] {
        let answer = client.get(&sandbox.host(8080), "/health").bearer(stack.key()).send().await?;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }
    Ok(())
}

#[test]
fn the_filter_is_replaced_while_its_requests_wait_for_calls_that_hang() {
    run(Setup { change: filter_from_file, ..Setup::default() }, async |stack| {
        replace(stack, 0).await?;
        let sandbox = stack.my_env().await?;
        passes(stack, &sandbox).await?;
        stack.control_plane.pause()?;
        for number in 1..=replacements()? {
            let mut waiting = Vec::new();
            for index in 0..WAITING {
                let host = format!("8080-nobody-{number}-{index}.{DOMAIN}");
                let call = stack.edge().get(&host, "/").bearer(stack.key());
                waiting.push(tokio::spawn(call.over(Protocol::Http1).send()));
            }
            until("all requests wait", SOON, async || {
                let active = stack.envoy().stat("http.edge.downstream_rq_active").await?;
                Ok((active >= WAITING as u64).then_some(()))
            })
            .await?;
            replace(stack, number).await?;
            // The old configuration ends with the last of these.
            waiting.iter().for_each(tokio::task::JoinHandle::abort);
            until("the clients are gone", SOON, async || {
                let active = stack.envoy().stat("http.edge.downstream_rq_active").await?;
                Ok((active == 0).then_some(()))
            })
            .await?;
        }
        stack.control_plane.go_on()?;
        let rejected = stack.envoy().stat("extension_config_discovery.*.config_fail$").await?;
        assert_eq!(rejected, 1, "only the file without a filter that Envoy starts with");
        until("requests pass again", SOON, async || {
            let call = stack.edge().get(&sandbox.host(8080), "/health").bearer(stack.key());
            Ok((call.send().await?.status == StatusCode::OK).then_some(()))
        })
        .await?;
        passes(stack, &sandbox).await?;
        stack.envoys[0].require_running()
    });
}

/// Nothing may end a stream that goes on, and a change must still end it.
#[test]
fn a_stream_outlives_the_configuration_that_it_began_with_and_is_still_revoked() {
    run(Setup { change: filter_from_file, ..Setup::default() }, async |stack| {
        replace(stack, 0).await?;
        let sandbox = stack.my_env().await?;
        passes(stack, &sandbox).await?;
        let call = stack.edge().get(&sandbox.host(8080), "/slow?ms=60000").bearer(stack.key());
        let slow = tokio::spawn(call.send());
        until("the stream is live", SOON, async || {
            let active = stack.envoy().stat("cluster.sandbox.*upstream_rq_active").await?;
            Ok((active > 0).then_some(()))
        })
        .await?;
        for number in 1..=5 {
            replace(stack, number).await?;
            passes(stack, &sandbox).await?;
        }
        assert!(!slow.is_finished(), "the stream goes on");
        stack
            .owner
            .patch(stack.api(), &sandbox, serde_json::json!({ "exposed_ports": [3000] }))
            .await?;
        until("the stream ends", SOON, async || Ok(slow.is_finished().then_some(()))).await?;
        Ok(())
    });
}
