//! The policy as a file of JSON, read again when it changes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_policy::egress::NetworkPolicy;

use super::Offers;

/// How often the file is looked at. It is small, and reading it finds every kind of change: a file that was
/// written in place, renamed over, or that is a link to another now (as Kubernetes mounts them).
const INTERVAL: Duration = Duration::from_millis(200);
/// A policy of 1,000 entries of the longest names is smaller.
const MOST_BYTES: u64 = 1 << 20;

/// Follows the file for ever.
pub async fn follow(path: PathBuf, offers: Offers) {
    let mut before = None;
    loop {
        let now = read(&path);
        if before.as_ref() != Some(&now) {
            match now.clone().and_then(|text| parse(&path, &text)) {
                Ok(policy) => offers.good(policy),
                Err(problem) => offers.bad(problem),
            }
            before = Some(now);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn read(path: &Path) -> Result<String, String> {
    let failed = |error: std::io::Error| {
        format!("the policy file `{}` can't be read: {error}", path.display())
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(file, MOST_BYTES), &mut text)
        .map_err(failed)?;
    Ok(text)
}

fn parse(path: &Path, text: &str) -> Result<NetworkPolicy, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("the policy file `{}` is not valid: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Offer;

    async fn changed(offers: &mut tokio::sync::watch::Receiver<Offer>) -> Offer {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, offers.changed()).await.unwrap().unwrap();
        offers.borrow_and_update().clone()
    }

    #[tokio::test]
    async fn a_bad_file_keeps_the_good_policy_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, r#"{"allow_internet_access": false}"#).unwrap();
        let (offers, mut offered) = Offers::new();
        let following = tokio::spawn(follow(path.clone(), offers));
        let first = changed(&mut offered).await;
        assert!(!first.policy.as_ref().unwrap().allow_internet_access);
        for bad in [r#"{"allow_out": ["example.com:443"]}"#, r#"{"allow_internet": true}"#, "{"] {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut offered).await;
            assert_eq!(after.policy, first.policy, "{bad}");
            assert!(after.problem.unwrap().contains("policy.json"), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = changed(&mut offered).await;
        assert_eq!(gone.policy, first.policy);
        std::fs::write(&path, "{}").unwrap();
        let good = changed(&mut offered).await;
        assert_eq!((good.policy.unwrap().allow_internet_access, good.problem), (true, None));
        following.abort();
    }
}
