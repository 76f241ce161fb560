//! The goals, and what was measured for each.

use serde_json::Value;

use super::limits::{self, Limit};
use super::{Data, number, numbers, ratio, row, rows};
use crate::statistics::median;

struct Goal {
    what: &'static str,
    required: f64,
    aim: f64,
    is_at_most: bool,
    unit: &'static str,
    measured: Option<f64>,
    how: String,
    limit: Limit,
}

impl Goal {
    fn digits(&self) -> usize {
        match self.required {
            required if !self.unit.is_empty() || required > 4.0 => 0,
            required if required > 3.0 => 1,
            _ => 2,
        }
    }

    fn show(&self, value: f64) -> String {
        self.show_with(value, self.digits())
    }

    fn show_with(&self, value: f64, digits: usize) -> String {
        format!("{value:.digits$}{}", self.unit)
    }

    /// With one more digit if the goal is not reached, but the rounded value is that of the goal.
    fn show_measured(&self, value: f64) -> String {
        let shown = self.show(value);
        if !self.reaches(value, self.required) && shown == self.show(self.required) {
            return self.show_with(value, self.digits() + 1);
        }
        shown
    }

    fn reaches(&self, value: f64, bound: f64) -> bool {
        if self.is_at_most { value <= bound } else { value >= bound }
    }
}

/// The table of goals, and what limits those that are not reached.
pub(super) fn table(data: &Data) -> String {
    let mut text =
        "| goal | required | aim | measured | | how |\n|---|---|---|---|---|---|\n".to_owned();
    let mut missed = String::new();
    for goal in goals(data) {
        let sign = if goal.is_at_most { "≤" } else { "≥" };
        let measured =
            goal.measured.map_or_else(|| "–".to_owned(), |value| goal.show_measured(value));
        let verdict = match goal.measured {
            None => "not measured",
            Some(value) if goal.reaches(value, goal.aim) => "aim reached",
            Some(value) if goal.reaches(value, goal.required) => "reached",
            Some(_) => "**not reached**",
        };
        let (required, aim) = (goal.show(goal.required), goal.show(goal.aim));
        if verdict == "**not reached**" {
            let limit = goal.limit.text(data);
            missed
                .push_str(&format!("- {}: {measured} instead of {required}. {limit}\n", goal.what));
        }
        let (what, how) = (goal.what, &goal.how);
        text.push_str(&format!(
            "| {what} | {sign} {required} | {aim} | {measured} | {verdict} | {how} |\n"
        ));
    }
    if !missed.is_empty() {
        text.push_str("\nNot reached in this run:\n\n");
        text.push_str(&missed);
    }
    text
}

fn goals(data: &Data) -> Vec<Goal> {
    let at_most = |what, required, aim, unit, measured, how: &str, limit| Goal {
        what,
        required,
        aim,
        is_at_most: true,
        unit,
        measured,
        how: how.to_owned(),
        limit,
    };
    let at_least = |what, required, aim, unit, measured, how: &str, limit| Goal {
        what,
        required,
        aim,
        is_at_most: false,
        unit,
        measured,
        how: how.to_owned(),
        limit,
    };
    let (ingress, latency, egress) =
        (rows(data, "ingress"), rows(data, "latency"), rows(data, "egress"));
    // The goals of egress are for the native form. A run without it shows the other one.
    let form = if row(&egress, "native").is_some() { "native" } else { "wasm" };
    let in_form = format!("[egress](#egress), {form} form");
    let [up, down] = ["up", "down"].map(|field| ratio(&egress, form, "bare", field));
    let (bulk, slower) = if down < up { (down, limits::DOWNLOAD) } else { (up, limits::UPLOAD) };
    vec![
        at_most(
            "native, API key: processor time over bare",
            1.2,
            1.12,
            "",
            ratio(&ingress, "native_key", "bare", "micros"),
            "[ingress](#ingress)",
            limits::TIME,
        ),
        at_least(
            "native: what `ext_authz` over HTTP adds to bare, over what ours adds",
            4.0,
            8.0,
            "",
            added(&ingress),
            "[ingress](#ingress), Envoy alone, without the service",
            limits::TIME,
        ),
        at_most(
            "native: p99 at half load over bare",
            1.15,
            1.08,
            "",
            ratio(&latency, "native_key", "bare", "p99"),
            "[latency](#latency)",
            limits::TAIL,
        ),
        at_most(
            "wasm, API key: processor time over bare",
            1.6,
            1.45,
            "",
            ratio(&ingress, "wasm_key", "bare", "micros"),
            "[ingress](#ingress)",
            limits::TIME,
        ),
        at_most(
            "wasm: p99 at half load over bare",
            1.25,
            1.15,
            "",
            ratio(&latency, "wasm_key", "bare", "p99"),
            "[latency](#latency)",
            limits::TAIL,
        ),
        at_most(
            "50,000 sandbox addresses through one Envoy: cost of the last new address over the first",
            2.0,
            1.2,
            "",
            growth(data),
            "[scale](#scale), `original_dst`, the last 5,000 over the first 5,000, the worse form",
            limits::ADDRESSES,
        ),
        at_most(
            "1,000 waiting requests: the last one is served after the sandbox runs",
            150.0,
            100.0,
            " ms",
            last_waiter(data),
            "[waiting requests](#waiting-requests), none may be refused, the slower form",
            limits::WAITERS,
        ),
        at_least(
            "egress: connections per second over bare `tcp_proxy`",
            0.85,
            0.95,
            "",
            ratio(&egress, form, "bare", "connections"),
            &in_form,
            limits::CONNECTIONS,
        ),
        at_least(
            "egress: bulk throughput over bare",
            0.97,
            1.0,
            "",
            bulk,
            &format!("{in_form}, the slower direction"),
            slower,
        ),
        at_most(
            "sidecar's Envoy, resident memory",
            85.0,
            70.0,
            " MB",
            memory(&egress, form),
            &format!("{in_form}, idle"),
            limits::MEMORY,
        ),
    ]
}

/// What `ext_authz` adds over what the native form adds, in the same round.
fn added(ingress: &[Value]) -> Option<f64> {
    let of = |name| Some(numbers(row(ingress, name)?, "micros"));
    let (bare, authz, native) = (of("bare")?, of("ext_authz_http")?, of("native_key")?);
    let ratios: Vec<f64> = bare
        .iter()
        .zip(authz)
        .zip(native)
        .map(|((bare, authz), native)| (authz - bare) / (native - bare).max(0.1))
        .collect();
    Some(median(&ratios))
}

/// The cost of the last new address over that of the first, for the form that does worse.
fn growth(data: &Data) -> Option<f64> {
    let all = rows(data, "scale");
    let ours = ["wasm_original", "native_original"].into_iter().filter_map(|name| row(&all, name));
    ours.filter_map(grown).reduce(f64::max)
}

/// The last value of a row over its first one.
pub(super) fn grown(row: &Value) -> Option<f64> {
    let micros = numbers(row, "micros");
    Some(micros.last()? / micros.first()?)
}

/// The time of the form that does worse. None if a request was refused.
fn last_waiter(data: &Data) -> Option<f64> {
    let waiters = number(data.get("waiting")?, "waiters");
    let all = rows(data, "waiting");
    let measured = all.iter().filter(|row| row.get("missing").is_none());
    let times = measured.map(|row| {
        let is_served = numbers(row, "served").iter().all(|served| *served == waiters);
        if is_served { median(&numbers(row, "last_ms")) } else { f64::INFINITY }
    });
    times.reduce(f64::max)
}

fn memory(egress: &[Value], name: &str) -> Option<f64> {
    Some(number(row(egress, name)?, "idle_megabytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_misses_a_goal_narrowly_has_one_more_digit() {
        let page = |native: f64| {
            let row =
                |name: &str, micros: f64| serde_json::json!({ "name": name, "micros": [micros] });
            let ways =
                serde_json::json!({ "ways": [row("bare", 100.0), row("native_key", native)] });
            table(&Data::from_iter([("ingress".to_owned(), ways)]))
        };
        assert!(page(120.3).contains("over bare: 1.203 instead of 1.20."), "{}", page(120.3));
        assert!(page(119.9).contains("| 1.20 | reached |"), "{}", page(119.9));
        assert!(page(125.0).contains("1.25 instead of 1.20."), "{}", page(125.0));
    }
}
