//! Files that appear whole or not at all.

use std::fs::{File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// Writes a file that only its owner can read, and replaces an earlier one by a rename.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    write(path, text).with_context(|| format!("`{}` can't be written", path.display()))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let partial = path.with_file_name(name);
    match std::fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
    file.write_all(text.as_bytes())?;
    std::fs::rename(partial, path)
}

/// Creates a folder that only its owner can open, unless it exists.
pub fn create_private_folder(path: &Path) -> Result<()> {
    let create = || {
        std::fs::create_dir_all(path)?;
        std::fs::set_permissions(path, Permissions::from_mode(0o700))
    };
    create().with_context(|| format!("the folder `{}` can't be created", path.display()))
}
