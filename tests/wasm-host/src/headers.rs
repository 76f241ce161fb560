//! Header maps as Envoy keeps them: ordered, repeated names kept apart, values any bytes.

use std::fmt;

/// An ordered list of headers; names are lower case, as in Envoy.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// A plain GET request.
    pub fn get(authority: &str, path: &str) -> Self {
        Self::request("GET", authority, path)
    }

    /// A request without further headers.
    pub fn request(method: &str, authority: &str, path: &str) -> Self {
        Self::from([
            (":method", method),
            (":scheme", "https"),
            (":authority", authority),
            (":path", path),
        ])
    }

    /// These headers and one more; a name that is there already is repeated.
    #[must_use]
    pub fn with(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        self.add(name.as_ref(), value.as_ref());
        self
    }

    /// These headers without any of that name.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.remove(name.as_bytes());
        self
    }

    /// The first value of a name, as text (bytes that are not UTF-8 are shown as `�`).
    pub fn value(&self, name: &str) -> Option<String> {
        self.first(name.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Every value of a name, in order, as text.
    pub fn values(&self, name: &str) -> Vec<String> {
        self.iter()
            .filter(|(key, _)| *key == name.as_bytes())
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
            .collect()
    }

    /// Whether a name is there at all.
    pub fn contains(&self, name: &str) -> bool {
        self.first(name.as_bytes()).is_some()
    }

    /// Whether the bytes occur in any name or value: to look for what must not be there.
    pub fn mention(&self, bytes: &str) -> bool {
        let found = |haystack: &[u8]| {
            haystack.windows(bytes.len().max(1)).any(|window| window == bytes.as_bytes())
        };
        self.iter().any(|(name, value)| found(name) || found(value))
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }

    /// Number of headers, repeated ones counted each time.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
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
    fn the_first_of_repeated_values_is_the_one_that_is_read() {
        let headers = Headers::from([("a", "1"), ("a", "2")]);
        assert_eq!(headers.first(b"A"), Some(b"1".as_slice()));
    }
}
