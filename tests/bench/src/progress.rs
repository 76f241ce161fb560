//! What is measured now, and how long the rest takes.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

pub(crate) struct Progress {
    begun: Instant,
    /// The estimate for the parts that have not begun, in seconds.
    left: f64,
    part: Option<(&'static str, f64, Instant)>,
}

impl Progress {
    pub(crate) fn new(estimate: f64) -> Self {
        eprintln!("==> measuring, about {:.1} min", estimate / 60.0);
        Self { begun: Instant::now(), left: estimate, part: None }
    }

    /// A part begins. The estimate is in seconds.
    pub(crate) fn begin(&mut self, name: &'static str, estimate: f64) {
        self.left = (self.left - estimate).max(0.0);
        self.part = Some((name, estimate, Instant::now()));
        eprintln!("==> {name}: about {estimate:.0} s");
    }

    /// A step of the part begins.
    pub(crate) fn step(&mut self, what: &str) {
        let Some((name, estimate, begun)) = self.part else { return };
        if std::io::stderr().is_terminal() {
            let left = self.left + (estimate - begun.elapsed().as_secs_f64()).max(0.0);
            eprint!("\r\x1b[K{name}, about {:.0} min left: {what}", (left / 60.0).ceil());
            drop(std::io::stderr().flush());
        }
    }

    /// The part has ended. Returns its seconds.
    pub(crate) fn end(&mut self) -> f64 {
        let Some((name, estimate, begun)) = self.part.take() else { return 0.0 };
        let seconds = begun.elapsed().as_secs_f64();
        let start = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        let all = self.begun.elapsed().as_secs_f64() / 60.0;
        eprintln!(
            "{start}==> {name}: {seconds:.0} s (estimate {estimate:.0} s), {all:.1} min so far"
        );
        seconds
    }
}
