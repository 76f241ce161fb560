//! The policy as a file of JSON, read again when it changes.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
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
    let failed = |problem: &dyn std::fmt::Display| {
        format!("the policy file `{}` can't be read: {problem}", path.display())
    };
    // Opening a pipe would wait for who writes to it, and the agent with it.
    let not_waiting = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(not_waiting).open(path);
    let file = file.map_err(|error| failed(&error))?;
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is no regular file"));
    }
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > MOST_BYTES {
        return Err(failed(&"it has more than 1 MiB"));
    }
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
        let long = format!("{{}}{}", " ".repeat(1 << 20));
        for bad in
            [r#"{"allow_out": ["example.com:443"]}"#, r#"{"allow_internet": true}"#, "{", &long]
        {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut offered).await;
            assert_eq!(after.policy, first.policy, "{bad}");
            assert!(after.problem.unwrap().contains("policy.json"), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = changed(&mut offered).await;
        assert_eq!(gone.policy, first.policy);
        // Whoever opens a pipe waits for a writer.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = changed(&mut offered).await;
        assert_eq!(pipe.policy, first.policy);
        assert!(pipe.problem.unwrap().contains("no regular file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        let good = changed(&mut offered).await;
        assert_eq!((good.policy.unwrap().allow_internet_access, good.problem), (true, None));
        following.abort();
    }
}
