//! The policy, or the operator's settings, as a file of JSON, read again when it changes.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_policy::egress::{NetworkPolicy, Operator};
use serde::de::DeserializeOwned;

use super::Offers;

/// How often the file is looked at. It is small, and reading it finds every kind of change: a file that was
/// written in place, renamed over, or that is a link to another now (as Kubernetes mounts them).
const INTERVAL: Duration = Duration::from_millis(200);
/// A policy of 1,000 entries of the longest names is smaller.
const MOST_BYTES: u64 = 1 << 20;

/// What a file may hold.
pub trait Content: Default + DeserializeOwned + PartialEq {
    /// What the file is called in messages.
    const FILE: &'static str;
}

impl Content for NetworkPolicy {
    const FILE: &'static str = "policy file";
}

impl Content for Operator {
    const FILE: &'static str = "operator file";
}

/// What a file holds now.
///
/// # Errors
///
/// In one sentence, why it can't be read or is not valid.
pub fn load<T: Content>(path: &Path) -> Result<T, String> {
    read(T::FILE, path).and_then(|text| parse(path, &text))
}

/// Follows the file for ever.
pub async fn follow<T: Content>(path: PathBuf, offers: Offers<T>) {
    let mut before = None;
    loop {
        let now = read(T::FILE, &path);
        if before.as_ref() != Some(&now) {
            match now.clone().and_then(|text| parse(&path, &text)) {
                Ok(good) => offers.good(good),
                Err(problem) => offers.bad(problem),
            }
            before = Some(now);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn read(name: &str, path: &Path) -> Result<String, String> {
    let failed = |problem: &dyn std::fmt::Display| {
        format!("the {name} `{}` can't be read: {problem}", path.display())
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

fn parse<T: Content>(path: &Path, text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("the {} `{}` is not valid: {error}", T::FILE, path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Offer;

    async fn changed<T: Clone>(offers: &mut tokio::sync::watch::Receiver<Offer<T>>) -> Offer<T> {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, offers.changed()).await.unwrap().unwrap();
        offers.borrow_and_update().clone()
    }

    #[tokio::test]
    async fn a_bad_file_keeps_the_good_policy_and_says_why() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, r#"{"allow_internet_access": false}"#).unwrap();
        let (offers, mut offered) = Offers::<NetworkPolicy>::new();
        let following = tokio::spawn(follow(path.clone(), offers));
        let first = changed(&mut offered).await;
        assert!(!first.good.as_ref().unwrap().allow_internet_access);
        let long = format!("{{}}{}", " ".repeat(1 << 20));
        for bad in
            [r#"{"allow_out": ["example.com:443"]}"#, r#"{"allow_internet": true}"#, "{", &long]
        {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut offered).await;
            assert_eq!(after.good, first.good, "{bad}");
            assert!(after.problem.unwrap().contains("policy.json"), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = changed(&mut offered).await;
        assert_eq!(gone.good, first.good);
        // Whoever opens a pipe waits for a writer.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = changed(&mut offered).await;
        assert_eq!(pipe.good, first.good);
        assert!(pipe.problem.unwrap().contains("no regular file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        let good = changed(&mut offered).await;
        assert_eq!((good.good.unwrap().allow_internet_access, good.problem), (true, None));
        following.abort();
    }

    #[tokio::test]
    async fn an_operators_file_is_followed_in_the_same_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.json");
        std::fs::write(&path, r#"{"protected": ["10.0.0.0/8"]}"#).unwrap();
        let first: Operator = load(&path).unwrap();
        let (offers, mut offered) = Offers::new();
        let following = tokio::spawn(follow(path.clone(), offers));
        assert_eq!(changed(&mut offered).await.good.as_ref(), Some(&first));
        // A key of the policy's, among others: the two files are not mistaken for each other.
        for bad in [r#"{"allow_out": []}"#, r#"{"protected": ["example.com"]}"#, ""] {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut offered).await;
            assert_eq!(after.good.as_ref(), Some(&first), "{bad}");
            assert!(after.problem.unwrap().starts_with("the operator file `"), "{bad}");
            assert!(load::<Operator>(&path).is_err(), "{bad}");
        }
        following.abort();
    }
}
