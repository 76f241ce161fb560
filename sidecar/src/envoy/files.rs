//! Envoy's files: the bootstrap, once; the filter's configuration, for each generation; the filter itself.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::nftables::layout::Ports;
use crate::settings::Bounds;

/// The bootstrap, as operators read it.
const BOOTSTRAP: &str = include_str!("../../../envoy/sidecar.yaml");
/// How much its access logs say.
const LOG: &str = include_str!("../../../envoy/egress-log.yaml");
/// What Envoy re-reads: for connections, and for plain HTTP.
const DISCOVERED: [(&str, &str); 2] = [
    ("egress-tcp.yaml", include_str!("../../../envoy/egress-tcp.yaml")),
    ("egress-http.yaml", include_str!("../../../envoy/egress-http.yaml")),
];

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
    /// A template of the operator's that asks for what nobody sets.
    #[error(
        "the Envoy template asks for `{0}`, which the agent does not set; see the head of envoy/sidecar.yaml"
    )]
    UnknownName(String),
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
        let path = |name: &str| self.folder.join(name).display().to_string();
        let values = BTreeMap::from([
            ("SANDGATE_SIDECAR_ADMIN_PORT", ports.admin.to_string()),
            ("SANDGATE_SIDECAR_PLAIN_PORT", ports.plain.to_string()),
            ("SANDGATE_SIDECAR_INSPECTED_PORT", ports.inspected.to_string()),
            ("SANDGATE_SIDECAR_PROBE_PORT", ports.probe.to_string()),
            ("SANDGATE_SIDECAR_RESET_PORT", ports.reset.to_string()),
            ("SANDGATE_SIDECAR_REFUSED_PORT", ports.refused.to_string()),
            ("SANDGATE_SIDECAR_RESOLVER_PORT", ports.resolver.to_string()),
            ("SANDGATE_SIDECAR_INSPECTION", format!("{:.3}s", INSPECTION.as_secs_f64())),
            ("SANDGATE_SIDECAR_REFUSAL", format!("{:.3}s", REFUSAL.as_secs_f64())),
            ("SANDGATE_SIDECAR_CONNECTIONS", bounds.connections.to_string()),
            ("SANDGATE_SIDECAR_HEAP", bounds.heap.to_string()),
            ("SANDGATE_SIDECAR_BUFFER", bounds.buffer.to_string()),
            ("SANDGATE_EGRESS_TCP_ECDS", path("egress-tcp.yaml")),
            ("SANDGATE_EGRESS_HTTP_ECDS", path("egress-http.yaml")),
            ("SANDGATE_EGRESS_LOG", path("egress-log.yaml")),
        ]);
        let template = match &self.bootstrap {
            Some(path) => std::fs::read_to_string(path).map_err(failed(path, "read"))?,
            None => BOOTSTRAP.to_owned(),
        };
        self.replace("egress-log.yaml", LOG.as_bytes())?;
        self.replace("sidecar.yaml", fill(&template, &values)?.as_bytes())
    }

    /// Writes a generation of the filter's configuration, JSON on one line. Envoy sees each file whole.
    ///
    /// # Errors
    ///
    /// Where it can't be written: Envoy keeps what it has.
    pub fn write_generation(&self, json: &str) -> Result<(), FilesError> {
        let values = BTreeMap::from([
            ("SANDGATE_EGRESS_CONFIG", json.to_owned()),
            (
                "SANDGATE_EGRESS_WASM",
                self.folder.join("sandgate_egress.wasm").display().to_string(),
            ),
        ]);
        for (name, template) in DISCOVERED {
            self.replace(name, fill(template, &values)?.as_bytes())?;
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

/// Puts values in the places of `${NAME}`. What was put in is not looked at again.
fn fill(template: &str, values: &BTreeMap<&str, String>) -> Result<String, FilesError> {
    let mut parts = template.split("${");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once('}').unwrap_or((part, ""));
        let value = values.get(name).ok_or_else(|| FilesError::UnknownName(name.to_owned()))?;
        filled.push_str(value);
        filled.push_str(rest);
    }
    Ok(filled)
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
    fn what_was_put_in_is_not_filled_in_again() {
        let values = BTreeMap::from([("A", "${B}".to_owned()), ("B", "b".to_owned())]);
        assert_eq!(fill("${A} ${B}", &values).unwrap(), "${B} b");
        assert!(fill("${C}", &values).is_err());
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
