//! Envoy's files: the bootstrap, the filter, and the filter's configuration, which each policy generation replaces.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandgate_envoy_config::{
    EGRESS_LOG, EgressFilter, Filters, RenderError, SIDECAR_TEMPLATE, Sidecar,
};

use crate::nftables::layout::Ports;
use crate::settings::Bounds;

/// How long Envoy waits for the first bytes of a connection whose name may change the decision: docs/decisions/0005.
pub(crate) const INSPECTION_TIMEOUT: Duration = Duration::from_millis(150);
/// How long Envoy waits for the first bytes of a connection to a denied address, so that it can respond to
/// plain HTTP with the rule: docs/decisions/0016. The sandbox must notice a denial within 200 ms.
pub(crate) const DENIAL_TIMEOUT: Duration = Duration::from_millis(50);

/// The name of the copy of a wasm module.
const WASM_COPY: &str = "sandgate_egress.wasm";

/// The egress filter in one of its forms.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) form: Filters,
    pub(crate) path: PathBuf,
}

/// The folder with Envoy's files.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    /// The filter that Envoy loads.
    filter: Filter,
    bootstrap: Option<PathBuf>,
    ports: Ports,
    bounds: Bounds,
}

/// A file can't be written, or a template can't be rendered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("`{path}` can't be {operation}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        /// The failed operation, as a participle.
        operation: &'static str,
        source: io::Error,
    },
    #[error(
        "a template of Envoy's files can't be rendered, see the head of envoy/sidecar.yaml: {0}"
    )]
    Render(#[from] RenderError),
}

impl Files {
    /// Creates the folder. Copies a wasm module into it, because Envoy's user may not be able to read the original, and the
    /// original may change while Envoy runs. A dynamic module stays where it is, like the program of Envoy, because no code
    /// in the folder may be executed if it is mounted `noexec`, as `/run` often is. `bootstrap` is the path of a template
    /// that replaces the built-in one.
    ///
    /// # Errors
    ///
    /// If the folder can't be created or the filter can't be read.
    pub(crate) fn create(
        folder: &Path,
        filter: &Filter,
        bootstrap: Option<PathBuf>,
        ports: Ports,
        bounds: Bounds,
    ) -> Result<Self, FilesError> {
        std::fs::create_dir_all(folder).map_err(failed(folder, "created"))?;
        set_mode(folder, 0o755)?;
        let mut files =
            Self { folder: folder.to_owned(), filter: filter.clone(), bootstrap, ports, bounds };
        let path = &filter.path;
        let module = std::fs::read(path).map_err(failed(path, "read"))?;
        files.filter.path = match filter.form {
            Filters::Wasm => files.replace(WASM_COPY, &module)?,
            Filters::Native => std::path::absolute(path).map_err(failed(path, "found"))?,
        };
        Ok(files)
    }

    /// Writes the bootstrap, and returns its path.
    ///
    /// # Errors
    ///
    /// If a file can't be written, or the operator's template can't be read or rendered.
    pub(crate) fn write_bootstrap(&self) -> Result<PathBuf, FilesError> {
        let (ports, bounds) = (&self.ports, &self.bounds);
        let [tcp, http] = EgressFilter::FILE_NAMES;
        let values = Sidecar {
            filters: self.filter.form,
            admin_port: ports.admin,
            plain_port: ports.plain,
            inspected_port: ports.inspected,
            probe_port: ports.probe,
            reset_port: ports.reset,
            refused_port: ports.refused,
            resolver_port: ports.envoy_dns,
            inspection: INSPECTION_TIMEOUT,
            refusal: DENIAL_TIMEOUT,
            connections: bounds.connections,
            heap: bounds.heap,
            buffer: bounds.connection_buffer,
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

    /// Writes the filter's configuration, which is JSON on one line. Envoy never reads a partial file.
    ///
    /// # Errors
    ///
    /// If a file can't be written. Envoy then keeps its configuration.
    pub(crate) fn write_generation(&self, json: &str) -> Result<(), FilesError> {
        let Filter { form, path } = self.filter.clone();
        let files = EgressFilter { config: json, filters: form, module: path }.render()?;
        for (name, content) in EgressFilter::FILE_NAMES.into_iter().zip(files) {
            self.replace(name, content.as_bytes())?;
        }
        Ok(())
    }

    /// Removes the files, and the folder if it is then empty.
    pub(crate) fn remove(&self) {
        for name in
            ["sidecar.yaml", "egress-tcp.yaml", "egress-http.yaml", "egress-log.yaml", WASM_COPY]
        {
            drop(std::fs::remove_file(self.folder.join(name)));
        }
        drop(std::fs::remove_dir(&self.folder));
    }

    /// Replaces a file by renaming another one, which is the event that Envoy watches for.
    fn replace(&self, name: &str, content: &[u8]) -> Result<PathBuf, FilesError> {
        let path = self.folder.join(name);
        let partial = self.folder.join(format!(".{name}"));
        std::fs::write(&partial, content).map_err(failed(&partial, "written"))?;
        set_mode(&partial, 0o644)?;
        std::fs::rename(&partial, &path).map_err(failed(&path, "replaced"))?;
        Ok(path)
    }
}

/// Makes a file readable for Envoy's user, independent of the agent's umask. No file contains a secret.
fn set_mode(path: &Path, mode: u32) -> Result<(), FilesError> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(failed(path, "made readable for Envoy"))
}

fn failed(path: &Path, operation: &'static str) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |source| FilesError::Io { path, operation, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(folder: &Path, form: Filters) -> Files {
        let filter = Filter { form, path: folder.join("filter") };
        std::fs::write(&filter.path, b"module").unwrap();
        let (ports, bounds) = (Ports::default(), Bounds::default());
        Files::create(&folder.join("run"), &filter, None, ports, bounds).unwrap()
    }

    #[test]
    fn every_name_in_the_templates_has_a_value() {
        let folder = tempfile::tempdir().unwrap();
        let files = create(folder.path(), Filters::Wasm);
        let bootstrap = std::fs::read_to_string(files.write_bootstrap().unwrap()).unwrap();
        assert!(bootstrap.contains("port_value: 15001"), "{bootstrap}");
        assert!(bootstrap.contains("max_active_downstream_connections: 20000"), "{bootstrap}");
        files.write_generation(r#"{"version":1}"#).unwrap();
        let watched = std::fs::read_to_string(folder.path().join("run/egress-tcp.yaml")).unwrap();
        assert!(watched.contains("            {\"version\":1}\n"), "{watched}");
    }

    #[test]
    fn a_wasm_module_is_copied_and_a_dynamic_module_is_loaded_from_its_place() {
        for (form, place) in
            [(Filters::Wasm, "run/sandgate_egress.wasm"), (Filters::Native, "filter")]
        {
            let folder = tempfile::tempdir().unwrap();
            create(folder.path(), form).write_generation("{}").unwrap();
            let watched =
                std::fs::read_to_string(folder.path().join("run/egress-tcp.yaml")).unwrap();
            let place = folder.path().join(place);
            assert!(watched.contains(&format!("\"{}\"", place.display())), "{watched}");
        }
    }

    #[test]
    fn removal_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let files = create(folder.path(), Filters::Wasm);
        files.write_bootstrap().unwrap();
        files.write_generation("{}").unwrap();
        files.remove();
        assert!(!folder.path().join("run").exists());
    }
}
