//! Envoy's filter state, limited to what a filter can set through `set_envoy_filter_state`.

use crate::abi::Status;

/// The life span of a filter state object.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LifeSpan {
    /// Until the end of the request.
    FilterChain,
    /// Until the end of the downstream request, across internal redirects.
    DownstreamRequest,
    /// Until the end of the connection, including later requests on it.
    DownstreamConnection,
}

/// An object in the filter state of a request or connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FilterState {
    /// The value as text.
    pub value: String,
    pub span: LifeSpan,
}

/// The key of the address that the dynamic forward proxy connects to.
pub(crate) const DYNAMIC_HOST: &str = "envoy.upstream.dynamic_host";
/// The key of the port that the dynamic forward proxy connects to.
pub(crate) const DYNAMIC_PORT: &str = "envoy.upstream.dynamic_port";

/// The key of the address that an original destination cluster connects to.
pub(crate) const ORIGINAL_DST: &str = "envoy.network.transport_socket.original_dst_address";

/// The keys whose factories accept any text.
const TEXT_KEYS: [&str; 6] = [
    DYNAMIC_HOST,
    "envoy.tcp_proxy.cluster",
    "envoy.network.upstream_server_name",
    "envoy.hashable_string",
    "envoy.string",
    "envoy.network.application_protocols",
];

/// Decodes and checks the arguments of `set_envoy_filter_state` as Envoy does. A key without a
/// factory returns `NotFound`; a value that the factory refuses returns `BadArgument`. A port above
/// 65535 is accepted, because Envoy's factory accepts any 32-bit number.
pub(crate) fn parse(arguments: &[u8]) -> Result<(String, FilterState), Status> {
    let (path, value, span) = decode(arguments).ok_or(Status::BadArgument)?;
    let acceptable = match path.as_str() {
        DYNAMIC_PORT => value.parse::<u32>().is_ok(),
        ORIGINAL_DST => value.parse::<std::net::SocketAddr>().is_ok(),
        "envoy.network.ip" => value.parse::<std::net::IpAddr>().is_ok(),
        key if TEXT_KEYS.contains(&key) => true,
        _ => return Err(Status::NotFound),
    };
    let span = match span {
        0 => LifeSpan::FilterChain,
        1 => LifeSpan::DownstreamRequest,
        2 => LifeSpan::DownstreamConnection,
        _ => return Err(Status::BadArgument),
    };
    if acceptable { Ok((path, FilterState { value, span })) } else { Err(Status::BadArgument) }
}

/// The protobuf message `{string path = 1; string value = 2; LifeSpan span = 3}`.
fn decode(mut bytes: &[u8]) -> Option<(String, String, u64)> {
    let (mut path, mut value, mut span) = (String::new(), String::new(), 0);
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        match (key >> 3, key & 7) {
            (1, 2) => path = text(&mut bytes)?,
            (2, 2) => value = text(&mut bytes)?,
            (3, 0) => span = varint(&mut bytes)?,
            (_, 0) => drop(varint(&mut bytes)?),
            (_, 2) => drop(text(&mut bytes)?),
            _ => return None,
        }
    }
    Some((path, value, span))
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(path: &str, value: &str, span: u8) -> Vec<u8> {
        let mut bytes = vec![0x0a, u8::try_from(path.len()).unwrap()];
        bytes.extend(path.bytes());
        bytes.extend([0x12, u8::try_from(value.len()).unwrap()]);
        bytes.extend(value.bytes());
        bytes.extend([0x18, span]);
        bytes
    }

    #[test]
    fn a_known_key_with_a_valid_value_is_accepted() {
        let (path, state) = parse(&arguments(DYNAMIC_HOST, "127.64.0.2", 0)).unwrap();
        assert_eq!(path, DYNAMIC_HOST);
        let expected = FilterState { value: "127.64.0.2".into(), span: LifeSpan::FilterChain };
        assert_eq!(state, expected);
    }

    #[test]
    fn an_unknown_key_is_not_found_and_a_bad_value_is_a_bad_argument() {
        assert_eq!(parse(&arguments("no.such.key", "x", 0)), Err(Status::NotFound));
        assert_eq!(parse(&arguments(DYNAMIC_PORT, "abc", 0)), Err(Status::BadArgument));
        assert_eq!(parse(&arguments(DYNAMIC_HOST, "a", 7)), Err(Status::BadArgument));
        assert_eq!(parse(&[0x0a, 200, 1]), Err(Status::BadArgument));
    }

    #[test]
    fn a_port_out_of_range_is_accepted_as_in_envoy() {
        assert!(parse(&arguments(DYNAMIC_PORT, "99999", 0)).is_ok());
    }
}
