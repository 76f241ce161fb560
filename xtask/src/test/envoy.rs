//! How the end-to-end tests run Envoy: in a container, as users do, or as a process where no container engine answers.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::process::{command, output};

/// The way to run Envoy, and where it is.
pub(super) struct Envoy {
    /// `container` or `process`.
    pub(super) way: &'static str,
    /// The program on this machine.
    program: String,
    image: Option<String>,
    /// What the summary says about it.
    pub(super) not_run: Option<String>,
}

impl Envoy {
    /// Looks for Envoy, and gets it if necessary. `SANDGATE_E2E_ENVOY` and `CI` decide how it runs.
    ///
    /// # Errors
    /// The variables contradict each other, or Envoy can't be run in that way.
    pub(super) fn find() -> Result<Self> {
        let wish = std::env::var("SANDGATE_E2E_ENVOY").ok().filter(|wish| !wish.is_empty());
        let in_ci = crate::process::is_ci();
        let program = output(&mut command("scripts/envoy"))
            .context("there is no Envoy for the end-to-end tests (the reason is above)")?
            .trim()
            .to_owned();
        let why = match wish.as_deref() {
            Some("process") if in_ci => {
                bail!(
                    "CI=true runs Envoy in a container, and SANDGATE_E2E_ENVOY asks for a process"
                )
            }
            Some("process") => "asked for by SANDGATE_E2E_ENVOY",
            Some("container") => return Self::container(program),
            Some(other) => {
                bail!("SANDGATE_E2E_ENVOY is `{other}`; it takes container or process")
            }
            None if in_ci => return Self::container(program),
            None if engine_answers() => match Self::container(program.clone()) {
                Ok(envoy) => return Ok(envoy),
                Err(_) => "no image could be made; the reason is above",
            },
            None => "no container engine answers",
        };
        let not_run = format!("Envoy in a container ({why}): it ran as a process");
        Ok(Self { way: "process", program, image: None, not_run: Some(not_run) })
    }

    fn container(program: String) -> Result<Self> {
        let image = output(command("scripts/envoy").arg("--image"))
            .context("Envoy has to run in a container, and can't (the reason is above)")?;
        let image = Some(image.trim().to_owned());
        Ok(Self { way: "container", program, image, not_run: None })
    }

    /// Sets what the tests look for in their environment.
    pub(super) fn set(&self, command: &mut Command) {
        command.env("SANDGATE_E2E_ENVOY", self.way).env("SANDGATE_ENVOY", &self.program);
        if let Some(image) = &self.image {
            command.env("SANDGATE_ENVOY_IMAGE", image);
        }
    }
}

fn engine_answers() -> bool {
    let mut docker = command("docker");
    let done = docker.arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    done.is_ok_and(|status| status.success())
}
