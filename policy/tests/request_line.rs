//! Which request lines go nowhere, by HTTP/1.1 and HTTP/2 alike.

use sandgate_policy::request_line::{InvalidLine, check};
use test_case::test_case;

#[test_case("GET", "/a/b?c=d&e", Ok(()); "an ordinary one")]
#[test_case("FrobNicate!", "/", Ok(()); "any token is a method")]
#[test_case("OPTIONS", "*", Ok(()); "the whole server")]
#[test_case("CONNECT", "", Ok(()); "no path")]
#[test_case("GET", "/\"<>{}|\\^`%zz", Ok(()); "unwise characters")]
#[test_case("", "/", Err(InvalidLine::Method); "no method")]
#[test_case("FR@B", "/", Err(InvalidLine::Method); "a method that is no token")]
#[test_case("GET ", "/", Err(InvalidLine::Method); "a space in a method")]
#[test_case("G\u{c9}T", "/", Err(InvalidLine::Method); "a letter outside ASCII in a method")]
#[test_case("GET", "/caf\u{e9}", Err(InvalidLine::Path); "a letter outside ASCII in a path")]
fn a_request_line_is_sent_on_or_refused(
    method: &str,
    path: &str,
    expected: Result<(), InvalidLine>,
) {
    assert_eq!(check(method.as_bytes(), path.as_bytes()), expected);
}
