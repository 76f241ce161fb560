//! Renders the edge's configuration from the environment. The edge's image calls it before it starts Envoy.
//!
//! usage: sandgate-edge-config TEMPLATES FOLDER
//!
//! Reads `edge.yaml` with the file of its parts, `gateway-token.yaml` and `tls-certificate.yaml` in TEMPLATES and writes the
//! rendered files, which only their owner can read, into FOLDER. The variables are those that docs/configuration.md lists.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use sandgate_envoy_config::{
    Edge, EnvironmentError, GatewayToken, INGRESS_CONFIGURATION, RenderError, TlsCertificate,
    control_plane_parts, insert,
};

/// Without a certificate, the TLS port ends every handshake.
const NO_CERTIFICATE: &str = "resources: []\n";

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("usage: sandgate-edge-config TEMPLATES FOLDER")]
    Usage,
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error("{}: {reason}", path.display())]
    Render { path: PathBuf, reason: RenderError },
    #[error("`{}`: {reason}", path.display())]
    Io { path: PathBuf, reason: io::Error },
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [templates, folder] = arguments.as_slice() else { return Err(Error::Usage) };
    let edge = Edge::from_environment(variable, templates, folder)?;
    let read = |name: &str| {
        let path = templates.join(name);
        std::fs::read_to_string(&path).map_err(|reason| Error::Io { path, reason })
    };
    let render = |name: &str, render: &dyn Fn(&str) -> Result<String, RenderError>| {
        let path = templates.join(name);
        let text = render(&read(name)?).map_err(|reason| Error::Render { path, reason })?;
        write(&folder.join(name), &text)
    };
    if variable("SANDGATE_GATEWAY_TOKEN_SDS").is_none() {
        let token = variable("SANDGATE_GATEWAY_TOKEN").ok_or(EnvironmentError::Missing {
            name: "SANDGATE_GATEWAY_TOKEN",
            what: "the credential for the gateway API; or set SANDGATE_GATEWAY_TOKEN_SDS, a file",
        })?;
        render("gateway-token.yaml", &|text| GatewayToken(token.clone()).render_template(text))?;
    }
    if variable("SANDGATE_TLS_SDS").is_none() {
        match variable("SANDGATE_TLS_DIR") {
            Some(directory) => {
                let certificate = TlsCertificate(directory.into());
                render("tls-certificate.yaml", &|text| certificate.render_template(text))?;
            }
            None => write(&folder.join("tls-certificate.yaml"), NO_CERTIFICATE)?,
        }
    }
    let parts = read(edge.upstream.file_name())?;
    let tls = control_plane_parts(edge.control_plane_tls.as_ref());
    render("edge.yaml", &|text| {
        let parts = [edge.filters.parts(), INGRESS_CONFIGURATION, &parts, tls];
        edge.render_template(&insert(text, &parts)?)
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Writes a new file that only its owner can read.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    let open = || File::options().write(true).create_new(true).mode(0o600).open(path);
    open()
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|reason| Error::Io { path: path.to_owned(), reason })
}
