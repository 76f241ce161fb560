//! The start of the edge's image, with a stand-in for Envoy: where the token and the configuration are written.

#![cfg(test)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

const TOKEN: &str = "token-of-this-test";

/// Prints the modes of the folder and the files that Envoy would read, and the files that contain the token.
const ENVOY: &str = r#"#!/bin/sh
folder=$(dirname "$2")
stat -c '%a %n' "$folder" "$folder"/*
grep -rl "$SHOWN" "$folder" | sed 's/^/token in /'
"#;

/// A machine with the program that renders the configuration, and the stand-in.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: TempDir::new().unwrap() };
        fs::create_dir(machine.path("bin")).unwrap();
        fs::create_dir(machine.path("shared")).unwrap();
        let envoy = machine.path("bin/envoy");
        fs::write(&envoy, ENVOY).unwrap();
        fs::set_permissions(&envoy, Permissions::from_mode(0o755)).unwrap();
        let program = machine.path("bin/sandgate-edge-config");
        symlink(env!("CARGO_BIN_EXE_sandgate-edge-config"), program).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The names in a folder.
    fn list(&self, folder: &str) -> Vec<PathBuf> {
        fs::read_dir(self.path(folder)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    /// Runs the entrypoint to its end; the lines of the stand-in.
    fn start(&self) -> Vec<String> {
        let entrypoint = Path::new(env!("CARGO_MANIFEST_DIR")).join("docker-entrypoint.sh");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let done = Command::new("sh")
            .arg(entrypoint)
            .env_clear()
            .env("PATH", path)
            .env("TMPDIR", self.path("shared"))
            .env("SHOWN", TOKEN)
            .env("SANDGATE_DOMAIN", "sandbox.localhost")
            .env("SANDGATE_SANDBOX_NETWORK", "10.64.0.0")
            .env("SANDGATE_SANDBOX_PREFIX_LEN", "16")
            .env("SANDGATE_CONTROL_PLANE_ADDRESS", "127.0.0.1")
            .env("SANDGATE_GATEWAY_TOKEN", TOKEN)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().lines().map(str::to_owned).collect()
    }
}

#[test]
fn the_files_are_in_a_folder_that_only_their_owner_can_open_and_are_removed_at_the_end() {
    let machine = Machine::new();
    let lines = machine.start();
    let folder = format!("700 {}/sandgate", machine.path("shared").display());
    assert!(lines[0].starts_with(&folder), "{lines:?}");
    let (tokens, files): (Vec<_>, Vec<_>) =
        lines[1..].iter().partition(|line| line.starts_with("token in "));
    assert!(!files.is_empty() && files.iter().all(|line| line.starts_with("600 ")), "{lines:?}");
    assert!(tokens.iter().any(|line| line.ends_with("/gateway-token.yaml")), "{lines:?}");
    assert!(machine.list("shared").is_empty(), "{:?}", machine.list("shared"));
}

#[test]
fn a_folder_that_another_user_created_before_is_not_used() {
    let machine = Machine::new();
    fs::create_dir(machine.path("theirs")).unwrap();
    symlink(machine.path("theirs"), machine.path("shared/sandgate")).unwrap();
    let (first, second) = (machine.start(), machine.start());
    assert!(machine.list("theirs").is_empty(), "{:?}", machine.list("theirs"));
    assert_ne!(first[0], second[0], "the name can't be known before");
}
