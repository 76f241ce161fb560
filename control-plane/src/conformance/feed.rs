//! The change feed while nothing changes.

use std::time::Duration;

use futures_util::future::try_join3;

use super::client::PATIENCE;
use super::{Checks, Outcome, Target, require};

/// How long a poll is held in these checks.
const WAIT: Duration = Duration::from_millis(800);

pub(super) async fn run(target: &Target, checks: &mut Checks<'_>) {
    let sentence = "the first poll is answered at once, with `reset` and a revision";
    checks.check(sentence, first(target)).await;
    let sentence = "a poll without a change is held for `wait_ms`, and then names none";
    checks.check(sentence, held(target)).await;
    let sentence = "a poll with `wait_ms=0` is answered at once, without `reset`";
    checks.check(sentence, not_held(target)).await;
    let sentence =
        "a revision that the server has never given, or that is to come, gets `reset` at once";
    checks.check(sentence, unknown(target)).await;
    let sentence = "the polls of several watchers are held at the same time";
    checks.check(sentence, together(target)).await;
}

async fn first(target: &Target) -> Outcome {
    let (changes, took) = target.client.poll(None, Duration::from_secs(30), None).await?;
    require(took < PATIENCE, || format!("the first poll was held for {took:?}"))?;
    require(changes.reset, || "the first poll has no `reset`".to_owned())?;
    let is_unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    require(!changes.revision.is_empty() && changes.revision.bytes().all(is_unreserved), || {
        format!("the revision `{}` can't stand in a query as it is", changes.revision)
    })
}

async fn held(target: &Target) -> Outcome {
    poll_of(target, "conformance-held").await
}

/// A poll that is held for its whole wait.
async fn poll_of(target: &Target, watcher: &str) -> Outcome {
    let since = target.client.revision().await?;
    let (changes, took) = target.client.poll(Some(&since), WAIT, Some(watcher)).await?;
    require(!changes.reset, || "a poll with the newest revision gets `reset`".to_owned())?;
    require(changes.changes.is_empty(), || {
        "something changed; repeat this while nothing else uses the server".to_owned()
    })?;
    // Clocks differ a little.
    require(took >= WAIT.mul_f64(0.9) && took < WAIT + PATIENCE, || {
        format!("a poll with `wait_ms={}` was held for {took:?}", WAIT.as_millis())
    })
}

async fn not_held(target: &Target) -> Outcome {
    let since = target.client.revision().await?;
    let (changes, took) = target.client.poll(Some(&since), Duration::ZERO, None).await?;
    require(took < PATIENCE, || format!("it was held for {took:?}"))?;
    require(!changes.reset, || "it gets `reset`".to_owned())
}

async fn unknown(target: &Target) -> Outcome {
    let known = target.client.revision().await?;
    for since in ["0", "unknown", "a.b.c", &format!("x{known}"), &format!("{known}99999")] {
        let polled = target.client.poll(Some(since), Duration::from_secs(20), None).await?;
        let (changes, took) = polled;
        require(changes.reset, || format!("`since={since}` gets no `reset`"))?;
        require(took < PATIENCE, || format!("`since={since}` was held for {took:?}"))?;
    }
    Ok(())
}

async fn together(target: &Target) -> Outcome {
    let began = std::time::Instant::now();
    let poll = |watcher| poll_of(target, watcher);
    let polls = try_join3(poll("conformance-1"), poll("conformance-2"), poll("conformance-3"));
    polls.await.map(drop)?;
    let took = began.elapsed();
    require(took < WAIT * 2, || format!("three polls of {WAIT:?} took {took:?} together"))
}
