//! The programs and filters that must be built before a stack starts.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use sandgate_envoy_config::Filters;

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

/// The path of a program of this workspace. Fails if it is not built.
pub fn program(name: &str) -> Result<PathBuf> {
    // Measurements are made with release builds of everything.
    let (profile, option) =
        if cfg!(debug_assertions) { ("debug", "") } else { ("release", " --release") };
    let path = target().join(profile).join(name);
    ensure!(path.is_file(), "`{}` is missing; build it with: cargo build{option}", path.display());
    Ok(path)
}

/// The form of the filters that `SANDGATE_FILTERS` names. Fails if its ingress filter is not built.
pub fn filters() -> Result<Filters> {
    let wish = std::env::var("SANDGATE_FILTERS").unwrap_or_default();
    let filters = match wish.as_str() {
        "" => Filters::default(),
        _ => wish.parse().map_err(|why| anyhow!("SANDGATE_FILTERS is `{wish}`; {why}"))?,
    };
    let (path, build) = match filters {
        Filters::Wasm => (wasm_filter(), "scripts/wasm"),
        Filters::Native => (native_module(), "cargo xtask native"),
    };
    ensure!(path.is_file(), "`{}` is missing; build it with: {build}", path.display());
    Ok(filters)
}

/// The path of the ingress filter as a wasm module.
#[must_use]
pub fn wasm_filter() -> PathBuf {
    root().join("target/filters/sandgate_ingress.wasm")
}

/// The path of the dynamic module.
#[must_use]
pub fn native_module() -> PathBuf {
    root().join("target/filters/libsandgate_native.so")
}

/// The path of the egress filter in a form. Fails if it is not built.
pub fn egress_filter(form: Filters) -> Result<PathBuf> {
    let (path, build) = match form {
        Filters::Wasm => (root().join("target/filters/sandgate_egress.wasm"), "scripts/wasm"),
        Filters::Native => (native_module(), "cargo xtask native"),
    };
    ensure!(path.is_file(), "`{}` is missing; build it with: {build}", path.display());
    Ok(path)
}

/// How the end-to-end tests run Envoy. `SANDGATE_E2E_ENVOY=container|process` chooses; without it, Envoy runs in a
/// container if a container engine responds.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum EnvoyProgram {
    /// An image with an `envoy` on its path.
    Image {
        /// The name without the tag.
        name: String,
        tag: String,
    },
    /// A program on this machine.
    Path(PathBuf),
}

/// The Envoy of the end-to-end tests. It is determined once for each process.
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
        // Users run the container, so CI must test it.
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

/// The Envoy program on this machine, even if the tests run Envoy in a container: `SANDGATE_ENVOY`, which `make test`
/// sets, or the one that `scripts/envoy` finds.
pub fn envoy_program() -> Result<PathBuf> {
    match std::env::var_os("SANDGATE_ENVOY") {
        Some(program) => Ok(program.into()),
        None => Ok(ask_script(&[])?.into()),
    }
}

/// Runs `scripts/envoy`, which fetches Envoy if necessary, and returns its output.
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
