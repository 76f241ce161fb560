//! The calls of sidecars.

use std::time::Duration;

use sandgate_policy::gateway_api::SandboxNetworkPolicy;

use super::client::PATIENCE;
use super::{Checks, Outcome, Problem, Target, require};

const WAIT: Duration = Duration::from_millis(800);

pub(super) async fn run(target: &Target, checks: &mut Checks<'_>) {
    let sentence =
        "the network policy of a sandbox is answered at once, with its id and a revision";
    checks.check(sentence, answered(target)).await;
    let sentence = "a poll for a policy that has not changed is held, and has the same revision";
    checks.check(sentence, held(target)).await;
    let sentence = "the network policy of an unknown sandbox gets 404";
    checks.check(sentence, unknown(target)).await;
}

fn supported(target: &Target) -> Outcome {
    if target.has_policies {
        return Ok(());
    }
    Err(Problem::NotRun("`--without-sidecars` was given".to_owned()))
}

async fn policy(
    target: &Target,
    since: &str,
    wait: Duration,
) -> Result<(SandboxNetworkPolicy, Duration), Problem> {
    let id = target.client.sandbox(&target.sandbox).await?.id;
    let wait = wait.as_millis();
    let path = format!("/gateway/v1/sandboxes/{id}/network-policy?wait_ms={wait}{since}");
    let answer = target.client.get(&path).await?;
    let took = answer.took;
    let policy: SandboxNetworkPolicy = answer.ok()?;
    require(policy.sandbox_id == id, || "the policy is of another sandbox".to_owned())?;
    Ok((policy, took))
}

async fn answered(target: &Target) -> Outcome {
    supported(target)?;
    for since in ["", "&since=unknown"] {
        let (_, took) = policy(target, since, Duration::from_secs(20)).await?;
        require(took < PATIENCE, || format!("it was held for {took:?}"))?;
    }
    Ok(())
}

async fn held(target: &Target) -> Outcome {
    supported(target)?;
    let (first, _) = policy(target, "", Duration::ZERO).await?;
    let (second, took) = policy(target, &format!("&since={}", first.revision), WAIT).await?;
    require(second == first, || "the policy or its revision has changed by itself".to_owned())?;
    require(took >= WAIT.mul_f64(0.9) && took < WAIT + PATIENCE, || {
        format!("a poll with `wait_ms={}` was held for {took:?}", WAIT.as_millis())
    })
}

async fn unknown(target: &Target) -> Outcome {
    supported(target)?;
    let path = "/gateway/v1/sandboxes/aaaaaaaaaaaaaaaaaaaaa/network-policy";
    target.client.get(path).await?.has_status(404)
}
