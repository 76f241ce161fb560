//! The container images of a release, by the recipes in deploy/images.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Result, ensure};

use super::VERSION;
use crate::process::{command, output, run, say};
use crate::{native, tree, wasm};

/// The recipes, and the names of their images.
const IMAGES: [(&str, &str); 4] = [
    ("control-plane", "sandgate"),
    ("edge", "sandgate-edge"),
    ("sidecar", "sandgate-sidecar"),
    ("demo", "sandgate-demo"),
];

/// Checks the name of Envoy's image.
///
/// # Errors
/// It has no digest.
pub(super) fn check_name(envoy: &str) -> Result<()> {
    ensure!(
        envoy.contains("@sha256:"),
        "the Envoy image is `{envoy}`, which has no digest; name it like name:tag@sha256:..."
    );
    Ok(())
}

/// Builds the images with an engine, from the programs and the module that [`super::make`] has built.
///
/// # Errors
/// The engine can't build an image.
pub(super) fn build(envoy: &str) -> Result<()> {
    // Only the image of the demo has this program.
    run(super::cargo().args([
        "--release",
        "--package",
        "sandgate-demo",
        "--bin",
        "sandgate-demo",
    ]))?;
    // The recipes copy them from where the other targets of the Makefile put theirs.
    let mut programs: Vec<_> = super::PROGRAMS.iter().map(|(program, _)| *program).collect();
    programs.push("sandgate-demo");
    for program in programs {
        let built = std::fs::read(super::built().join("release").join(program))?;
        let place = tree::root().join("target/release").join(program);
        wasm::put(&built, &place)?;
        std::fs::set_permissions(&place, Permissions::from_mode(0o755))?;
    }
    let module = std::fs::read(super::built().join("native/libsandgate_native.so"))?;
    wasm::put(&module, &native::built())?;
    let revision = output(command("git").args(["rev-parse", "HEAD"]))?;
    for (recipe, name) in IMAGES {
        say(&format!("building the image {name}:{VERSION}"));
        let mut docker = command("docker");
        docker.args(["build", "--tag", &format!("{name}:{VERSION}")]);
        docker.args(["--file", &format!("deploy/images/{recipe}.Dockerfile")]);
        for argument in [
            format!("ENVOY_IMAGE={envoy}"),
            format!("VERSION={VERSION}"),
            format!("REVISION={}", revision.trim()),
        ] {
            docker.args(["--build-arg", &argument]);
        }
        run(docker.arg("."))?;
    }
    Ok(())
}
