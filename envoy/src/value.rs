//! One value, as text that can't end the YAML scalar that contains it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

/// The text that replaces a name. Templates use it as a plain scalar, between double quotes, or, if it is JSON, as a flow
/// collection or in one line of a block scalar.
#[derive(Clone, Eq, PartialEq)]
pub struct Value(String);

/// A text can't be a value of this kind. The error does not contain the text, because the text may be secret.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// See [`Value::host`].
    #[error(
        "a host name has letters, digits, `-`, `_` and `.` only, or the value is an IP address"
    )]
    Host,
    /// See [`endpoints`].
    #[error("the list contains a host twice")]
    Twice,
    /// See [`Value::json`].
    #[error("the value must be JSON in one line")]
    Json,
    /// See [`Value::path`].
    #[error("a path must be UTF-8, and contain no quote, backslash or control character")]
    Path,
    /// See [`Value::secret`].
    #[error("a secret must consist of visible ASCII characters, without quote and backslash")]
    Secret,
}

impl Value {
    pub(crate) fn number(number: impl Into<u64>) -> Self {
        Self(number.into().to_string())
    }

    pub(crate) fn address(address: IpAddr) -> Self {
        Self(address.to_string())
    }

    /// A duration, as protobuf's JSON writes it: `0.150s`.
    pub(crate) fn duration(duration: Duration) -> Self {
        // Rounded up, because Envoy takes a timeout of zero as no timeout.
        let ms = duration.as_nanos().div_ceil(1_000_000);
        Self(match ms % 1_000 {
            0 => format!("{}s", ms / 1_000),
            rest => format!("{}.{rest:03}s", ms / 1_000),
        })
    }

    /// A host name or an address.
    pub(crate) fn host(text: &str) -> Result<Self, ValueError> {
        let is_name = !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if is_name || text.parse::<IpAddr>().is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::Host)
        }
    }

    /// See [`endpoints`].
    pub(crate) fn endpoints(hosts: &str, port: u16) -> Result<Self, ValueError> {
        Ok(Self::from_json(&endpoints(hosts, port)?))
    }

    /// A path, which templates put between double quotes.
    pub(crate) fn path(path: &Path) -> Result<Self, ValueError> {
        let text = path.to_str().ok_or(ValueError::Path)?;
        let is_forbidden = |letter: char| letter.is_control() || letter == '"' || letter == '\\';
        if text.contains(is_forbidden) { Err(ValueError::Path) } else { Ok(Self(text.to_owned())) }
    }

    /// JSON in one line.
    pub(crate) fn json(text: &str) -> Result<Self, ValueError> {
        let parsed = serde_json::from_str::<serde_json::Value>(text);
        if parsed.is_err() || text.contains(|letter: char| letter.is_ascii_control()) {
            return Err(ValueError::Json);
        }
        Ok(Self(escape_json(text)))
    }

    /// As [`Value::json`], for a value that is parsed already.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        Self(escape_json(&json.to_string()))
    }

    /// A secret, which templates put between double quotes.
    pub(crate) fn secret(text: &str) -> Result<Self, ValueError> {
        let is_permitted = |byte: u8| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\';
        if !text.is_empty() && text.bytes().all(is_permitted) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ValueError::Secret)
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// The endpoints of a cluster, as Envoy's `LocalityLbEndpoints`: one port of each host. `hosts` are separated by commas; each
/// has a priority, and the first one is preferred.
///
/// # Errors
///
/// If one of them is neither a host name nor an address, or the list contains one twice.
pub fn endpoints(hosts: &str, port: u16) -> Result<serde_json::Value, ValueError> {
    let mut known = BTreeSet::new();
    let mut endpoints = Vec::new();
    for (priority, host) in hosts.split(',').map(str::trim).enumerate() {
        let Value(address) = Value::host(host)?;
        if !known.insert(host) {
            return Err(ValueError::Twice);
        }
        endpoints.push(json!({
            "priority": priority,
            "lb_endpoints": [{ "endpoint": { "address": {
                "socket_address": { "address": address, "port_value": port },
            }}}],
        }));
    }
    Ok(endpoints.into())
}

/// Escapes the characters that YAML doesn't permit, or takes for line breaks. In JSON, they occur only in strings.
fn escape_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        if letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') {
            // All of them are in the Basic Multilingual Plane. Writing to a string can't fail.
            let _: std::fmt::Result = write!(text, "\\u{:04x}", u32::from(letter));
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address() {
        for host in ["sandbox.localhost", "control-plane", "a_b", "127.0.0.1", "::1"] {
            assert_eq!(Value::host(host).unwrap().as_str(), host);
        }
        for other in ["", "a b", "a\n", "a: b", "a, b", "a\"", "[::1]", "a:80", "a}"] {
            assert_eq!(Value::host(other).err(), Some(ValueError::Host), "{other:?}");
        }
    }

    #[test]
    fn each_control_plane_is_an_endpoint_with_a_priority_of_its_own() {
        let parsed = |hosts| endpoints(hosts, 8901).unwrap();
        let three = parsed("one.internal, 10.0.0.2,::1");
        for (priority, address) in ["one.internal", "10.0.0.2", "::1"].into_iter().enumerate() {
            let endpoint = &three[priority];
            assert_eq!(endpoint["priority"], priority);
            let socket = &endpoint["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
            assert_eq!(*socket, json!({ "address": address, "port_value": 8901 }));
        }
        assert_eq!(parsed("one").as_array().unwrap().len(), 1);
        for (hosts, error) in [
            ("", ValueError::Host),
            ("one,", ValueError::Host),
            ("one,,two", ValueError::Host),
            ("one two", ValueError::Host),
            ("one:8900", ValueError::Host),
            ("one,two,one", ValueError::Twice),
        ] {
            assert_eq!(endpoints(hosts, 1).err(), Some(error), "{hosts:?}");
        }
    }

    #[test]
    fn a_path_can_not_end_its_quotes_or_its_line() {
        assert_eq!(Value::path(Path::new("/a b/é#: {}")).unwrap().as_str(), "/a b/é#: {}");
        for other in ["/a\"b", "/a\\b", "/a\nb", "/a\u{85}b"] {
            assert_eq!(Value::path(Path::new(other)).err(), Some(ValueError::Path), "{other:?}");
        }
    }

    #[test]
    fn json_stays_in_one_line() {
        assert_eq!(
            Value::json("{\"a\":\"\\n\u{85}\u{2028}\"}").unwrap().as_str(),
            "{\"a\":\"\\n\\u0085\\u2028\"}"
        );
        for other in ["", "{", "[1] x", "a: b", "[1,\n2]"] {
            assert_eq!(Value::json(other).err(), Some(ValueError::Json), "{other:?}");
        }
    }

    #[test]
    fn a_secret_can_not_end_its_quotes_or_its_line() {
        assert_eq!(Value::secret("a-/+=$&{}:#").unwrap().as_str(), "a-/+=$&{}:#");
        for other in ["", "a b", "a\n", "a\"", "a\\", "é"] {
            assert_eq!(Value::secret(other).err(), Some(ValueError::Secret), "{other:?}");
        }
    }

    #[test]
    fn a_duration_has_milliseconds_where_needed() {
        assert_eq!(Value::duration(Duration::from_secs(3600)).as_str(), "3600s");
        assert_eq!(Value::duration(Duration::from_millis(150)).as_str(), "0.150s");
    }
}
