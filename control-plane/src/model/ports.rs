//! The exposed ports of a sandbox, to which requests are routed.

use std::collections::BTreeSet;

use sandgate_policy::ingress::port::MANAGEMENT_PORT;

/// User ports, sorted and without duplicates. Never contains 0 or the management port.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ExposedPorts(Vec<u16>);

/// Why a port can't be exposed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidPorts {
    /// Not a number from 1 to 65535.
    #[error("`exposed_ports[{index}]`: {port} is not a port; ports are 1 to 65535")]
    Range {
        /// The index in the list.
        index: usize,
        /// The invalid value.
        port: i128,
    },
    /// The management port always needs a credential, so it is never exposed.
    #[error(
        "`exposed_ports[{index}]`: port {MANAGEMENT_PORT} is reserved for sandbox management and can't be exposed"
    )]
    Management {
        /// The index in the list.
        index: usize,
    },
}

impl ExposedPorts {
    /// Checks, sorts and deduplicates a list of ports.
    ///
    /// # Errors
    /// [`InvalidPorts`], for the first invalid entry.
    pub fn parse(list: impl IntoIterator<Item = i128>) -> Result<Self, InvalidPorts> {
        let mut ports = BTreeSet::new();
        for (index, port) in list.into_iter().enumerate() {
            match u16::try_from(port) {
                Ok(MANAGEMENT_PORT) => return Err(InvalidPorts::Management { index }),
                Ok(number) if number != 0 => ports.insert(number),
                _ => return Err(InvalidPorts::Range { index, port }),
            };
        }
        Ok(Self(ports.into_iter().collect()))
    }

    /// The ports, sorted.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.0
    }

    /// Whether there are no exposed ports.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The ports as text, separated by commas.
pub(crate) fn join_ports(ports: &[u16]) -> String {
    ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_sorted_and_deduplicated() {
        let ports = ExposedPorts::parse([8080, 1, 65_535, 8080, 3000]).unwrap();
        assert_eq!(ports.as_slice(), [1, 3000, 8080, 65_535]);
    }

    #[test]
    fn the_error_has_the_index_and_the_value_of_the_first_invalid_port() {
        for port in [0, -1, 65_536, 65_536 + 8080, i128::MAX] {
            let error = ExposedPorts::parse([80, port]).unwrap_err();
            assert_eq!(error, InvalidPorts::Range { index: 1, port });
        }
        let error = ExposedPorts::parse([9501, 0]).unwrap_err();
        assert_eq!(error, InvalidPorts::Management { index: 0 });
    }
}
