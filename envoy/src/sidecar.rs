//! The values of `sidecar.yaml`, and of the two files that bring the egress filter its configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::filters::Filters;
use crate::parts::insert;
use crate::template::{RenderError, Values, collect, render};
use crate::value::Value;

/// The bootstrap of a sidecar's Envoy as a template. Its head explains each name.
pub const SIDECAR_TEMPLATE: &str = include_str!("../sidecar.yaml");
/// The file that [`Sidecar::log`] points to. It is not a template.
pub const EGRESS_LOG: &str = include_str!("../egress-log.yaml");

pub(crate) const EGRESS_TCP_TEMPLATE: &str = include_str!("../egress-tcp.yaml");
pub(crate) const EGRESS_HTTP_TEMPLATE: &str = include_str!("../egress-http.yaml");

/// The values of the bootstrap of a sidecar's Envoy.
#[derive(Clone, Debug)]
pub struct Sidecar {
    pub filters: Filters,
    pub plain_port: u16,
    pub inspected_port: u16,
    pub probe_port: u16,
    pub admin_port: u16,
    pub reset_port: u16,
    pub refused_port: u16,
    pub resolver_port: u16,
    pub inspection: Duration,
    pub refusal: Duration,
    pub connections: u32,
    /// In bytes.
    pub heap: u64,
    /// In bytes.
    pub buffer: u32,
    pub tcp_ecds: PathBuf,
    pub http_ecds: PathBuf,
    pub log: PathBuf,
}

impl Sidecar {
    /// The usual values, which the head of `sidecar.yaml` lists, with all files in a folder.
    #[must_use]
    pub fn usual(folder: &Path, filters: Filters) -> Self {
        let [tcp, http] = EgressFilter::FILE_NAMES;
        Self {
            filters,
            plain_port: 15_001,
            inspected_port: 15_002,
            probe_port: 15_003,
            admin_port: 15_000,
            reset_port: 15_004,
            refused_port: 15_005,
            resolver_port: 15_054,
            inspection: Duration::from_millis(150),
            refusal: Duration::from_millis(50),
            connections: 20_000,
            heap: 1 << 30,
            buffer: 128 << 10,
            tcp_ecds: folder.join(tcp),
            http_ecds: folder.join(http),
            log: folder.join("egress-log.yaml"),
        }
    }

    /// Returns Envoy's bootstrap.
    ///
    /// # Errors
    ///
    /// If a value is invalid.
    pub fn render(&self) -> Result<String, RenderError> {
        self.render_template(SIDECAR_TEMPLATE)
    }

    /// Renders another template with the same names and parts.
    ///
    /// # Errors
    ///
    /// If a value is invalid, or the template contains another name or part.
    pub fn render_template(&self, template: &str) -> Result<String, RenderError> {
        render(&insert(template, &[self.filters.egress_parts()])?, &self.values()?)
    }

    fn values(&self) -> Result<Values, RenderError> {
        collect([
            ("SANDGATE_SIDECAR_PLAIN_PORT", Ok(Value::number(self.plain_port))),
            ("SANDGATE_SIDECAR_INSPECTED_PORT", Ok(Value::number(self.inspected_port))),
            ("SANDGATE_SIDECAR_PROBE_PORT", Ok(Value::number(self.probe_port))),
            ("SANDGATE_SIDECAR_ADMIN_PORT", Ok(Value::number(self.admin_port))),
            ("SANDGATE_SIDECAR_RESET_PORT", Ok(Value::number(self.reset_port))),
            ("SANDGATE_SIDECAR_REFUSED_PORT", Ok(Value::number(self.refused_port))),
            ("SANDGATE_SIDECAR_RESOLVER_PORT", Ok(Value::number(self.resolver_port))),
            ("SANDGATE_SIDECAR_INSPECTION", Ok(Value::duration(self.inspection))),
            ("SANDGATE_SIDECAR_REFUSAL", Ok(Value::duration(self.refusal))),
            ("SANDGATE_SIDECAR_CONNECTIONS", Ok(Value::number(self.connections))),
            ("SANDGATE_SIDECAR_HEAP", Ok(Value::number(self.heap))),
            ("SANDGATE_SIDECAR_BUFFER", Ok(Value::number(self.buffer))),
            ("SANDGATE_EGRESS_TCP_ECDS", Value::path(&self.tcp_ecds)),
            ("SANDGATE_EGRESS_HTTP_ECDS", Value::path(&self.http_ecds)),
            ("SANDGATE_EGRESS_LOG", Value::path(&self.log)),
        ])
    }
}

/// The configuration of the egress filter, which Envoy reads again whenever a file is renamed over it.
#[derive(Clone, Debug)]
pub struct EgressFilter<'a> {
    /// `policy::egress::config` as JSON.
    pub config: &'a str,
    pub filters: Filters,
    /// `sandgate_egress.wasm` or `libsandgate_native.so`, absolute.
    pub module: PathBuf,
}

impl EgressFilter<'_> {
    /// The names of the files that [`EgressFilter::render`] returns, in the same order.
    pub const FILE_NAMES: [&'static str; 2] = ["egress-tcp.yaml", "egress-http.yaml"];

    /// Returns the files that [`Sidecar::tcp_ecds`] and [`Sidecar::http_ecds`] point to.
    ///
    /// # Errors
    ///
    /// If a value is invalid.
    pub fn render(&self) -> Result<[String; 2], RenderError> {
        let values = collect([
            ("SANDGATE_EGRESS_CONFIG", Value::json(self.config)),
            ("SANDGATE_EGRESS_MODULE", Value::path(&self.module)),
        ])?;
        let file = |template| render(&self.filters.egress_template(template)?, &values);
        Ok([file(EGRESS_TCP_TEMPLATE)?, file(EGRESS_HTTP_TEMPLATE)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::tests_support::names;

    #[test]
    fn the_head_of_the_template_lists_every_name_and_every_value_is_used() {
        let template = Filters::Wasm.egress_template(SIDECAR_TEMPLATE).unwrap();
        let (head, body) = template.split_once("\nnode:").unwrap();
        let listed: std::collections::BTreeSet<&str> =
            head.split_whitespace().filter(|word| word.starts_with("SANDGATE_")).collect();
        assert_eq!(listed, names(body));
        assert_eq!(
            listed,
            Sidecar::usual(Path::new("/run"), Filters::Wasm)
                .values()
                .unwrap()
                .keys()
                .copied()
                .collect()
        );
    }

    #[test]
    fn the_filters_configuration_is_one_line_of_both_files() {
        for filters in [Filters::Wasm, Filters::Native] {
            let filter = |config| EgressFilter { config, filters, module: "/filter".into() };
            for file in filter("{\"version\":1}").render().unwrap() {
                assert!(file.contains(" {\"version\":1}\n"), "{file}");
                assert!(file.contains("filename: \"/filter\""), "{file}");
            }
            assert!(filter("{").render().is_err());
        }
    }

    #[test]
    fn a_form_of_the_filter_is_accepted_where_its_configuration_has_its_type() {
        for filters in [Filters::Wasm, Filters::Native] {
            let bootstrap = Sidecar::usual(Path::new("/run"), filters).render().unwrap();
            let filter = EgressFilter { config: "{}", filters, module: "/filter".into() };
            for file in filter.render().unwrap() {
                let types: Vec<_> =
                    file.split_whitespace().filter(|word| word.contains("filters.")).collect();
                let [name] = types[..] else { panic!("{file}") };
                assert!(bootstrap.contains(&format!("- {name}\n")), "{name}");
            }
        }
    }
}
