//! Builds TLS ClientHellos that no TLS library would send.

use anyhow::Result;

/// A ClientHello (RFC 8446, section 4.1.2) with the mandatory fields and the given extensions.
#[derive(Clone, Debug, Default)]
pub struct ClientHello {
    extensions: Vec<u8>,
}

/// The numbers of extensions: `server_name`, `padding`, `encrypted_client_hello` (RFC 9849, section 5).
const SERVER_NAME: u16 = 0;
const PADDING: u16 = 21;
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

impl ClientHello {
    /// Creates a ClientHello with a server name.
    pub fn of(name: &str) -> Result<Self> {
        Self::default().server_names(&[name.as_bytes()])
    }

    /// Adds an extension.
    pub fn extension(mut self, kind: u16, body: &[u8]) -> Result<Self> {
        self.extensions.extend(kind.to_be_bytes());
        self.extensions.extend(vector(body)?);
        Ok(self)
    }

    /// Adds an extension with these server names. A valid one has exactly one.
    pub fn server_names(self, names: &[&[u8]]) -> Result<Self> {
        let mut list = Vec::new();
        for name in names {
            list.push(0);
            list.extend(vector(name)?);
        }
        self.extension(SERVER_NAME, &vector(&list)?)
    }

    /// Adds padding of this length.
    pub fn padding(self, length: usize) -> Result<Self> {
        self.extension(PADDING, &vec![0; length])
    }

    /// Adds an encrypted ClientHello, which can't be distinguished from GREASE.
    pub fn encrypted(self) -> Result<Self> {
        // Of type outer: HKDF-SHA256, AES-128-GCM, a configuration's id, a key, and the message.
        let body = [&[0, 0, 1, 0, 1, 0x42][..], &vector(&[0x5a; 32])?, &vector(&[0xa5; 240])?];
        self.extension(ENCRYPTED_CLIENT_HELLO, &body.concat())
    }

    /// Serializes the ClientHello in records of at most `size` bytes.
    pub fn records(&self, size: usize) -> Result<Vec<u8>> {
        let body = [
            &[3, 3][..],
            &[7; 32],
            &[0],
            &vector(&[0x13, 1])?,
            &[1, 0],
            &vector(&self.extensions)?,
        ]
        .concat();
        let length = u32::try_from(body.len())?.to_be_bytes();
        let message = [&[1][..], &length[1..], &body].concat();
        let mut records = Vec::new();
        for part in message.chunks(size) {
            records.extend([&[22, 3, 1][..], &vector(part)?].concat());
        }
        Ok(records)
    }
}

fn vector(bytes: &[u8]) -> Result<Vec<u8>> {
    Ok([&u16::try_from(bytes.len())?.to_be_bytes()[..], bytes].concat())
}
