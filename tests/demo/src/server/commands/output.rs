//! What a process has written: lines with times, up to a limit, for any number of readers.

mod lines;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::watch;

use self::lines::Lines;

/// The bytes of output that are kept of one process.
const LIMIT: usize = 1 << 20;
/// What a line needs besides its text. Without it, empty lines would have no limit.
const OVERHEAD: usize = 64;

/// The pipe that a line came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// A line, or a part of a line that is too long.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) text: String,
    pub(super) stream: Stream,
    /// The line feed, or nothing if the next line continues this one.
    ending: &'static str,
    at: u64,
}

impl Line {
    /// The line as the clients read it.
    pub(super) fn event(&self) -> Value {
        let stream = match self.stream {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        };
        json!({
            "line": self.text, "line_ending": self.ending, "stream": stream, "timestamp": self.at,
        })
    }
}

/// The output of one process.
#[derive(Debug)]
pub(super) struct Output {
    kept: Mutex<Kept>,
    /// Notified of each change of `kept`.
    changes: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: Vec<Arc<Line>>,
    bytes: usize,
    is_cut: bool,
    has_ended: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self { kept: Mutex::default(), changes: watch::Sender::new(()) }
    }

    /// Copies a pipe until its end. Reads on after the limit, so that the writer never waits.
    pub(super) async fn record(&self, mut pipe: impl AsyncRead + Unpin, stream: Stream) {
        let mut lines = Lines::default();
        let mut buffer = vec![0; 16 << 10];
        // An error means that nothing more can be read.
        while let Ok(read @ 1..) = pipe.read(&mut buffer).await {
            lines.add(buffer.get(..read).unwrap_or_default(), |text, ending| {
                self.push(text, ending, stream);
            });
        }
        lines.finish(|text, ending| self.push(text, ending, stream));
    }

    fn push(&self, text: String, ending: &'static str, stream: Stream) {
        let mut kept = self.kept();
        if kept.is_cut {
            return;
        }
        let mut line = Line { text, stream, ending, at: super::now() };
        kept.bytes = kept.bytes.saturating_add(line.text.len()).saturating_add(OVERHEAD);
        if kept.bytes > LIMIT {
            kept.is_cut = true;
            line.stream = Stream::Stderr;
            line.ending = "\n";
            line.text = format!(
                "sandgate-demo: this command wrote more than {} KiB; the rest is discarded",
                LIMIT >> 10
            );
        }
        kept.lines.push(Arc::new(line));
        drop(kept);
        self.changes.send_replace(());
    }

    /// Ends the output for its readers.
    pub(super) fn end(&self) {
        self.kept().has_ended = true;
        self.changes.send_replace(());
    }

    /// The lines so far of one pipe, or of both.
    pub(super) fn lines(&self, stream: Option<Stream>) -> Vec<String> {
        let kept = self.kept();
        let lines = kept.lines.iter().filter(|line| is_of(line, stream));
        lines.map(|line| line.text.clone()).collect()
    }

    /// The next line of one pipe, or of both, from `position`, which it advances. Waits for it.
    /// Returns `None` at the end.
    pub(super) async fn next(
        &self,
        position: &mut usize,
        stream: Option<Stream>,
    ) -> Option<Arc<Line>> {
        let mut changes = self.changes.subscribe();
        loop {
            {
                let kept = self.kept();
                while let Some(line) = kept.lines.get(*position) {
                    *position += 1;
                    if is_of(line, stream) {
                        return Some(line.clone());
                    }
                }
                if kept.has_ended {
                    return None;
                }
            }
            // The sender is in `self`, so this can't fail.
            changes.changed().await.ok()?;
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_of(line: &Line, stream: Option<Stream>) -> bool {
    stream.is_none_or(|stream| stream == line.stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn output_over_the_limit_is_read_and_discarded_with_one_sentence() {
        for written in [vec![b'x'; 3 << 20], vec![b'\n'; 1 << 20]] {
            let output = Output::new();
            output.record(written.as_slice(), Stream::Stdout).await;
            let lines = output.lines(None);
            assert!(lines.iter().map(|line| line.len() + OVERHEAD).sum::<usize>() < LIMIT + 256);
            let notices = output.lines(Some(Stream::Stderr));
            assert_eq!(notices.len(), 1);
            assert!(notices[0].contains("more than 1024 KiB; the rest is discarded"));
            assert_eq!(lines.last(), notices.first());
        }
    }

    #[tokio::test]
    async fn a_reader_gets_all_lines_however_late_it_comes() {
        let output = Arc::new(Output::new());
        output.record(&b"one\n"[..], Stream::Stdout).await;
        let reader = tokio::spawn({
            let output = output.clone();
            async move {
                let (mut position, mut all) = (0, Vec::new());
                while let Some(line) = output.next(&mut position, Some(Stream::Stdout)).await {
                    all.push(line.text.clone());
                }
                all
            }
        });
        tokio::task::yield_now().await;
        output.record(&b"error\n"[..], Stream::Stderr).await;
        tokio::task::yield_now().await;
        output.record(&b"two\nthree"[..], Stream::Stdout).await;
        output.end();
        assert_eq!(reader.await.unwrap(), ["one", "two", "three"]);
    }
}
