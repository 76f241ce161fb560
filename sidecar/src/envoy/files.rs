//! Envoy's files: the bootstrap, once; the filter's configuration, for each generation; the filter itself.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_envoy_config::{EGRESS_LOG, EgressFilter, RenderError, SIDECAR_TEMPLATE, Sidecar};

use crate::nftables::layout::Ports;
use crate::settings::Bounds;

/// How long a connection's first words are waited for where names matter: docs/decisions/0005.
pub const INSPECTION: Duration = Duration::from_millis(150);
/// How long Envoy waits for the first bytes of a connection to a denied address, so that it can respond to
/// plain HTTP with the rule: docs/decisions/0016. A refusal may take 200 ms.
pub const REFUSAL: Duration = Duration::from_millis(50);

/// The folder that Envoy reads.
#[derive(Clone, Debug)]
pub struct Files {
    folder: PathBuf,
    bootstrap: Option<PathBuf>,
    ports: Ports,
    bounds: Bounds,
}

/// A file can't be written, or a template can't be filled in.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The system said no.
    #[error("`{path}` can't be {what}: {source}", path = path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A template, which may be the operator's, can't be rendered.
    #[error("the Envoy template can't be rendered, see the head of envoy/sidecar.yaml: {0}")]
    Render(#[from] RenderError),
}

impl Files {
    /// Makes the folder, and puts the filter into it: Envoy's user need not reach its place, and nobody
    /// changes it under a running Envoy. `bootstrap` is a template instead of the built-in one. Of `connections` at a
    /// time, Envoy closes what is more.
    ///
    /// # Errors
    ///
    /// Where the folder can't be made or the filter can't be read.
    pub fn prepare(
        folder: &Path,
        filter: &Path,
        bootstrap: Option<PathBuf>,
        ports: Ports,
        bounds: Bounds,
    ) -> Result<Self, FilesError> {
        std::fs::create_dir_all(folder).map_err(failed(folder, "made"))?;
        readable(folder, 0o755)?;
        let files = Self { folder: folder.to_owned(), bootstrap, ports, bounds };
        let module = std::fs::read(filter).map_err(failed(filter, "read"))?;
        files.replace("sandgate_egress.wasm", &module)?;
        Ok(files)
    }

    /// Writes the bootstrap: its path.
    ///
    /// # Errors
    ///
    /// Where it can't be written, or the operator's template can't be read or filled in.
    pub fn write_bootstrap(&self) -> Result<PathBuf, FilesError> {
        let (ports, bounds) = (&self.ports, &self.bounds);
        let [tcp, http] = EgressFilter::FILE_NAMES;
        let values = Sidecar {
            admin_port: ports.admin,
            plain_port: ports.plain,
            inspected_port: ports.inspected,
            probe_port: ports.probe,
            reset_port: ports.reset,
            refused_port: ports.refused,
            resolver_port: ports.resolver,
            inspection: INSPECTION,
            refusal: REFUSAL,
            connections: bounds.connections,
            heap: bounds.heap,
            buffer: bounds.buffer,
            tcp_ecds: self.folder.join(tcp),
            http_ecds: self.folder.join(http),
            log: self.folder.join("egress-log.yaml"),
        };
        let template = match &self.bootstrap {
            Some(path) => std::fs::read_to_string(path).map_err(failed(path, "read"))?,
            None => SIDECAR_TEMPLATE.to_owned(),
        };
        self.replace("egress-log.yaml", EGRESS_LOG.as_bytes())?;
        self.replace("sidecar.yaml", values.render_template(&template)?.as_bytes())
    }

    /// Writes a generation of the filter's configuration, JSON on one line. Envoy sees each file whole.
    ///
    /// # Errors
    ///
    /// Where it can't be written: Envoy keeps what it has.
    pub fn write_generation(&self, json: &str) -> Result<(), FilesError> {
        let wasm = self.folder.join("sandgate_egress.wasm");
        let files = EgressFilter { config: json, wasm }.render()?;
        for (name, content) in EgressFilter::FILE_NAMES.into_iter().zip(files) {
            self.replace(name, content.as_bytes())?;
        }
        Ok(())
    }

    /// Takes the folder's files away, and the folder, if nothing else is in it.
    pub fn remove(&self) {
        for name in [
            "sidecar.yaml",
            "egress-tcp.yaml",
            "egress-http.yaml",
            "egress-log.yaml",
            "sandgate_egress.wasm",
        ] {
            drop(std::fs::remove_file(self.folder.join(name)));
        }
        drop(std::fs::remove_dir(&self.folder));
    }

    /// Puts a file in its place by renaming: Envoy watches for just that.
    fn replace(&self, name: &str, content: &[u8]) -> Result<PathBuf, FilesError> {
        let path = self.folder.join(name);
        let partial = self.folder.join(format!(".{name}"));
        std::fs::write(&partial, content).map_err(failed(&partial, "written"))?;
        readable(&partial, 0o644)?;
        std::fs::rename(&partial, &path).map_err(failed(&path, "replaced"))?;
        Ok(path)
    }
}

/// For Envoy's user, whatever the agent's umask is. Nothing in there is secret.
fn readable(path: &Path, mode: u32) -> Result<(), FilesError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(failed(path, "opened to Envoy"))
}

fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { path, what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(folder: &Path) -> Files {
        let filter = folder.join("filter");
        std::fs::write(&filter, b"module").unwrap();
        let (ports, bounds) = (Ports::default(), Bounds::default());
        Files::prepare(&folder.join("run"), &filter, None, ports, bounds).unwrap()
    }

    #[test]
    fn every_name_that_the_templates_ask_for_has_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let files = prepared(folder.path());
        let bootstrap = std::fs::read_to_string(files.write_bootstrap().unwrap()).unwrap();
        assert!(bootstrap.contains("port_value: 15001"), "{bootstrap}");
        assert!(bootstrap.contains("max_active_downstream_connections: 20000"), "{bootstrap}");
        files.write_generation(r#"{"version":1}"#).unwrap();
        let discovered =
            std::fs::read_to_string(folder.path().join("run/egress-tcp.yaml")).unwrap();
        assert!(discovered.contains("            {\"version\":1}\n"), "{discovered}");
    }

    #[test]
    fn nothing_is_left_after_removal() {
        let folder = tempfile::tempdir().unwrap();
        let files = prepared(folder.path());
        files.write_bootstrap().unwrap();
        files.write_generation("{}").unwrap();
        files.remove();
        assert!(!folder.path().join("run").exists());
    }
}
