//! Header maps like Envoy's: ordered, with separate entries for repeated names, and with arbitrary
//! bytes as values.

use std::fmt;

/// An ordered list of headers. Names are in lower case, as in Envoy.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// An empty header map.
    pub fn new() -> Self {
        Self::default()
    }

    /// The headers of a GET request.
    pub fn get(authority: &str, path: &str) -> Self {
        Self::request("GET", authority, path)
    }

    /// The headers of a request: only the pseudo-headers.
    pub fn request(method: &str, authority: &str, path: &str) -> Self {
        Self::from([
            (":method", method),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
        ])
    }

    /// Adds a header, even if the name already exists.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.add(name.as_ref(), value.as_ref());
        self
    }

    /// Removes all headers with this name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.remove(name.as_bytes());
        self
    }

    /// The first value of a name as text. Bytes that are not UTF-8 become `�`.
    pub fn value(&self, name: &str) -> Option<String> {
        self.first(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// All values of a name as text, in order.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.iter()
            .filter(|(key, _)| *key == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Whether there is a header with this name.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name.as_bytes()).is_some()
    }

    /// Whether any name or value contains the bytes. Tests use it to check that a secret is absent.
    pub fn mention(&self, bytes: &str) -> bool {
        let found = |haystack: &[u8]| {
            haystack.windows(bytes.len().max(1)).any(|window| window == bytes.as_bytes())
        };
        self.iter().any(|(name, value)| found(name) || found(value))
    }

    /// The names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// The number of headers. Repeated names count each time.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the map is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn first(&self, name: &[u8]) -> Option<&[u8]> {
        let name = name.to_ascii_lowercase();
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    pub(crate) fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(key, _)| *key != name);
    }

    pub(crate) fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove(name);
        self.add(name, value);
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Headers {
    fn from(pairs: [(&str, &str); N]) -> Self {
        pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
    }
}

impl FromIterator<(Vec<u8>, Vec<u8>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (Vec<u8>, Vec<u8>)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.add(&name, &value);
        }
        headers
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| {
                (String::from_utf8_lossy(name), String::from_utf8_lossy(value))
            }))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_a_repeated_header_leaves_one() {
        let mut headers = Headers::from([("a", "1"), ("A", "2"), ("b", "3")]);
        headers.replace(b"A", b"4");
        assert_eq!(headers.values("a"), ["4"]);
        assert_eq!(headers.value("b").as_deref(), Some("3"));
    }

    #[test]
    fn reading_a_repeated_header_returns_the_first_value() {
        let headers = Headers::from([("a", "1"), ("a", "2")]);
        assert_eq!(headers.first(b"A"), Some(b"1".as_slice()));
    }
}
