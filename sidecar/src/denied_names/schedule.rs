//! The schedule of lookups.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandgate_policy::egress::Name;
use tokio::time::Instant;

use crate::dns::Family;

/// The minimum interval between two lookups of a question. [`INTERVAL_PER_QUESTION`] makes it
/// longer if there are many questions.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The minimum interval grows by this time for each question: a thousand names, with two questions
/// each, cause at most twenty lookups a second.
pub(crate) const INTERVAL_PER_QUESTION: Duration = Duration::from_millis(50);
/// The maximum interval between two lookups of a question.
pub(crate) const MAX_INTERVAL: Duration = Duration::from_secs(3_600);
/// The interval after the first failure, and the maximum interval after several failures.
pub(crate) const RETRY_INTERVALS: (Duration, Duration) =
    (Duration::from_secs(5), Duration::from_secs(300));

/// A DNS question.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct Question {
    pub(crate) name: Name,
    /// The address family.
    pub(crate) family: Family,
}

/// The questions and their due times.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    questions: BTreeMap<Question, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// `None` while the question is in flight.
    due: Option<Instant>,
    /// The number of consecutive failures.
    failures: u32,
    /// Whether the first lookup has completed, successfully or not.
    is_complete: bool,
}

impl Schedule {
    /// Replaces the names. New names are due immediately.
    pub(crate) fn follow(&mut self, names: &BTreeSet<Name>, now: Instant) {
        self.questions.retain(|question, _| names.contains(&question.name));
        for name in names {
            for family in [Family::V4, Family::V6] {
                let question = Question { name: name.clone(), family };
                let entry = Entry { due: Some(now), failures: 0, is_complete: false };
                self.questions.entry(question).or_insert(entry);
            }
        }
    }

    /// Whether the schedule (still) contains the question.
    #[must_use]
    pub(crate) fn contains(&self, question: &Question) -> bool {
        self.questions.contains_key(question)
    }

    /// Whether the first lookup of every question has completed.
    #[must_use]
    pub(crate) fn is_complete(&self) -> bool {
        self.questions.values().all(|entry| entry.is_complete)
    }

    /// The earliest due time of the questions that are not in flight.
    #[must_use]
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.questions.values().filter_map(|entry| entry.due).min()
    }

    /// Takes the question that is overdue longest, if one is due. The question is then in flight.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Question> {
        let due = self.questions.iter_mut().filter(|(_, entry)| entry.due.is_some());
        let (question, entry) = due.min_by_key(|(_, entry)| entry.due)?;
        entry.due.take_if(|due| *due <= now)?;
        Some(question.clone())
    }

    /// Records a response that is valid for `valid_for`. `jitter` extends the interval until the
    /// next lookup by up to a tenth.
    pub(crate) fn answered(
        &mut self,
        question: &Question,
        valid_for: Duration,
        now: Instant,
        jitter: u8,
    ) {
        let per_question =
            INTERVAL_PER_QUESTION * u32::try_from(self.questions.len()).unwrap_or(u32::MAX);
        let interval =
            valid_for.clamp(MIN_INTERVAL.max(per_question).min(MAX_INTERVAL), MAX_INTERVAL);
        let interval = interval + interval / 10 * u32::from(jitter) / 255;
        self.complete(question, now + interval, 0);
    }

    /// Records a failure. The interval until the next lookup doubles with each consecutive failure.
    pub(crate) fn failed(&mut self, question: &Question, now: Instant) {
        let failures = self.questions.get(question).map_or(0, |entry| entry.failures);
        let interval =
            RETRY_INTERVALS.0.saturating_mul(1 << failures.min(8)).min(RETRY_INTERVALS.1);
        self.complete(question, now + interval, failures + 1);
    }

    fn complete(&mut self, question: &Question, due: Instant, failures: u32) {
        if let Some(entry) = self.questions.get_mut(question) {
            *entry = Entry { due: Some(due), failures, is_complete: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<Name> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    fn all_due(schedule: &mut Schedule, now: Instant) -> Vec<String> {
        let due = std::iter::from_fn(|| schedule.take_due(now));
        due.map(|question| format!("{} {:?}", question.name, question.family)).collect()
    }

    #[test]
    fn new_names_are_due_immediately_and_other_names_keep_their_due_time() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        assert!(schedule.is_complete(), "there are no questions");
        schedule.follow(&names(&["a.test"]), start);
        assert_eq!(all_due(&mut schedule, start), ["a.test V4", "a.test V6"]);
        assert_eq!(schedule.next_due(), None, "both are in flight");
        assert!(!schedule.is_complete());
        for family in [Family::V4, Family::V6] {
            let question = Question { name: "a.test".parse().unwrap(), family };
            schedule.answered(&question, Duration::from_secs(60), start, 0);
        }
        assert!(schedule.is_complete());
        schedule.follow(&names(&["a.test", "b.test"]), start);
        assert!(!schedule.is_complete());
        assert_eq!(all_due(&mut schedule, start), ["b.test V4", "b.test V6"]);
        schedule.follow(&names(&["a.test"]), start);
        assert!(schedule.is_complete());
        assert_eq!(schedule.next_due(), Some(start + Duration::from_secs(60)));
        assert!(
            !schedule.contains(&Question { name: "b.test".parse().unwrap(), family: Family::V4 })
        );
    }

    #[test]
    fn a_response_is_refreshed_when_it_expires_within_bounds() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&names(&["a.test"]), start);
        let question = schedule.take_due(start).unwrap();
        let _in_flight = schedule.take_due(start).unwrap();
        for (valid_for, jitter, expected) in [
            (60, 0, Duration::from_secs(60)),
            (60, 255, Duration::from_secs(66)),
            (0, 0, MIN_INTERVAL),
            (u64::from(u32::MAX), 0, MAX_INTERVAL),
            (u64::from(u32::MAX), 255, MAX_INTERVAL + MAX_INTERVAL / 10),
        ] {
            schedule.answered(&question, Duration::from_secs(valid_for), start, jitter);
            assert_eq!(schedule.next_due(), Some(start + expected), "{valid_for} {jitter}");
            assert_eq!(schedule.take_due(start + expected - Duration::from_millis(1)), None);
            assert_eq!(schedule.take_due(start + expected), Some(question.clone()));
        }
    }

    #[test]
    fn a_thousand_names_cause_twenty_lookups_a_second() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let many: BTreeSet<Name> =
            (0..1_000).map(|n| format!("n{n}.test").parse().unwrap()).collect();
        schedule.follow(&many, start);
        while let Some(question) = schedule.take_due(start) {
            schedule.answered(&question, Duration::ZERO, start, 0);
        }
        assert_eq!(schedule.next_due(), Some(start + Duration::from_secs(100)));
    }

    #[test]
    fn the_interval_doubles_with_each_failure() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.follow(&names(&["a.test"]), now);
        let other = schedule.take_due(now).unwrap();
        schedule.answered(&other, MAX_INTERVAL, now, 0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let question = schedule.take_due(now).unwrap();
            schedule.failed(&question, now);
            pauses.push(schedule.next_due().unwrap().duration_since(now).as_secs());
            now = schedule.next_due().unwrap();
        }
        assert!(schedule.is_complete(), "a failed lookup counts as completed");
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        let question = schedule.take_due(now).unwrap();
        schedule.answered(&question, Duration::from_secs(60), now, 0);
        now = schedule.next_due().unwrap();
        assert_eq!(schedule.take_due(now), Some(question.clone()));
        schedule.failed(&question, now);
        assert_eq!(
            schedule.next_due(),
            Some(now + RETRY_INTERVALS.0),
            "a success resets the interval"
        );
    }
}
