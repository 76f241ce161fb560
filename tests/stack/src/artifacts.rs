//! What must be built before these tests, and what to say when it is not.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, bail, ensure};

/// The repository's root.
#[must_use]
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        here.ancestors().nth(2).unwrap_or(here).to_owned()
    })
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// A program of this workspace, built before.
pub fn program(name: &str) -> Result<PathBuf> {
    let path = target().join("debug").join(name);
    ensure!(path.is_file(), "`{}` is missing; build it with: cargo build", path.display());
    Ok(path)
}

/// The ingress filter, built before.
pub fn filter() -> Result<PathBuf> {
    wasm("sandgate_ingress.wasm")
}

/// The egress filter, built before.
pub fn egress_filter() -> Result<PathBuf> {
    wasm("sandgate_egress.wasm")
}

fn wasm(name: &str) -> Result<PathBuf> {
    let path = root().join("target/filters").join(name);
    ensure!(path.is_file(), "`{}` is missing; build it with: scripts/wasm", path.display());
    Ok(path)
}

/// How Envoy is run: `SANDGATE_E2E_ENVOY=container|process` decides, else whether an engine answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnvoyProgram {
    /// An image with an `envoy` on its path.
    Image {
        /// Without the tag.
        name: String,
        /// The tag.
        tag: String,
    },
    /// A program on this machine.
    Path(PathBuf),
}

/// The Envoy of this test run, looked for once.
pub fn envoy() -> Result<EnvoyProgram> {
    static FOUND: OnceLock<Result<EnvoyProgram, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| find_envoy().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(anyhow::Error::msg)
}

fn find_envoy() -> Result<EnvoyProgram> {
    let wish = std::env::var("SANDGATE_E2E_ENVOY").ok();
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    match wish.as_deref() {
        Some("container") => image(),
        // CI must not fall back: what users run is the container.
        Some("process") if in_ci => {
            bail!("CI runs Envoy in a container; unset SANDGATE_E2E_ENVOY, or CI")
        }
        Some("process") => path(),
        Some(other) => bail!("SANDGATE_E2E_ENVOY is `{other}`; it may be `container` or `process`"),
        None if in_ci || engine_answers() => image(),
        None => path(),
    }
}

fn engine_answers() -> bool {
    Command::new("docker").arg("version").output().is_ok_and(|output| output.status.success())
}

fn image() -> Result<EnvoyProgram> {
    let reference = match std::env::var("SANDGATE_ENVOY_IMAGE") {
        Ok(image) if !image.is_empty() => image,
        _ => ask_script(&["--image"])?,
    };
    let (name, tag) = reference
        .rsplit_once(':')
        .with_context(|| format!("`{reference}` is an image without a tag"))?;
    Ok(EnvoyProgram::Image { name: name.to_owned(), tag: tag.to_owned() })
}

fn path() -> Result<EnvoyProgram> {
    Ok(EnvoyProgram::Path(envoy_program()?))
}

/// An Envoy on this machine, however the tests run theirs: `SANDGATE_ENVOY`, which `make test` sets, or the one that
/// `scripts/envoy` finds.
pub fn envoy_program() -> Result<PathBuf> {
    match std::env::var_os("SANDGATE_ENVOY") {
        Some(program) => Ok(program.into()),
        None => Ok(ask_script(&[])?.into()),
    }
}

/// One place knows where Envoy comes from: `scripts/envoy`.
fn ask_script(arguments: &[&str]) -> Result<String> {
    let script = root().join("scripts/envoy");
    let output = Command::new(&script)
        .args(arguments)
        .output()
        .with_context(|| format!("`{}` can't be run", script.display()))?;
    ensure!(
        output.status.success(),
        "`scripts/envoy {}` found no Envoy: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
