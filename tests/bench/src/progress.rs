//! What is measured now, and how long the rest takes.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

pub(crate) struct Progress {
    begun: Instant,
    done: u32,
    steps: u32,
}

impl Progress {
    pub(crate) fn new(steps: u32) -> Self {
        Self { begun: Instant::now(), done: 0, steps }
    }

    /// A step begins. The estimate assumes that all steps take the same time.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        if !std::io::stderr().is_terminal() && self.done % 20 != 1 {
            return;
        }
        let each = self.begun.elapsed().as_secs_f64() / f64::from(self.done);
        let rest = each * f64::from(self.steps.saturating_sub(self.done));
        let line =
            format!("{}/{} about {:.0} min left: {what}", self.done, self.steps, rest / 60.0);
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K{line}");
            drop(std::io::stderr().flush());
        } else {
            eprintln!("{line}");
        }
    }

    pub(crate) fn end(&self) {
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
    }
}
