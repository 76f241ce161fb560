//! The parts of the raw data. A part can be measured again without the others, so each one has its own date and commit.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::{Data, text_of};

/// When a part was measured, and at which commit.
const MEASURED: &str = "measured";
/// The entries of the raw data that are no parts.
const MACHINE: &str = "machine";
const SECONDS: &str = "seconds";

/// Notes the date and the commit of the run in each part that has none.
pub(crate) fn note_times(data: &mut Data) {
    let Some(machine) = data.get(MACHINE) else { return };
    let time = json!({ "date": text_of(machine, "date"), "commit": text_of(machine, "commit") });
    for (_, part) in data.iter_mut().filter(|(name, _)| is_part(name)) {
        if let Some(part) = part.as_object_mut() {
            part.entry(MEASURED).or_insert_with(|| time.clone());
        }
    }
}

fn is_part(name: &str) -> bool {
    ![MACHINE, SECONDS].contains(&name)
}

/// Puts the parts of a newer run in the place of the earlier ones.
///
/// # Errors
/// A part of the newer run was not measured, or it was measured on another machine or with other programs: a page must not
/// compare the figures of two machines.
pub(crate) fn merge(mut data: Data, mut newer: Data) -> Result<Data> {
    note_times(&mut data);
    note_times(&mut newer);
    let remedy = "the page is unchanged; run a complete `make bench`";
    let earlier =
        description(&data).context("the earlier run has no description of its machine")?;
    for (name, value) in description(&newer).context("no description of this machine")? {
        let before = earlier.get(&name).unwrap_or(&Value::Null);
        ensure!(
            *before == value,
            "the other parts were measured with {name} {before}, and this one with {value}; {remedy}"
        );
    }
    let mut seconds = newer.remove(SECONDS).unwrap_or_default();
    for (name, part) in newer.into_iter().filter(|(name, _)| is_part(name)) {
        if let Some(why) = part.get("missing").and_then(Value::as_str) {
            bail!("{name} was not measured, and the page is unchanged: {why}");
        }
        if let Some(all) = data.get_mut(SECONDS).and_then(Value::as_object_mut) {
            let own = seconds.get_mut(&name).map(Value::take);
            all.insert(name.clone(), own.unwrap_or_default());
        }
        data.insert(name, part);
    }
    Ok(data)
}

/// The machine and the programs, without what differs from one run to the next.
fn description(data: &Data) -> Option<Map<String, Value>> {
    let mut machine = data.get(MACHINE)?.as_object()?.clone();
    machine.retain(|name, _| !["date", "commit"].contains(&name.as_str()));
    Some(machine)
}

/// A sentence about the parts that were measured at another time than the complete run.
pub(super) fn measured_again(data: &Data) -> String {
    let time =
        |value: &Value| (text_of(value, "date").to_owned(), text_of(value, "commit").to_owned());
    let run = data.get(MACHINE).map(time).unwrap_or_default();
    let parts = data.iter().filter(|(name, _)| is_part(name));
    let again: Vec<String> = parts
        .filter_map(|(name, part)| Some((name, time(part.get(MEASURED)?))))
        .filter(|(_, time)| *time != run)
        .map(|(name, (date, commit))| format!("{name} on {date} at commit {commit}"))
        .collect();
    if again.is_empty() {
        return String::new();
    }
    format!(" Measured again without the other parts: {}.", again.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(value: Value) -> Data {
        serde_json::from_value(value).unwrap()
    }

    fn run(commit: &str, parts: Value) -> Data {
        let mut all = data(parts);
        let machine = json!({ "processor": "a", "date": "2026-01-02", "commit": commit });
        all.insert(MACHINE.to_owned(), machine);
        all
    }

    /// A complete run from before parts had dates, without egress.
    fn complete() -> Data {
        let missing = json!({ "missing": "a connection failed" });
        let parts = json!({ "dns": { "ways": [1] }, "egress": missing, SECONDS: { "dns": 3.0, "egress": 4.0 } });
        run("aaa", parts)
    }

    fn egress(commit: &str) -> Data {
        run(commit, json!({ "egress": { "ways": [2] }, SECONDS: { "egress": 5.0 } }))
    }

    #[test]
    fn a_part_that_is_measured_again_keeps_the_other_parts() {
        let merged = merge(complete(), egress("bbb")).unwrap();
        let at = |commit: &str| json!({ "date": "2026-01-02", "commit": commit });
        assert_eq!(merged["dns"], json!({ "ways": [1], MEASURED: at("aaa") }));
        assert_eq!(merged["egress"], json!({ "ways": [2], MEASURED: at("bbb") }));
        assert_eq!(merged[SECONDS], json!({ "dns": 3.0, "egress": 5.0 }));
        assert_eq!(merged[MACHINE]["commit"], "aaa");
        let sentence = measured_again(&merged);
        assert_eq!(
            sentence,
            " Measured again without the other parts: egress on 2026-01-02 at commit bbb."
        );
        let later = merge(merged, egress("ccc")).unwrap();
        assert_eq!(later["dns"][MEASURED], at("aaa"));
        assert_eq!(later["egress"][MEASURED], at("ccc"));
    }

    #[test]
    fn parts_of_one_run_need_no_sentence() {
        let mut all = complete();
        assert_eq!(measured_again(&all), "");
        note_times(&mut all);
        assert_eq!(measured_again(&all), "");
    }

    #[test]
    fn a_part_that_failed_does_not_replace_an_earlier_one() {
        let failed = run("bbb", json!({ "dns": { "missing": "no resolver" } }));
        let error = merge(complete(), failed).unwrap_err().to_string();
        assert!(error.contains("dns") && error.contains("no resolver"), "{error}");
    }

    #[test]
    fn parts_of_two_machines_do_not_share_a_page() {
        let mut other = egress("bbb");
        other[MACHINE]["processor"] = json!("b");
        let error = merge(complete(), other).unwrap_err().to_string();
        assert!(error.contains("processor \"a\"") && error.contains("\"b\""), "{error}");
    }
}
