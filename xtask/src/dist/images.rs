//! The container images of a release, by the recipes in deploy/images.

use anyhow::{Result, ensure};

use super::VERSION;
use crate::process::{command, output, run, say};

/// The recipes, and the names of their images.
const IMAGES: [(&str, &str); 4] = [
    ("control-plane", "sandgate"),
    ("edge", "sandgate-edge"),
    ("sidecar", "sandgate-sidecar"),
    ("demo", "sandgate-demo"),
];

/// Builds the images with an engine, from the programs that are in target/release.
///
/// # Errors
/// The name of Envoy's image has no digest, or the engine can't build an image.
pub(crate) fn build(envoy: &str) -> Result<()> {
    ensure!(
        envoy.contains("@sha256:"),
        "the Envoy image is `{envoy}`, which has no digest; name it like name:tag@sha256:..."
    );
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
