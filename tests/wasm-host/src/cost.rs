//! The cost of a filter's callbacks: instructions and host calls. Unlike time, both are the same on every machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Sub;
use std::path::Path;

/// The cost of a VM so far, or of the callbacks between two readings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Cost {
    /// Instructions, in wasmtime's unit of fuel: about one for each instruction.
    pub fuel: u64,
    /// The number of host calls, by name.
    pub host_calls: BTreeMap<&'static str, u64>,
}

impl Sub for Cost {
    type Output = Self;

    fn sub(mut self, earlier: Self) -> Self {
        self.fuel -= earlier.fuel;
        for (name, count) in earlier.host_calls {
            *self.host_calls.entry(name).or_default() -= count;
        }
        self.host_calls.retain(|_, count| *count > 0);
        self
    }
}

/// The environment variable that makes [`check_budget`] write the file.
const UPDATE: &str = "SANDGATE_UPDATE_BUDGET";
/// The fuel may exceed the budget by this share, in percent. The compiler's choices differ a little from build to build.
const MARGIN_PERCENT: u64 = 3;

/// Compares costs with the budgets in a file, and panics with instructions if one is exceeded. A cost far below its
/// budget fails too, so that the file shows what is true.
pub fn check_budget(file: &Path, costs: &[(&str, Cost)]) {
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(file, table(costs))
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        return;
    }
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let budgets = parse(&text);
    let mut differences = String::new();
    for (kind, cost) in costs {
        let Some((fuel, host_calls)) = budgets.get(*kind) else {
            let _ = writeln!(differences, "  {kind}: there is no budget");
            continue;
        };
        let margin = fuel * MARGIN_PERCENT / 100;
        if cost.fuel.abs_diff(*fuel) > margin {
            let _ =
                writeln!(differences, "  {kind}: {} instructions, the budget is {fuel}", cost.fuel);
        }
        let used = list(cost);
        if used != *host_calls {
            let _ =
                writeln!(differences, "  {kind}: host calls {used}, the budget is {host_calls}");
        }
    }
    assert!(
        differences.is_empty(),
        "the filter's cost differs from {}:\n{differences}If the change is wanted, run this test with {UPDATE}=1 and commit the file",
        file.display()
    );
}

fn list(cost: &Cost) -> String {
    let name = |name: &str| name.trim_start_matches("proxy_").to_owned();
    let calls = cost.host_calls.iter().map(|(call, count)| format!("{count} {}", name(call)));
    let total: u64 = cost.host_calls.values().sum();
    format!("{total}: {}", calls.collect::<Vec<_>>().join(", "))
}

fn table(costs: &[(&str, Cost)]) -> String {
    let mut table = format!("# Written by {UPDATE}=1. Kind | instructions | host calls\n");
    for (kind, cost) in costs {
        let _ = writeln!(table, "{kind} | {} | {}", cost.fuel, list(cost));
    }
    table
}

fn parse(table: &str) -> BTreeMap<&str, (u64, &str)> {
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|row| {
        let mut cells = row.splitn(3, " | ");
        let (kind, fuel, calls) = (cells.next()?, cells.next()?, cells.next()?);
        Some((kind, (fuel.parse().ok()?, calls)))
    })
    .collect()
}
