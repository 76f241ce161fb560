//! What the change feed reports when something changes.

use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join;
use sandgate_policy::gateway_api::{Change, Changes, Sandbox, SandboxState};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::client::PATIENCE;
use super::lookups::introspect;
use super::{Checks, Outcome, Problem, Target, fail, needed, require};

/// The longest time that a command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// How long a poll waits for a change.
const WAIT: Duration = Duration::from_secs(20);
/// How long a watcher hesitates to confirm. Less than the 500 ms after which a change is acknowledged anyway.
const HESITATION: Duration = Duration::from_millis(250);

pub(super) async fn run(target: &Target, checks: &mut Checks<'_>) {
    let sentence = "a held poll is answered when a sandbox changes, and names its id and its name";
    checks.check(sentence, reported(target)).await;
    let sentence = "each watcher learns of a change, and lookups then show it";
    checks.check(sentence, shown(target)).await;
    let sentence =
        "no change is lost between two polls, and a poll that is repeated reports the same";
    checks.check(sentence, kept(target)).await;
    let sentence = "a change is acknowledged when its watchers have applied it, and not before (500 ms at most)";
    checks.check(sentence, applied(target)).await;
    let sentence = "a sandbox that gets an address has a greater generation, and the feed names it";
    checks.check(sentence, relocated(target)).await;
    let sentence = "a revoked credential has no identity, and the feed names its principal";
    checks.check(sentence, revoked(target)).await;
}

/// Starts a command. Its variable `NUMBER` is another one each time, and can be a port.
fn start(command: &str) -> Result<Child, Problem> {
    static STARTED: AtomicU32 = AtomicU32::new(0);
    let count = STARTED.fetch_add(1, Ordering::Relaxed);
    let number = 20_000 + std::process::id().wrapping_mul(31).wrapping_add(count) % 40_000;
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env("NUMBER", number.to_string());
    shell.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
    shell.spawn().or_else(|error| fail(format!("`{command}` can't be started: {error}")))
}

async fn execute(command: &str) -> Outcome {
    match timeout(COMMAND, start(command)?.wait()).await {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => fail(format!("`{command}` failed with {status}")),
        Ok(Err(error)) => fail(format!("`{command}`: {error}")),
        Err(_) => fail(format!("`{command}` did not end within {COMMAND:?}")),
    }
}

/// Fails unless the changes tell a cache to drop the sandbox.
fn names(changes: &Changes, sandbox: &Sandbox) -> Outcome {
    for name in [Some(sandbox.id.as_str()), sandbox.name.as_deref()].into_iter().flatten() {
        let is_named = |change: &Change| matches!(change, Change::Sandbox { refs } if refs.iter().any(|it| it == name));
        require(changes.reset || changes.changes.iter().any(is_named), || {
            format!(
                "the sandbox changed, and the feed does not name `{name}`: {:?}",
                changes.changes
            )
        })?;
    }
    Ok(())
}

async fn reported(target: &Target) -> Outcome {
    let command = needed(target.change.as_ref(), "--change")?;
    let sandbox = target.client.sandbox(&target.sandbox).await?;
    let since = target.client.revision().await?;
    let poll = target.client.poll(Some(&since), WAIT, Some("conformance-reported"));
    let later = async {
        sleep(HESITATION).await;
        execute(command).await
    };
    let (polled, executed) = join(poll, later).await;
    executed?;
    let (changes, took) = polled?;
    names(&changes, &sandbox)?;
    require(took < WAIT, || {
        "the poll was held to its end although the sandbox changed".to_owned()
    })?;
    require(changes.revision != since, || "the revision has not changed".to_owned())
}

async fn shown(target: &Target) -> Outcome {
    let command = needed(target.change.as_ref(), "--change")?;
    let before = target.client.sandbox(&target.sandbox).await?;
    let since = target.client.revision().await?;
    let poll = |watcher| target.client.poll(Some(&since), WAIT, Some(watcher));
    // The lookup is sent as soon as the feed reports the change, as a filter does.
    let watch = async {
        let polls = futures_util::future::try_join(poll("conformance-a"), poll("conformance-b"));
        let ((a, _), (b, _)) = polls.await?;
        let after = target.client.sandbox(&target.sandbox).await?;
        Ok::<_, Problem>((a, b, after))
    };
    let (watched, executed) = join(watch, execute(command)).await;
    executed?;
    let (a, b, after) = watched?;
    names(&a, &before)?;
    names(&b, &before)?;
    require(after != before, || {
        "a lookup that follows the report still shows the state before the change".to_owned()
    })?;
    let (late, _) = target.client.poll(Some(&since), Duration::ZERO, Some("conformance-c")).await?;
    names(&late, &before)
}

async fn kept(target: &Target) -> Outcome {
    let command = needed(target.change.as_ref(), "--change")?;
    let sandbox = target.client.sandbox(&target.sandbox).await?;
    let mut revisions = vec![target.client.revision().await?];
    for _ in 0..3 {
        execute(command).await?;
        let newest = target.client.revision().await?;
        require(!revisions.contains(&newest), || {
            format!("after a change, the revision is `{newest}` as it was before")
        })?;
        revisions.push(newest);
    }
    let newest = revisions.pop();
    for since in &revisions {
        for _ in 0..2 {
            let polled = target.client.poll(Some(since), Duration::from_secs(1), None).await?;
            names(&polled.0, &sandbox)?;
        }
    }
    let rest = target.client.poll(newest.as_deref(), Duration::ZERO, None).await?.0;
    require(!rest.reset && rest.changes.is_empty(), || {
        format!("the newest revision still has changes: {:?}", rest.changes)
    })
}

async fn applied(target: &Target) -> Outcome {
    let command = needed(target.change.as_ref(), "--change")?;
    // On a busy machine, the report may arrive when the 500 ms are nearly over.
    let mut is_early = true;
    for _ in 0..3 {
        is_early = is_early && acknowledged_early(target, command).await?;
    }
    require(!is_early, || {
        format!(
            "the change was acknowledged within {HESITATION:?} of the report, before the watcher confirmed it"
        )
    })?;
    // A watcher that is gone must not hold up owners.
    let began = Instant::now();
    execute(command).await?;
    let took = began.elapsed();
    require(took < PATIENCE, || format!("a watcher that is gone held a change up for {took:?}"))
}

/// Whether a change is acknowledged although its watcher has not confirmed it.
async fn acknowledged_early(target: &Target, command: &str) -> Result<bool, Problem> {
    let client = &target.client;
    let watcher = Some("conformance-applied");
    let since = client.revision().await?;
    // The watcher confirms everything up to now, and stays.
    client.poll(Some(&since), Duration::ZERO, watcher).await?;
    let poll = client.poll(Some(&since), WAIT, watcher);
    let change = async {
        sleep(HESITATION).await;
        start(command)
    };
    let (polled, child) = join(poll, change).await;
    let mut child = child?;
    let (changes, _) = polled?;
    sleep(HESITATION).await;
    let is_early = child.try_wait().map_or(true, |status| status.is_some());
    let began = Instant::now();
    let confirm = client.poll(Some(&changes.revision), Duration::ZERO, watcher);
    let (confirmed, ended) = join(confirm, timeout(COMMAND, child.wait())).await;
    confirmed?;
    let took = began.elapsed();
    require(ended.is_ok() && took < PATIENCE, || {
        format!("the change was acknowledged {took:?} after the watcher confirmed it")
    })?;
    Ok(is_early)
}

async fn relocated(target: &Target) -> Outcome {
    let command = needed(target.relocate.as_ref(), "--relocate")?;
    let before = target.client.sandbox(&target.sandbox).await?;
    let since = target.client.revision().await?;
    execute(command).await?;
    let began = Instant::now();
    let after = loop {
        let now = target.client.sandbox(&target.sandbox).await?;
        if now.state == SandboxState::Running && now.generation != before.generation {
            break now;
        }
        require(began.elapsed() < WAIT, || {
            format!(
                "the sandbox is {} with the generation {} of before",
                now.state.as_str(),
                now.generation
            )
        })?;
        sleep(Duration::from_millis(100)).await;
    };
    require(after.generation > before.generation, || {
        format!("the generation went from {} to {}", before.generation, after.generation)
    })?;
    require(after.address.is_some(), || "the sandbox runs without an `address`".to_owned())?;
    let (changes, _) = target.client.poll(Some(&since), Duration::ZERO, None).await?;
    names(&changes, &before)
}

async fn revoked(target: &Target) -> Outcome {
    let command = needed(target.revoke.as_ref(), "--revoke")?;
    let secret = needed(target.credential.as_ref(), "--credential-file")?;
    let before = introspect(target, target.credential_kind, secret).await?.identity;
    let Some(before) = before else { return fail("the credential has no identity to revoke") };
    let since = target.client.revision().await?;
    execute(command).await?;
    let (changes, _) = target.client.poll(Some(&since), Duration::from_secs(1), None).await?;
    let is_it =
        |change: &Change| matches!(change, Change::Principal { id } if *id == before.principal);
    require(changes.reset || changes.changes.iter().any(is_it), || {
        format!("the feed does not name the principal: {:?}", changes.changes)
    })?;
    let after = introspect(target, target.credential_kind, secret).await?.identity;
    require(after.is_none(), || "the revoked credential still has an identity".to_owned())
}
