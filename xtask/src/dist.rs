//! `cargo xtask dist`: what a release consists of, in target/dist.

mod images;
mod oci;
pub(crate) mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use self::oci::About;
use crate::process::{command, run, say};
use crate::{tree, wasm};

/// All packages have the version of the workspace.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The programs, and their packages.
const PROGRAMS: [(&str, &str); 3] = [
    ("sandgate", "sandgate"),
    ("sandgate-edge-config", "sandgate-envoy-config"),
    ("sandgate-sidecar", "sandgate-sidecar"),
];
/// What is copied from the tree, as git's pathspecs. git lists the files, so that no secret that is beside them is copied.
const COPIED: [&str; 10] = [
    "LICENSE",
    "README.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "deploy",
    "docs",
    "envoy",
    ":!envoy/src",
    ":!envoy/tests",
    ":!envoy/Cargo.toml",
];
const MODULES: [&str; 2] = ["sandgate_ingress", "sandgate_egress"];

/// Builds everything, and writes the folder and the archive of a release. Builds the container images too, if `envoy` names the
/// image of Envoy on which they are based.
///
/// # Errors
/// Something does not build, a file can't be written, or the name of Envoy's image has no digest.
pub(crate) fn make(envoy: Option<&str>) -> Result<()> {
    envoy.map_or(Ok(()), images::check_name)?;
    write_release()?;
    if let Some(envoy) = envoy {
        return images::build(envoy);
    }
    say(
        "the container images are missing: they need `make dist ENVOY_IMAGE=name:tag@sha256:...`, an image of Envoy with its digest",
    );
    Ok(())
}

fn write_release() -> Result<()> {
    build()?;
    let name = format!("sandgate-{VERSION}-{}-linux", std::env::consts::ARCH);
    let dist = tree::root().join("target/dist");
    let folder = dist.join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let put = |from: PathBuf, to: PathBuf| -> Result<()> {
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&from, &to).with_context(|| from.display().to_string()).map(drop)
    };
    for (program, _) in PROGRAMS {
        put(built().join("release").join(program), folder.join("bin").join(program))?;
    }
    for module in MODULES {
        let built = wasm::built(module);
        put(built, folder.join("filters").join(module).with_extension("wasm"))?;
    }
    put(
        built().join("native/libsandgate_native.so"),
        folder.join("filters/libsandgate_native.so"),
    )?;
    for path in tracked()? {
        put(tree::root().join(&path), folder.join(&path))?;
    }
    write_modules(&folder.join("images"))?;
    fs::write(folder.join("sbom.cdx.json"), sbom::make()?)?;
    fs::write(folder.join("SHA256SUMS"), sums(&folder)?)?;
    let archive = dist.join(format!("{name}.tar.gz"));
    write_archive(&folder, &name, &archive)?;
    say(&format!("target/dist/{name}, with its archive"));
    println!("{}  {name}.tar.gz", oci::sha256(&fs::read(&archive)?));
    Ok(())
}

/// Writes the images of the wasm modules as OCI layouts.
///
/// # Errors
/// There is no module, or the folder can't be written.
pub(crate) fn write_modules(folder: &Path) -> Result<()> {
    for module in MODULES {
        let built = wasm::built(module);
        let bytes = fs::read(&built)
            .with_context(|| format!("{}; build it with: make wasm", built.display()))?;
        let layout = folder.join(module);
        if layout.exists() {
            fs::remove_dir_all(&layout)?;
        }
        oci::write(&layout, &bytes, &About { title: module, version: VERSION })?;
    }
    Ok(())
}

/// Where the native module and the programs are built: with other flags than elsewhere, so that neither build discards the other's work.
fn built() -> PathBuf {
    tree::root().join("target/dist-build")
}

/// Builds the filters and the programs. Paths of this machine are replaced, so that another machine gets the same bytes.
fn build() -> Result<()> {
    say("building the filters");
    wasm::build()?;
    run(cargo().args(["--profile", "native", "--package", "sandgate-native"]))?;
    say("building the programs");
    let mut cargo = cargo();
    cargo.arg("--release");
    for (program, package) in PROGRAMS {
        cargo.args(["--package", package, "--bin", program]);
    }
    run(&mut cargo)
}

/// `cargo build` without paths of this machine. Symbols stay, for backtraces.
fn cargo() -> Command {
    let mut flags = vec![format!("--remap-path-prefix={}=/sandgate", tree::root().display())];
    let home = std::env::var("CARGO_HOME").ok();
    if let Some(home) = home.or_else(|| Some(std::env::var("HOME").ok()? + "/.cargo")) {
        flags.push(format!("--remap-path-prefix={home}=/cargo"));
    }
    let mut cargo = command("cargo");
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    cargo.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
    cargo.args(["build", "--locked", "--target-dir"]).arg(built());
    cargo
}

/// The files of [`COPIED`] that git knows.
fn tracked() -> Result<Vec<String>> {
    let mut git = command("git");
    let listed = crate::process::output(git.args(["ls-files", "-z", "--"]).args(COPIED))?;
    Ok(listed.split_terminator('\0').map(str::to_owned).collect())
}

/// The lines of `sha256sum` for all files below a folder, by path.
fn sums(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for path in files(folder)? {
        let digest = oci::sha256(&fs::read(folder.join(&path))?);
        text += &format!("{digest}  {}\n", path.display());
    }
    Ok(text)
}

/// The paths of all files below a folder, relative to it, in order.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push(path.strip_prefix(folder)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The folder as an archive, whose bytes depend on the files only.
fn write_archive(folder: &Path, name: &str, archive: &Path) -> Result<()> {
    let file = fs::File::create(archive).with_context(|| archive.display().to_string())?;
    let encoder = flate2::GzBuilder::new().mtime(0).write(file, flate2::Compression::default());
    let mut builder = tar::Builder::new(encoder);
    for path in files(folder)? {
        let bytes = fs::read(folder.join(&path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(u64::try_from(bytes.len())?);
        header.set_mode(if is_program(&path, &bytes) { 0o755 } else { 0o644 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, Path::new(name).join(&path), bytes.as_slice())?;
    }
    builder.into_inner()?.finish()?;
    Ok(())
}

fn is_program(path: &Path, bytes: &[u8]) -> bool {
    path.starts_with("bin") || bytes.starts_with(b"#!")
}

#[cfg(test)]
mod tests {
    use super::{files, sums, write_archive};

    #[test]
    fn the_archive_and_the_sums_depend_on_the_files_only() {
        let made = || {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(folder.path().join("dist/bin")).unwrap();
            for (name, text) in [("bin/program", "x"), ("a", "y"), ("script", "#!/bin/sh\n")] {
                std::fs::write(folder.path().join("dist").join(name), text).unwrap();
            }
            let archive = folder.path().join("archive");
            write_archive(&folder.path().join("dist"), "name", &archive).unwrap();
            (std::fs::read(archive).unwrap(), sums(&folder.path().join("dist")).unwrap())
        };
        let first = made();
        std::thread::sleep(std::time::Duration::from_millis(1100));
        assert_eq!(made(), first);
        assert!(first.1.lines().map(|line| line.rsplit_once("  ").unwrap().1).is_sorted());
    }

    #[test]
    fn the_archive_has_all_files_with_their_modes() {
        let folder = tempfile::tempdir().unwrap();
        let dist = folder.path().join("dist");
        std::fs::create_dir_all(dist.join("bin")).unwrap();
        for (name, text) in [("bin/program", "x"), ("a", "y"), ("script", "#!/bin/sh\n")] {
            std::fs::write(dist.join(name), text).unwrap();
        }
        let archive = folder.path().join("archive");
        write_archive(&dist, "name", &archive).unwrap();
        let file = std::fs::File::open(archive).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let found: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (entry.path().unwrap().display().to_string(), entry.header().mode().unwrap())
            })
            .collect();
        let expected = [("name/a", 0o644), ("name/bin/program", 0o755), ("name/script", 0o755)];
        assert_eq!(found, expected.map(|(name, mode)| (name.to_owned(), mode)));
        assert_eq!(files(&dist).unwrap().len(), 3);
    }
}
