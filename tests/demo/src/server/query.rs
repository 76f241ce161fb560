//! Parameters of the query string.

use percent_encoding::percent_decode_str;

/// A query string. `%XX` is decoded, but `+` stays a plus sign, so that `application/grpc+proto`
/// needs no escaping.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a>(&'a str);

/// The parameter is not a whole number.
#[derive(Debug, thiserror::Error)]
#[error("query parameter `{name}` must be a whole number, got `{value}`")]
pub(super) struct NotANumber {
    name: &'static str,
    value: String,
}

impl<'a> Query<'a> {
    pub(super) fn of(uri: &'a hyper::Uri) -> Self {
        Self(uri.query().unwrap_or_default())
    }

    /// All values of `name`, decoded. A value may contain any byte.
    pub(super) fn all(self, name: &str) -> impl Iterator<Item = Vec<u8>> {
        self.raw(name).map(|value| percent_decode_str(value).collect())
    }

    /// All values of `name` as they were sent.
    pub(super) fn raw(self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .filter(move |(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// The first value of `name` as a number, or `default` if there is none.
    pub(super) fn number(self, name: &'static str, default: u64) -> Result<u64, NotANumber> {
        let Some(value) = self.all(name).next() else { return Ok(default) };
        let value = String::from_utf8_lossy(&value).into_owned();
        value.parse().map_err(|_| NotANumber { name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::Query;

    #[test]
    fn repeated_values_keep_their_order_and_any_byte() {
        let values: Vec<_> = Query("set=a%FF&x=1&&set=b+c&set").all("set").collect();
        assert_eq!(values, [b"a\xff".to_vec(), b"b+c".to_vec(), Vec::new()]);
    }

    #[test]
    fn numbers_have_a_default_and_bad_ones_are_named() {
        assert_eq!(Query("").number("count", 5).unwrap(), 5);
        assert_eq!(Query("count=7").number("count", 5).unwrap(), 7);
        let error = Query("count=-1").number("count", 5).unwrap_err();
        assert_eq!(error.to_string(), "query parameter `count` must be a whole number, got `-1`");
    }
}
