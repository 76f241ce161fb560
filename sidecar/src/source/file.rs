//! Reads the policy or the operator's settings from a JSON file, and reads the file again when it changes.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_policy::egress::{NetworkPolicy, OperatorSettings};
use serde::de::DeserializeOwned;

use super::SourceSender;

/// The interval at which the file is read. Reading it finds every kind of change: the file was written in place,
/// replaced by a rename, or is a link whose target has changed (as in Kubernetes volumes).
const INTERVAL: Duration = Duration::from_millis(200);
/// The maximum size of a file. A policy of 1,000 entries with the longest names is smaller.
const MAX_BYTES: u64 = 1 << 20;

/// The content of a file.
pub(crate) trait Content: Default + DeserializeOwned + PartialEq {
    /// The name of the file in messages.
    const FILE_NAME: &'static str;
}

impl Content for NetworkPolicy {
    const FILE_NAME: &'static str = "policy file";
}

impl Content for OperatorSettings {
    const FILE_NAME: &'static str = "operator file";
}

/// Reads and parses a file.
///
/// # Errors
///
/// One sentence that states why the file can't be read or is not valid.
pub(crate) fn load<T: Content>(path: &Path) -> Result<T, String> {
    read(T::FILE_NAME, path).and_then(|text| parse(path, &text))
}

/// Follows a file. Never returns.
pub(crate) async fn follow<T: Content>(path: PathBuf, sender: SourceSender<T>) {
    let mut previous = None;
    loop {
        let current = read(T::FILE_NAME, &path);
        if previous.as_ref() != Some(&current) {
            match current.clone().and_then(|text| parse(&path, &text)) {
                Ok(value) => sender.publish(value),
                Err(problem) => sender.publish_problem(problem),
            }
            previous = Some(current);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn read(name: &str, path: &Path) -> Result<String, String> {
    let failed = |problem: &dyn std::fmt::Display| {
        format!("the {name} `{}` can't be read: {problem}", path.display())
    };
    // Without O_NONBLOCK, opening a pipe would block the agent until another process opens it for writing.
    let non_blocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(non_blocking).open(path);
    let file = file.map_err(|error| failed(&error))?;
    if !file.metadata().map_err(|error| failed(&error))?.is_file() {
        return Err(failed(&"it is not a regular file"));
    }
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(&error))?;
    if text.len() as u64 > MAX_BYTES {
        return Err(failed(&"it is larger than 1 MiB"));
    }
    Ok(text)
}

fn parse<T: Content>(path: &Path, text: &str) -> Result<T, String> {
    serde_json::from_str(text)
        .map_err(|error| format!("the {} `{}` is not valid: {error}", T::FILE_NAME, path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceState;

    async fn changed<T: Clone>(
        updates: &mut tokio::sync::watch::Receiver<SourceState<T>>,
    ) -> SourceState<T> {
        let limit = Duration::from_secs(20);
        tokio::time::timeout(limit, updates.changed()).await.unwrap().unwrap();
        updates.borrow_and_update().clone()
    }

    #[tokio::test]
    async fn an_invalid_file_keeps_the_policy_and_reports_the_problem() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("policy.json");
        std::fs::write(&path, r#"{"allow_internet_access": false}"#).unwrap();
        let (sender, mut updates) = SourceSender::<NetworkPolicy>::new();
        let following = tokio::spawn(follow(path.clone(), sender));
        let first = changed(&mut updates).await;
        assert!(!first.valid.as_ref().unwrap().allow_internet_access);
        let long = format!("{{}}{}", " ".repeat(1 << 20));
        for bad in
            [r#"{"allow_out": ["example.com:0"]}"#, r#"{"allow_internet": true}"#, "{", &long]
        {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut updates).await;
            assert_eq!(after.valid, first.valid, "{bad}");
            assert!(after.problem.unwrap().contains("policy.json"), "{bad}");
        }
        std::fs::remove_file(&path).unwrap();
        let gone = changed(&mut updates).await;
        assert_eq!(gone.valid, first.valid);
        // Opening a pipe would block until a writer opens it.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let pipe = changed(&mut updates).await;
        assert_eq!(pipe.valid, first.valid);
        assert!(pipe.problem.unwrap().contains("not a regular file"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "{}").unwrap();
        let good = changed(&mut updates).await;
        assert_eq!((good.valid.unwrap().allow_internet_access, good.problem), (true, None));
        following.abort();
    }

    #[tokio::test]
    async fn the_operators_file_is_followed_like_the_policy_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("operator.json");
        std::fs::write(&path, r#"{"protected": ["10.0.0.0/8"]}"#).unwrap();
        let first: OperatorSettings = load(&path).unwrap();
        let (sender, mut updates) = SourceSender::new();
        let following = tokio::spawn(follow(path.clone(), sender));
        assert_eq!(changed(&mut updates).await.valid.as_ref(), Some(&first));
        // The first one is a key of the policy, so that one file is not mistaken for the other.
        for bad in [r#"{"allow_out": []}"#, r#"{"protected": ["example.com"]}"#, ""] {
            std::fs::write(&path, bad).unwrap();
            let after = changed(&mut updates).await;
            assert_eq!(after.valid.as_ref(), Some(&first), "{bad}");
            assert!(after.problem.unwrap().starts_with("the operator file `"), "{bad}");
            assert!(load::<OperatorSettings>(&path).is_err(), "{bad}");
        }
        following.abort();
    }
}
