//! The kinds of requests: upgrades, gRPC, and the navigation of a browser.

use sandgate_policy::ingress::head::Head;
use test_case::test_case;

use crate::ingress::support::{APP, Req};

fn get() -> Req {
    Req::get(APP)
}

#[test_case(get() => (false, false); "a plain request")]
#[test_case(get().and("upgrade", "websocket") => (true, true); "HTTP/1.1")]
#[test_case(get().and("upgrade", "h2c, WebSocket") => (true, true); "one of a list, in other case")]
#[test_case(get().and("upgrade", "h2c").and("upgrade", "websocket") => (true, true); "one of two headers")]
#[test_case(get().and("upgrade", "h2c") => (true, false); "another protocol")]
#[test_case(get().and("upgrade", "websockets") => (true, false); "a protocol that starts alike")]
#[test_case(get().and("upgrade", "") => (true, false); "an empty protocol")]
#[test_case(Req::new("CONNECT", APP) => (true, false); "a plain CONNECT")]
#[test_case(Req::new("CONNECT", APP).and(":protocol", "websocket") => (true, true); "HTTP/2")]
#[test_case(Req::new("CONNECT", APP).and(":protocol", "connect-udp") => (true, false); "another protocol of HTTP/2")]
#[test_case(get().and(":protocol", "websocket") => (true, true); "HTTP/2, whatever method an intermediary shows")]
#[test_case(get().and("connection", "upgrade").and("sec-websocket-key", "k") => (false, false); "no protocol is named")]
fn upgrades_and_websockets(request: Req) -> (bool, bool) {
    (Head::new(&request.fields()).is_upgrade(), Head::new(&request.fields()).is_websocket())
}

#[test_case("application/grpc" => true; "plain")]
#[test_case("application/grpc+proto" => true; "with an encoding")]
#[test_case("application/grpc+json; charset=utf-8" => true; "with an encoding and a parameter")]
#[test_case("application/grpc;charset=utf-8" => false; "with a parameter, which Envoy does not take for gRPC")]
#[test_case("application/grpc ; x=1" => false; "with a space before the parameter")]
#[test_case("Application/GRPC" => false; "in other case")]
#[test_case("application/grpc-web" => false; "grpc-web is plain HTTP")]
#[test_case("application/grpc-web+proto" => false; "grpc-web with an encoding")]
#[test_case("application/grpc-web-text" => false; "grpc-web as text")]
#[test_case("application/grpcx" => false; "a type that starts alike")]
#[test_case("application/json; x=application/grpc" => false; "in a parameter")]
#[test_case("application/json" => false; "another type")]
#[test_case("" => false; "empty")]
fn grpc(content_type: &str) -> bool {
    Head::new(&get().and("content-type", content_type).fields()).is_grpc()
}

#[test_case(get().and("accept", "text/html,application/xml;q=0.9,*/*;q=0.8") => true; "an old browser")]
#[test_case(get().and("accept", "application/xml, Text/HTML;q=0.9") => true; "in other case, with a weight")]
#[test_case(get().and("accept", "text/html").and("sec-fetch-mode", "navigate") => true; "a browser that navigates")]
#[test_case(get().and("accept", "text/html").and("sec-fetch-mode", "cors") => false; "a script that fetches")]
#[test_case(get().and("accept", "text/html").and("sec-fetch-mode", "websocket") => false; "a script that opens a WebSocket")]
#[test_case(get().and("accept", "*/*") => false; "a program that takes anything")]
#[test_case(get().and("accept", "text/html5") => false; "a type that starts alike")]
#[test_case(get().and("sec-fetch-mode", "navigate") => false; "a browser that takes no HTML")]
#[test_case(get() => false; "neither")]
fn navigations(request: Req) -> bool {
    Head::new(&request.fields()).is_navigation()
}

#[test]
fn grpc_is_read_only_where_there_is_a_content_type() {
    assert!(!Head::new(&get().fields()).is_grpc());
}
