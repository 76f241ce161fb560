//! Files: the calls of the management API that read and write them, and the attacks on them.

use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use serde_json::json;

use crate::support::Api;

fn at(path: &str) -> String {
    format!("/files?path={path}")
}

#[tokio::test]
async fn a_file_is_written_listed_read_and_deleted() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let content: Vec<u8> = (0..=255).collect();
    // Relative paths start in the working folder, and missing folders are created.
    assert_eq!(api.call("PUT", &at("new/a+b%2Bc"), &content).await?.status, 204);
    let path = format!("{}/new/a b+c", api.directory());
    assert_eq!(std::fs::read(&path)?, content);
    assert_eq!(
        api.call("GET", &at(&path.replace(' ', "%20").replace('+', "%2B")), b"").await?.body,
        content
    );
    let listed = api.json("GET", "/files/list?path=new", b"").await?;
    assert_eq!(listed["path"], "new");
    assert_eq!(listed["entries"][0]["name"], "a b+c");
    assert_eq!(listed["entries"][0]["size"], 256);
    assert_eq!(listed["entries"][0]["is_dir"], false);
    assert!(listed["entries"][0]["modified_at"].is_u64());
    // A shorter content leaves nothing of the longer one.
    assert_eq!(api.call("PUT", &at("new/a+b%2Bc"), b"x").await?.status, 204);
    assert_eq!(std::fs::read(&path)?, b"x");
    assert_eq!(api.call("DELETE", &at("new/a+b%2Bc"), b"").await?.status, 204);
    assert!(!Path::new(&path).exists());
    Ok(())
}

#[tokio::test]
async fn a_path_is_the_same_file_for_calls_and_for_commands() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let outside = tempfile::tempdir()?;
    let file = outside.path().join("a");
    // All of the file system, with the rights of a command: a path with `..` gains nothing.
    for path in [file.display().to_string(), format!("{}/x/../a", outside.path().display())] {
        std::fs::create_dir_all(outside.path().join("x"))?;
        assert_eq!(api.call("PUT", &at(&path), path.as_bytes()).await?.status, 204);
        let cat = json!({ "command": "cat", "args": [path] }).to_string();
        let events = api.events("POST", "/processes/run", cat.as_bytes()).await?;
        assert_eq!(events[1]["line"], path);
    }
    symlink(&file, outside.path().join("link"))?;
    let link = outside.path().join("link").display().to_string();
    assert_eq!(api.call("PUT", &at(&link), b"through the link").await?.status, 204);
    assert_eq!(std::fs::read(&file)?, b"through the link");
    assert_eq!(api.call("DELETE", &at(&link), b"").await?.status, 204);
    assert!(file.exists(), "only the link was deleted");
    Ok(())
}

#[tokio::test]
async fn what_is_no_regular_file_is_refused_without_waiting() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let fifo = format!("{}/fifo", api.directory());
    mkfifo(fifo.as_str(), Mode::S_IRWXU)?;
    symlink("loop", format!("{}/loop", api.directory()))?;
    for path in [fifo.as_str(), "/dev/zero", "/dev/full", ".", "loop"] {
        for (method, body) in [("GET", &b""[..]), ("PUT", b"x")] {
            let refused = api.call(method, &at(path), body).await?;
            assert_eq!(
                (refused.status, &refused.json()?["code"]),
                (400, &json!("FILE_ERROR")),
                "{path}"
            );
        }
    }
    assert_eq!(api.call("DELETE", &at("."), b"").await?.status, 400);
    for (method, path) in [("GET", "none"), ("DELETE", "none"), ("GET", "none/none")] {
        let refused = api.call(method, &at(path), b"").await?;
        assert_eq!((refused.status, &refused.json()?["code"]), (404, &json!("FILE_NOT_FOUND")));
    }
    Ok(())
}

#[tokio::test]
async fn files_over_the_limit_are_neither_read_nor_written() -> anyhow::Result<()> {
    let api = Api::start().await?;
    // It takes no space on the disk.
    let huge = std::fs::File::create(format!("{}/huge", api.directory()))?;
    huge.set_len(1 << 40)?;
    let refused = api.call("GET", &at("huge"), b"").await?;
    assert_eq!((refused.status, &refused.json()?["code"]), (413, &json!("TOO_LARGE")));
    let refused = api.call("PUT", &at("new"), &vec![0; (16 << 20) + 1]).await?;
    assert_eq!((refused.status, &refused.json()?["code"]), (413, &json!("TOO_LARGE")));
    assert!(!Path::new(api.directory()).join("new").exists());
    assert_eq!(api.call("PUT", &at("new"), &vec![0; 16 << 20]).await?.status, 204);
    Ok(())
}

#[tokio::test]
async fn no_browser_shows_a_file_as_a_page() -> anyhow::Result<()> {
    let api = Api::start().await?;
    api.call("PUT", &at("page.html"), b"<script>alert(1)</script>").await?;
    let read = api.call("GET", &at("page.html"), b"").await?;
    assert_eq!(read.header("content-type"), [b"application/octet-stream"]);
    assert_eq!(read.header("x-content-type-options"), [b"nosniff"]);
    Ok(())
}

#[tokio::test]
async fn uploads_that_wait_do_not_use_the_memory_of_others() -> anyhow::Result<()> {
    let api = Api::start().await?;
    let mut waiting = Vec::new();
    for number in 0..4 {
        waiting.push(api.begin_upload(&at(&number.to_string())).await?);
    }
    // They hold all slots, so this one waits until one of them ends.
    let mut fifth = api.open("PUT", &at("fifth"), b"x").await?;
    let mut answer = Box::pin(fifth.head());
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut answer).await;
    assert!(early.is_err(), "{early:?}");
    drop(waiting.pop());
    assert_eq!(answer.await?.status, 204);
    Ok(())
}
