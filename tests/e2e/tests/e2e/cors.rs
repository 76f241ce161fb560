//! CORS headers of the gateway's own responses.

use anyhow::Result;
use sandgate_e2e::{DOMAIN, Setup, run};
use sandgate_stack::client::Answer;
use serde_json::json;

use crate::scripted::{PORT, PROTOCOLS, listening};

const TRUSTED: &str = "https://app.example.com";

#[test]
fn a_page_of_a_trusted_origin_can_read_denials() {
    let setup = Setup { trusted_origins: json!([TRUSTED]), ..Setup::default() };
    run(setup, async |stack| {
        // Nothing listens on this sandbox's port.
        let (sandbox, listener) = listening(stack).await?;
        drop(listener);
        let private = stack.sandbox(json!({ "name": "private", "exposed_ports": [PORT] })).await?;
        let rows = [
            (private.host(PORT), false, "401 UNAUTHENTICATED"),
            (private.host(5000), true, "403 PORT_NOT_EXPOSED"),
            (format!("{PORT}-nobody.{DOMAIN}"), true, "404 SANDBOX_NOT_FOUND"),
            // A response of Envoy itself.
            (sandbox.host(PORT), false, "503 SANDBOX_UNREACHABLE"),
        ];
        for protocol in PROTOCOLS {
            for (host, with_key, expected) in &rows {
                let ask = async |origin: &str| -> Result<Answer> {
                    let call = stack.edge().get(host, "/").over(protocol).header("origin", origin);
                    let call = call.header("x-request-id", "id-of-a-client");
                    let call = if *with_key { call.bearer(stack.key()) } else { call };
                    let answer = call.send().await?;
                    assert_eq!(answer.denial()?, *expected, "{protocol:?}");
                    assert_eq!(answer.header("x-request-id"), Some("id-of-a-client"), "{answer:?}");
                    Ok(answer)
                };
                let answer = ask(TRUSTED).await?;
                assert_eq!(answer.header("access-control-allow-origin"), Some(TRUSTED));
                assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
                assert_eq!(answer.header("vary"), Some("Origin"));
                for origin in ["https://evil.example", "null"] {
                    let answer = ask(origin).await?;
                    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
                    assert_eq!(answer.header("access-control-allow-credentials"), None);
                }
            }
        }
        Ok(())
    });
}
