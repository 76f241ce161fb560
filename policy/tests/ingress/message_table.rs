//! The requests that no host accepts: those with too many or too large fields, or with a framing that two programs read
//! differently.

use sandgate_policy::ingress::denial::Denial;
use sandgate_policy::ingress::head::Head;
use sandgate_policy::ingress::message::{HEADERS_COUNT_MAX, HEADERS_SIZE_MAX, check};
use test_case::test_case;

const NAME: &str = "x-field";

#[test_case(HEADERS_COUNT_MAX, 0 => true; "as many fields as are allowed")]
#[test_case(HEADERS_COUNT_MAX + 1, 0 => false; "one field more than is allowed")]
#[test_case(1, HEADERS_SIZE_MAX - NAME.len() => true; "one field of the allowed size")]
#[test_case(1, HEADERS_SIZE_MAX - NAME.len() + 1 => false; "one byte more than is allowed")]
#[test_case(4, HEADERS_SIZE_MAX / 4 => false; "names count too")]
fn fields_are_bounded_in_number_and_size(count: usize, size: usize) -> bool {
    let value = vec![b'v'; size];
    let fields = vec![(NAME, value.as_slice()); count];
    match check(Head::new(&fields), || false) {
        Ok(()) => true,
        Err(denial) => {
            assert_eq!((denial, denial.status()), (Denial::HeadersTooLarge, 431));
            false
        }
    }
}

#[test_case(true => false; "HTTP/1.0")]
#[test_case(false => true; "HTTP/1.1")]
fn a_transfer_encoding_needs_http_1_1(is_http10: bool) -> bool {
    let fields = [("x-sandgate-transfer-encoding", &b"chunked"[..])];
    let refused = check(Head::new(&fields), || is_http10);
    assert!(refused.is_ok() || refused.is_err_and(|denial| denial.status() == 400));
    refused.is_ok()
}
