//! The edge's values from environment variables, as its image takes them. Each variable has the name of the value.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::control_plane_tls::{Authorities, ControlPlaneTls};
use crate::edge::Edge;
use crate::filters::Filters;
use crate::upstream::Upstream;

/// A variable is missing or has a value that it can't have.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum EnvironmentError {
    /// There is no default for this variable.
    #[error("{name} is not set; it takes {what}")]
    Missing {
        /// The variable.
        name: &'static str,
        /// A description of valid values.
        what: &'static str,
    },
    /// The value can't be parsed.
    #[error("{name} is `{text}`; it takes {what}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// Its value.
        text: String,
        /// A description of valid values.
        what: &'static str,
    },
}

impl Edge {
    /// Reads the values from the environment. `variable` returns the value of a variable, or `None` if it is not set; an
    /// empty value counts as not set. `templates` contains the filter and `edge-log.yaml`, and `rendered` the files that
    /// are rendered beside `edge.yaml`, unless variables name others.
    ///
    /// # Errors
    ///
    /// If a variable without a default is not set, or a value can't be parsed.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        templates: &Path,
        rendered: &Path,
    ) -> Result<Self, EnvironmentError> {
        let variables = Variables(variable);
        let domain: String = variables
            .required("SANDGATE_DOMAIN", "the domain of the sandboxes, like sandbox.example.com")?;
        let control_plane: String = variables.required(
            "SANDGATE_CONTROL_PLANE_ADDRESS",
            "the name or address of the control plane, or several of them, separated by commas",
        )?;
        let network = variables.required(
            "SANDGATE_SANDBOX_NETWORK",
            "the network of the sandboxes, like 10.64.0.0, with SANDGATE_SANDBOX_PREFIX_LEN",
        )?;
        let length = variables.required(
            "SANDGATE_SANDBOX_PREFIX_LEN",
            "the length of SANDGATE_SANDBOX_NETWORK in bits, like 16",
        )?;
        let edge = Self::new(&domain, &control_plane, (network, length));
        let edge = edge.with_files_in(templates, rendered);
        let path = |name: &'static str, default: PathBuf| {
            variables.get(name).map_or(default, PathBuf::from)
        };
        Ok(Self {
            address: variables.parsed("SANDGATE_EDGE_ADDRESS", edge.address, "an IP address")?,
            port: variables.parsed("SANDGATE_EDGE_PORT", edge.port, PORT)?,
            tls_port: variables.parsed("SANDGATE_EDGE_TLS_PORT", edge.tls_port, PORT)?,
            tls_sds: path("SANDGATE_TLS_SDS", edge.tls_sds),
            listener_filters: variables.parsed(
                "SANDGATE_LISTENER_FILTERS",
                edge.listener_filters,
                "a JSON list",
            )?,
            control_plane_tls: variables.control_plane_tls()?,
            trusted_hops: variables.parsed("SANDGATE_TRUSTED_HOPS", edge.trusted_hops, NUMBER)?,
            admin_port: variables.parsed("SANDGATE_ADMIN_PORT", edge.admin_port, PORT)?,
            api_port: variables.parsed("SANDGATE_API_PORT", edge.api_port, PORT)?,
            gateway_port: variables.parsed("SANDGATE_GATEWAY_PORT", edge.gateway_port, PORT)?,
            gateway_token_sds: path("SANDGATE_GATEWAY_TOKEN_SDS", edge.gateway_token_sds),
            filters: variables.parsed("SANDGATE_FILTERS", edge.filters, Filters::NAMES)?,
            native: path("SANDGATE_NATIVE", edge.native),
            wasm: path("SANDGATE_WASM", edge.wasm),
            second_domain: variables.parsed(
                "SANDGATE_SECOND_DOMAIN",
                edge.second_domain,
                "a domain",
            )?,
            api_host: variables.get("SANDGATE_API_HOST").unwrap_or(edge.api_host),
            upstream: variables.parsed("SANDGATE_UPSTREAM", edge.upstream, Upstream::NAMES)?,
            stream_idle_timeout: variables
                .seconds("SANDGATE_STREAM_IDLE_TIMEOUT", edge.stream_idle_timeout)?,
            trusted_origins: variables.parsed(
                "SANDGATE_TRUSTED_ORIGINS",
                edge.trusted_origins,
                "a JSON list of origins",
            )?,
            ingress_limits: variables.parsed(
                "SANDGATE_INGRESS_LIMITS",
                edge.ingress_limits,
                "a JSON object",
            )?,
            heap: variables.parsed("SANDGATE_EDGE_HEAP", edge.heap, "a number of bytes")?,
            connections: variables.parsed("SANDGATE_EDGE_CONNECTIONS", edge.connections, NUMBER)?,
            log: path("SANDGATE_EDGE_LOG", edge.log),
            ..edge
        })
    }
}

const PORT: &str = "a port from 0 to 65535";
const NUMBER: &str = "a number";

struct Variables<F>(F);

impl<F: Fn(&str) -> Option<String>> Variables<F> {
    fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    fn required<T>(&self, name: &'static str, what: &'static str) -> Result<T, EnvironmentError>
    where
        T: FromStr<Err: Display>,
    {
        let text = self.get(name).ok_or(EnvironmentError::Missing { name, what })?;
        parse(name, text, what)
    }

    fn parsed<T>(
        &self,
        name: &'static str,
        default: T,
        what: &'static str,
    ) -> Result<T, EnvironmentError>
    where
        T: FromStr<Err: Display>,
    {
        self.get(name).map_or(Ok(default), |text| parse(name, text, what))
    }

    /// TLS to the control plane, if its issuers are known.
    fn control_plane_tls(&self) -> Result<Option<ControlPlaneTls>, EnvironmentError> {
        let others = ["SANDGATE_CONTROL_PLANE_NAME", "SANDGATE_CONTROL_PLANE_CERTIFICATE"];
        let Some(authorities) = self.get("SANDGATE_CONTROL_PLANE_CA") else {
            // Whoever sets one of the others does not expect plain text.
            return match others.into_iter().find_map(|name| self.get(name)) {
                None => Ok(None),
                Some(_) => Err(EnvironmentError::Missing {
                    name: "SANDGATE_CONTROL_PLANE_CA",
                    what: "the file with the issuers of the control plane's certificate",
                }),
            };
        };
        let what = "the DNS name in the control plane's certificate; an IP address is not one";
        let name = self.get("SANDGATE_CONTROL_PLANE_NAME");
        let name = name.or_else(|| self.get("SANDGATE_CONTROL_PLANE_ADDRESS")).unwrap_or_default();
        if name.parse::<std::net::IpAddr>().is_ok() {
            let variable = "SANDGATE_CONTROL_PLANE_NAME";
            return Err(EnvironmentError::Invalid { name: variable, text: name, what });
        }
        Ok(Some(ControlPlaneTls {
            authorities: Authorities::File(authorities.into()),
            name,
            certificate: self.get("SANDGATE_CONTROL_PLANE_CERTIFICATE").map(PathBuf::from),
        }))
    }

    fn seconds(&self, name: &'static str, default: Duration) -> Result<Duration, EnvironmentError> {
        let Some(text) = self.get(name) else { return Ok(default) };
        let seconds = text.strip_suffix('s').and_then(|number| number.parse().ok());
        seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or(
            EnvironmentError::Invalid { name, text, what: "a number of seconds, like 3600s" },
        )
    }
}

fn parse<T: FromStr<Err: Display>>(
    name: &'static str,
    text: String,
    what: &'static str,
) -> Result<T, EnvironmentError> {
    text.parse().map_err(|_| EnvironmentError::Invalid { name, text, what })
}

#[cfg(test)]
pub(crate) mod tests_support {
    use super::*;

    /// The variables that have no default.
    pub(crate) const REQUIRED: [(&str, &str); 4] = [
        ("SANDGATE_DOMAIN", "sandbox.example.com"),
        ("SANDGATE_SANDBOX_NETWORK", "10.64.0.0"),
        ("SANDGATE_SANDBOX_PREFIX_LEN", "16"),
        ("SANDGATE_CONTROL_PLANE_ADDRESS", "control-plane"),
    ];

    pub(crate) fn read(variables: &[(&str, &str)]) -> Result<Edge, EnvironmentError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, text)| (*text).to_owned())
        };
        Edge::from_environment(variable, Path::new("/etc/sandgate"), Path::new("/run/edge"))
    }

    pub(crate) fn edge() -> Edge {
        read(&REQUIRED).unwrap()
    }

    pub(crate) fn edge_with_tls() -> Edge {
        let tls = [
            ("SANDGATE_CONTROL_PLANE_CA", "/etc/sandgate/ca.crt"),
            ("SANDGATE_CONTROL_PLANE_CERTIFICATE", "/etc/sandgate/edge"),
        ];
        read(&[&REQUIRED[..], &tls].concat()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::tests_support::{REQUIRED, edge, edge_with_tls, read};
    use super::*;

    #[test]
    fn variables_that_are_not_set_have_the_defaults_of_the_image() {
        let edge = edge();
        assert_eq!((edge.address.to_string().as_str(), edge.port), ("0.0.0.0", 9443));
        assert_eq!(edge.api_host, "api.example.com");
        assert_eq!(edge.wasm, Path::new("/etc/sandgate/sandgate_ingress.wasm"));
        assert_eq!(edge.tls_sds, Path::new("/run/edge/tls-certificate.yaml"));
        assert_eq!(edge.stream_idle_timeout, Duration::from_secs(3600));
        assert!(edge.render().unwrap().contains("idle_timeout: 3600s\n"));
    }

    #[test]
    fn a_variable_without_a_default_must_be_set() {
        for (missing, _) in REQUIRED {
            let others: Vec<_> =
                REQUIRED.into_iter().filter(|(name, _)| *name != missing).collect();
            let error = read(&others).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{missing} is not set; it takes ")), "{error}");
        }
    }

    #[test]
    fn tls_to_the_control_plane_checks_the_name_and_the_issuer() {
        let plain = edge().render().unwrap();
        assert!(!plain.contains("UpstreamTlsContext"));
        let edge = edge_with_tls();
        let text = edge.render().unwrap();
        assert_eq!(text.matches("UpstreamTlsContext").count(), 2);
        assert_eq!(text.matches(r#"sni: "control-plane""#).count(), 2);
        assert!(text.contains(r#"trusted_ca: {"filename":"/etc/sandgate/ca.crt"}"#));
        assert!(text.contains(r#""private_key":{"filename":"/etc/sandgate/edge/tls.key"}"#));
        let tls = [
            ("SANDGATE_CONTROL_PLANE_CA", "/etc/sandgate/ca.crt"),
            ("SANDGATE_CONTROL_PLANE_NAME", "10.0.0.1"),
        ];
        let error = read(&[&REQUIRED[..], &tls].concat()).unwrap_err().to_string();
        assert!(error.contains("an IP address is not one"), "{error}");
        let error = read(&[&REQUIRED[..], &tls[1..]].concat()).unwrap_err().to_string();
        assert!(error.starts_with("SANDGATE_CONTROL_PLANE_CA is not set"), "{error}");
    }

    #[test]
    fn a_value_that_can_not_be_parsed_is_named() {
        for (name, text) in [
            ("SANDGATE_EDGE_PORT", "http"),
            ("SANDGATE_EDGE_ADDRESS", "localhost"),
            ("SANDGATE_LISTENER_FILTERS", "["),
            ("SANDGATE_STREAM_IDLE_TIMEOUT", "-1s"),
            ("SANDGATE_STREAM_IDLE_TIMEOUT", "1m"),
            ("SANDGATE_UPSTREAM", "dfp"),
        ] {
            let error = read(&[&REQUIRED[..], &[(name, text)]].concat()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name} is `{text}`; it takes ")), "{error}");
        }
    }
}
