//! A store on a full disk: removing access works, everything that makes the store grow is refused, and once
//! the disk has space again, everything works as before.
//!
//! The disk is a small file system in memory. The test mounts it in its own mount namespace, which needs
//! root, or a system on which users may create namespaces.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::command_line::{Installation, Served};

/// A file system of a few MiB.
struct SmallDisk {
    holder: Child,
    path: PathBuf,
}

impl SmallDisk {
    fn mounted_at(path: &Path, mib: u32) -> Self {
        fs::create_dir(path).unwrap();
        // The mount exists as long as the shell, which ends when its input ends.
        let script = "mount -t tmpfs -o size=$1m none \"$0\" && echo mounted && read -r _";
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", script])
            .arg(path)
            .arg(mib.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test needs `unshare`");
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n", "this test needs root, or namespaces for users");
        Self { holder, path: path.to_owned() }
    }

    /// The path of the disk for processes outside the mount namespace.
    fn seen_from_outside(&self) -> PathBuf {
        format!("/proc/{}/root{}", self.holder.id(), self.path.display()).into()
    }

    fn fill(&self) {
        let mut file = File::create(self.seen_from_outside().join("fill")).unwrap();
        while file.write_all(&[7; 4_096]).is_ok() {}
        while file.write_all(&[7]).is_ok() {}
    }

    fn empty(&self) {
        fs::remove_file(self.seen_from_outside().join("fill")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// Creates an installation on a disk of this size, with a project and two keys.
fn installation(mib: u32) -> (Installation, SmallDisk, String, [Value; 2]) {
    let mut installation = Installation::new();
    let disk = SmallDisk::mounted_at(&installation.path("disk"), mib);
    installation.data = disk.path.join("data");
    installation.inside = Some(disk.holder.id());
    let (project, key) = installation.create_project();
    let other = installation.manage(&["keys", "create", "--project", &project]);
    (installation, disk, project, [key, other])
}

#[test]
fn on_a_full_disk_keys_can_be_revoked_and_growth_is_refused() {
    let (installation, disk, project, keys) = installation(4);
    disk.fill();
    let id = |key: &Value| key["id"].as_str().unwrap().to_owned();
    for key in &keys {
        let revoked = installation.manage(&["keys", "revoke", &id(key)]);
        assert!(revoked["revoked_at"].is_number(), "{revoked}");
    }
    let listed = installation.manage(&["keys", "list"]);
    let listed = listed["keys"].as_array().unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|key| key["revoked_at"].is_number()));
    let create = ["keys", "create", "--project", &project];
    let stderr = installation.manage_error(&create);
    assert!(stderr.contains("the disk of the store is full"), "{stderr}");
    disk.empty();
    installation.manage(&create);
    let reserve = disk.seen_from_outside().join("data/sandgate.db-reserve");
    assert!(reserve.exists(), "the reserve was not made again");
}

#[tokio::test]
async fn a_server_on_a_full_disk_closes_ports_deletes_sandboxes_and_applies_revocations() {
    let (installation, disk, _, [key, other]) = installation(4);
    let secret = |key: &Value| key["secret"].as_str().unwrap().to_owned();
    let (mine, other_secret) = (secret(&key), secret(&other));
    let served = Served::start(installation.serve_command());
    let body = json!({ "name": "my-env", "exposed_ports": [3000, 8080] });
    assert_eq!(served.call(&mine, "POST", "/sandboxes", body).await.0, 200);
    disk.fill();
    let patch = async |body: Value| served.call(&mine, "PATCH", "/sandboxes/my-env", body).await;
    let (status, refused) = patch(json!({ "exposed_ports": [3000, 8080, 9000] })).await;
    assert_eq!((status, &refused["code"]), (503, &json!("STORE_FULL")), "{refused}");
    let (status, closed) = patch(json!({ "exposed_ports": [8080] })).await;
    assert_eq!((status, &closed["exposed_ports"]), (200, &json!([8080])), "{closed}");
    let revoked = installation.manage(&["keys", "revoke", other["id"].as_str().unwrap()]);
    assert!(revoked["revoked_at"].is_number());
    let (status, _) = served.call(&other_secret, "GET", "/sandboxes/my-env", Value::Null).await;
    assert_eq!(status, 401);
    let (status, gone) = served.call(&mine, "DELETE", "/sandboxes/my-env", Value::Null).await;
    assert_eq!(status, 200, "{gone}");
    disk.empty();
    // After a failure, the store tries only once a second to make the reserve again.
    let mut status = 503;
    for _ in 0..100 {
        status = served.call(&mine, "POST", "/sandboxes", json!({})).await.0;
        if status != 503 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(status, 200);
}

#[tokio::test]
async fn writes_of_owners_and_requests_on_a_full_disk_leave_space_for_revocations() {
    const SANDBOXES: u32 = 30;
    let (installation, disk, _, [key, other]) = installation(12);
    let mine = key["secret"].as_str().unwrap();
    let served = Served::start(installation.serve_command());
    let call = async |method: &str, path: String| served.call(mine, method, &path, json!({})).await;
    for n in 0..SANDBOXES {
        let body = json!({ "name": format!("env-{n}"), "exposed_ports": [3000] });
        assert_eq!(served.call(mine, "POST", "/sandboxes", body).await.0, 200);
    }
    disk.fill();
    let log = disk.seen_from_outside().join("data/sandgate.db-wal");
    let written = fs::metadata(log).unwrap().len();
    assert!(written < 3_000_000, "{written} bytes: the log would restart on its own");
    for n in 0..SANDBOXES {
        let (status, answer) = call("POST", format!("/sandboxes/env-{n}/suspend")).await;
        assert_eq!(status, 200, "{n}: {answer}");
        let (status, answer) = call("POST", format!("/sandboxes/env-{n}/resume")).await;
        assert_eq!(status, 503, "{n}: {answer}");
    }
    for n in 0..SANDBOXES {
        let (status, answer) = call("DELETE", format!("/sandboxes/env-{n}")).await;
        assert_eq!(status, 200, "{n}: {answer}");
    }
    let revoked = installation.manage(&["keys", "revoke", other["id"].as_str().unwrap()]);
    assert!(revoked["revoked_at"].is_number(), "{revoked}");
}

#[tokio::test]
async fn a_store_that_filled_the_disk_itself_leaves_space_for_revocations() {
    let (installation, _disk, _, [key, other]) = installation(4);
    let mine = key["secret"].as_str().unwrap();
    let mut command = installation.serve_command();
    command.args(["--egress", "enforced"]);
    let served = Served::start(command);
    let long = "x".repeat(50);
    let policy: Vec<_> = (0..1_000).map(|n| format!("{n}.{long}.example")).collect();
    let mut names = Vec::new();
    loop {
        let name = format!("env-{}", names.len());
        let body = json!({ "name": name, "exposed_ports": [3000] });
        let (mut status, mut answer) = served.call(mine, "POST", "/sandboxes", body).await;
        if status == 200 {
            let body = json!({ "network": { "allow_out": policy } });
            let path = format!("/sandboxes/{name}");
            (status, answer) = served.call(mine, "PATCH", &path, body).await;
            names.push(name);
        }
        if status != 200 {
            assert_eq!((status, &answer["code"]), (503, &json!("STORE_FULL")), "{answer}");
            break;
        }
    }
    assert!(names.len() > 10, "{names:?}");
    for name in &names {
        let path = format!("/sandboxes/{name}/suspend");
        let (status, answer) = served.call(mine, "POST", &path, Value::Null).await;
        assert_eq!(status, 200, "{name}: {answer}");
    }
    let revoked = installation.manage(&["keys", "revoke", other["id"].as_str().unwrap()]);
    assert!(revoked["revoked_at"].is_number(), "{revoked}");
}
