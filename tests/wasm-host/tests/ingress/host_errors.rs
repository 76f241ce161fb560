//! Host calls that fail.

use super::host::{Headers, Outcome};

use super::live::{SOON_MS, open, warm};
use super::support::{KEY, with_key};

#[test]
fn a_stream_that_cannot_be_reset_is_still_cleaned_and_is_reset_when_the_host_allows_it() {
    let gateway = warm();
    let stream = gateway.send(with_key(8080, "my-env"));
    let websocket = open(&gateway, with_key(8080, "my-env"));
    gateway.host.refuse_streams(true);
    gateway.fleet().revoke(KEY);
    gateway.advance_ms(SOON_MS);
    assert!(stream.is_open() && websocket.is_open());
    assert!(gateway.host.metric("sandgate_ingress_host_errors_total") > 0);
    let response = Headers::from([(":status", "200"), ("x-sandgate-a", "1")]);
    let response = stream.respond(response).expect("a response");
    assert!(!response.contains("x-sandgate-a"));
    gateway.host.refuse_streams(false);
    gateway.advance_ms(100);
    assert_eq!(stream.outcome(), Outcome::Reset);
    assert_eq!(websocket.outcome(), Outcome::Reset);
}
