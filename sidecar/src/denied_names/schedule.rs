//! When each name is asked for again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sandgate_policy::egress::Name;
use tokio::time::Instant;

use crate::dns::Family;

/// An answer is not asked for again sooner than this, or, with many names, than a time for each question.
pub const SHORTEST: Duration = Duration::from_secs(5);
/// So that a thousand names, with two questions each, are twenty questions a second.
pub const EACH: Duration = Duration::from_millis(50);
/// Nor later than this.
pub const LONGEST: Duration = Duration::from_secs(3_600);
/// The pause after failures: at first, and at most.
pub const RETRIES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(300));

/// What is asked.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Question {
    /// The name.
    pub name: Name,
    /// Which of its addresses.
    pub family: Family,
}

/// Questions, and when they are due.
#[derive(Debug, Default)]
pub struct Schedule {
    questions: BTreeMap<Question, Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// None while it is under way.
    due: Option<Instant>,
    /// In a row.
    failures: u32,
    /// Whether it has come back once, with or without an answer.
    asked: bool,
}

impl Schedule {
    /// From now on, these names are asked for, and no others; new ones at once.
    pub fn follow(&mut self, names: &BTreeSet<Name>, now: Instant) {
        self.questions.retain(|question, _| names.contains(&question.name));
        for name in names {
            for family in [Family::V4, Family::V6] {
                let question = Question { name: name.clone(), family };
                let entry = Entry { due: Some(now), failures: 0, asked: false };
                self.questions.entry(question).or_insert(entry);
            }
        }
    }

    /// Whether this is asked (still).
    #[must_use]
    pub fn has(&self, question: &Question) -> bool {
        self.questions.contains_key(question)
    }

    /// Whether every question has come back once.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.questions.values().all(|entry| entry.asked)
    }

    /// When the next one is due, of those that are not under way.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.questions.values().filter_map(|entry| entry.due).min()
    }

    /// Takes one that is due, the longest overdue first: it is under way then.
    pub fn take_due(&mut self, now: Instant) -> Option<Question> {
        let due = self.questions.iter_mut().filter(|(_, entry)| entry.due.is_some());
        let (question, entry) = due.min_by_key(|(_, entry)| entry.due)?;
        entry.due.take_if(|due| *due <= now)?;
        Some(question.clone())
    }

    /// An answer came, which is good for some time. `spread` stretches the time until the next, by a tenth
    /// at most.
    pub fn answered(&mut self, question: &Question, good_for: Duration, now: Instant, spread: u8) {
        let each = EACH * u32::try_from(self.questions.len()).unwrap_or(u32::MAX);
        let pause = good_for.clamp(SHORTEST.max(each).min(LONGEST), LONGEST);
        let stretched = pause + pause / 10 * u32::from(spread) / 255;
        self.came_back(question, now + stretched, 0);
    }

    /// No answer came: again later, and later.
    pub fn failed(&mut self, question: &Question, now: Instant) {
        let failures = self.questions.get(question).map_or(0, |entry| entry.failures);
        let pause = RETRIES.0.saturating_mul(1 << failures.min(8)).min(RETRIES.1);
        self.came_back(question, now + pause, failures + 1);
    }

    fn came_back(&mut self, question: &Question, due: Instant, failures: u32) {
        if let Some(entry) = self.questions.get_mut(question) {
            *entry = Entry { due: Some(due), failures, asked: true };
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
    fn new_names_are_asked_for_at_once_and_others_stay_as_they_are() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        assert!(schedule.is_complete(), "there is nothing to ask");
        schedule.follow(&names(&["a.test"]), start);
        assert_eq!(all_due(&mut schedule, start), ["a.test V4", "a.test V6"]);
        assert_eq!(schedule.next(), None, "both are under way");
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
        assert_eq!(schedule.next(), Some(start + Duration::from_secs(60)));
        assert!(!schedule.has(&Question { name: "b.test".parse().unwrap(), family: Family::V4 }));
    }

    #[test]
    fn an_answer_is_asked_for_again_when_its_time_is_over_within_bounds() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.follow(&names(&["a.test"]), start);
        let question = schedule.take_due(start).unwrap();
        let _under_way = schedule.take_due(start).unwrap();
        for (good_for, spread, expected) in [
            (60, 0, Duration::from_secs(60)),
            (60, 255, Duration::from_secs(66)),
            (0, 0, SHORTEST),
            (u64::from(u32::MAX), 0, LONGEST),
            (u64::from(u32::MAX), 255, LONGEST + LONGEST / 10),
        ] {
            schedule.answered(&question, Duration::from_secs(good_for), start, spread);
            assert_eq!(schedule.next(), Some(start + expected), "{good_for} {spread}");
            assert_eq!(schedule.take_due(start + expected - Duration::from_millis(1)), None);
            assert_eq!(schedule.take_due(start + expected), Some(question.clone()));
        }
    }

    #[test]
    fn a_thousand_names_are_twenty_questions_a_second() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let many: BTreeSet<Name> =
            (0..1_000).map(|n| format!("n{n}.test").parse().unwrap()).collect();
        schedule.follow(&many, start);
        while let Some(question) = schedule.take_due(start) {
            schedule.answered(&question, Duration::ZERO, start, 0);
        }
        assert_eq!(schedule.next(), Some(start + Duration::from_secs(100)));
    }

    #[test]
    fn failures_are_tried_again_later_and_later() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        schedule.follow(&names(&["a.test"]), now);
        let other = schedule.take_due(now).unwrap();
        schedule.answered(&other, LONGEST, now, 0);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let question = schedule.take_due(now).unwrap();
            schedule.failed(&question, now);
            pauses.push(schedule.next().unwrap().duration_since(now).as_secs());
            now = schedule.next().unwrap();
        }
        assert!(schedule.is_complete(), "a failure is an answer, too");
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        let question = schedule.take_due(now).unwrap();
        schedule.answered(&question, Duration::from_secs(60), now, 0);
        now = schedule.next().unwrap();
        assert_eq!(schedule.take_due(now), Some(question.clone()));
        schedule.failed(&question, now);
        assert_eq!(schedule.next(), Some(now + RETRIES.0), "and from the start again");
    }
}
