//! Reads and writes files with the rights of the demo's user, in the whole file system.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Bytes;
use hyper::header::{HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use nix::fcntl::OFlag;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::refusal::Refusal;
use crate::server::answer::{AnyBody, respond};

/// The largest file that is read or written.
pub(super) const LARGEST: usize = 16 << 20;
/// The most entries of a folder that are listed.
const MOST_ENTRIES: usize = 10_000;
/// The most files in memory at the same time.
const CONCURRENT: usize = 4;
/// How long a call waits for others to end.
const SLOT_WAIT: Duration = Duration::from_secs(30);

/// The file system, as commands see it.
#[derive(Clone, Debug)]
pub(super) struct Files {
    directory: PathBuf,
    slots: Arc<Semaphore>,
}

impl Files {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self { directory, slots: Arc::new(Semaphore::new(CONCURRENT)) }
    }

    /// Waits until a file may be in memory. It may until the result is dropped.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let slot = timeout(SLOT_WAIT, self.slots.clone().acquire_owned()).await;
        // The semaphore is never closed.
        slot.ok().and_then(Result::ok).ok_or_else(|| {
            Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "TOO_MANY_FILES",
                format!("{CONCURRENT} files are read or written already; try again"),
            )
        })
    }

    pub(super) async fn read(&self, path: String) -> Result<Vec<u8>, Refusal> {
        let _slot = self.slot().await?;
        self.with(path, |path| {
            let mut file = regular(OpenOptions::new().read(true), path)?;
            let mut bytes = Vec::new();
            // The size of the file is not trusted: that of many files in /proc is 0.
            (&mut file).take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
            if bytes.len() > LARGEST { Err(Problem::TooLarge) } else { Ok(bytes) }
        })
        .await
    }

    /// Writes a whole file. Missing folders are created. The caller has a slot.
    pub(super) async fn write(&self, path: String, bytes: Bytes) -> Result<(), Refusal> {
        self.with(path, move |path| {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = regular(OpenOptions::new().write(true).create(true), path)?;
            file.set_len(0)?;
            Ok(file.write_all(&bytes)?)
        })
        .await
    }

    /// Deletes a file. Of a symbolic link, only the link is deleted.
    pub(super) async fn delete(&self, path: String) -> Result<(), Refusal> {
        self.with(path, |path| {
            if fs::symlink_metadata(path)?.is_dir() {
                return Err(Problem::IsFolder);
            }
            Ok(fs::remove_file(path)?)
        })
        .await
    }

    pub(super) async fn list(&self, path: String) -> Result<Value, Refusal> {
        let shown = path.clone();
        let entries = self
            .with(path, |path| {
                let mut entries = Vec::new();
                for entry in fs::read_dir(path)?.take(MOST_ENTRIES) {
                    let entry = entry?;
                    let name = entry.file_name().to_string_lossy().into_owned();
                    // What a link leads to is listed, unless it leads nowhere.
                    let meta = fs::metadata(entry.path()).or_else(|_| entry.metadata());
                    entries.push((name, meta.ok()));
                }
                entries.sort_by(|(a, _), (b, _)| a.cmp(b));
                Ok(entries)
            })
            .await?;
        let entries: Vec<_> = entries.iter().map(|(name, meta)| entry(name, meta)).collect();
        Ok(json!({ "path": shown, "entries": entries }))
    }

    /// Calls `work` with the absolute path on a thread that may block.
    async fn with<T: Send + 'static>(
        &self,
        path: String,
        work: impl FnOnce(&Path) -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Refusal> {
        let absolute = self.directory.join(&path);
        let done = tokio::task::spawn_blocking(move || work(&absolute));
        let done = done.await.unwrap_or_else(|error| Err(io::Error::other(error).into()));
        done.map_err(|problem| problem.refusal(&path))
    }
}

/// Opens a regular file. Opening a pipe without `O_NONBLOCK` would wait for its other end.
fn regular(options: &mut OpenOptions, path: &Path) -> Result<File, Problem> {
    let file = options.custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    let meta = file.metadata()?;
    match (meta.is_file(), meta.is_dir()) {
        (true, _) => Ok(file),
        (_, true) => Err(Problem::IsFolder),
        _ => Err(Problem::NotRegular),
    }
}

fn entry(name: &str, meta: &Option<Metadata>) -> Value {
    let modified = meta.as_ref().and_then(|meta| meta.modified().ok());
    json!({
        "name": name,
        "is_dir": meta.as_ref().is_some_and(Metadata::is_dir),
        "size": meta.as_ref().map(Metadata::len),
        "modified_at": modified.map(super::millis_since_1970),
    })
}

/// The response with a file. No browser may show it as a page, whatever it contains.
pub(super) fn response(bytes: Vec<u8>) -> Response<AnyBody> {
    let mut response = respond(StatusCode::OK, "application/octet-stream", bytes);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Why a file can't be used.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("it is a folder")]
    IsFolder,
    #[error("it is not a regular file")]
    NotRegular,
    #[error("it has more than {} MiB, which is the most that this call takes", LARGEST >> 20)]
    TooLarge,
}

impl Problem {
    fn refusal(&self, path: &str) -> Refusal {
        let (status, code) = match self {
            Self::System(error) => match error.kind() {
                io::ErrorKind::NotFound => (StatusCode::NOT_FOUND, "FILE_NOT_FOUND"),
                io::ErrorKind::PermissionDenied => (StatusCode::FORBIDDEN, "FILE_FORBIDDEN"),
                _ => (StatusCode::BAD_REQUEST, "FILE_ERROR"),
            },
            Self::IsFolder | Self::NotRegular => (StatusCode::BAD_REQUEST, "FILE_ERROR"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "TOO_LARGE"),
        };
        Refusal::new(status, code, format!("`{path}`: {self}"))
    }
}
