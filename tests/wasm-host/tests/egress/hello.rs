//! ClientHellos for tests, well-formed and malformed.

/// A ClientHello with these server names, as one handshake message.
pub(crate) fn message(names: &[&str], padding: usize) -> Vec<u8> {
    let mut extensions = extension(21, &vec![0; padding]);
    if !names.is_empty() {
        let list: Vec<u8> =
            names.iter().flat_map(|name| [vec![0], vector(name.as_bytes())].concat()).collect();
        extensions.extend(extension(0, &vector(&list)));
    }
    // Supported versions: TLS 1.3.
    extensions.extend(extension(43, &[2, 3, 4]));
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &vector(&[0x13, 0x01, 0x13, 0x02]),
        &[1, 0],
        &vector(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [&[1][..], &length[1..], &body].concat()
}

/// A handshake message in records of this many bytes each.
pub(crate) fn records(message: &[u8], size: usize) -> Vec<u8> {
    message.chunks(size).flat_map(|part| [&[22, 3, 1][..], &vector(part)].concat()).collect()
}

/// A ClientHello in one record.
pub(crate) fn hello(name: &str) -> Vec<u8> {
    let names = if name.is_empty() { vec![] } else { vec![name] };
    records(&message(&names, 0), 16_384)
}

fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector(body)].concat()
}

fn vector(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}
