//! Reads Envoy's access log, and writes it on to the agent's standard output.
//!
//! Envoy bounds the rate of its lines, so not every denial has one; its counters
//! have all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sandgate_policy::denials::{OutboundDenial, Protocol};
use sandgate_policy::egress::ShownName;
use serde::Deserialize;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::DenialReport;

/// The most bytes of a line that are read at once. A line of the access log has at most 4 KiB.
const MAX_LINE: u64 = 16 * 1_024;

/// The fields of a line of the access log. `envoy/sidecar.yaml` has the formats.
#[derive(Deserialize)]
struct Line {
    protocol: String,
    destination: String,
    decision: String,
    rule: String,
    #[serde(default)]
    sni: Option<String>,
    #[serde(default)]
    authority: Option<String>,
}

/// The denials in the access log of one process.
#[derive(Clone, Debug)]
pub(crate) struct EnvoyDenials {
    report: DenialReport,
    logged: Arc<AtomicU64>,
}

impl EnvoyDenials {
    pub(crate) fn adding_to(report: DenialReport) -> Self {
        Self { report, logged: Arc::default() }
    }

    /// The number of denials in the log.
    pub(crate) fn logged(&self) -> u64 {
        self.logged.load(Ordering::Relaxed)
    }

    fn add(&self, denial: OutboundDenial) {
        self.logged.fetch_add(1, Ordering::Relaxed);
        self.report.add(denial);
    }
}

/// Copies all lines, and counts the denials among them. Returns when Envoy has ended. If nothing reads the copy any more, the
/// lines are still read, because otherwise Envoy would keep them in memory.
pub(crate) async fn copy(
    log: impl AsyncRead + Unpin,
    mut copy: impl AsyncWrite + Unpin,
    denials: EnvoyDenials,
) {
    let (mut log, mut line) = (BufReader::new(log), Vec::new());
    loop {
        line.clear();
        match (&mut log).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        drop(copy.write_all(&line).await);
        if log.buffer().is_empty() {
            drop(copy.flush().await);
        }
        if let Some(denial) = denial(&line) {
            denials.add(denial);
        }
    }
}

/// The denial that a line of the access log is about. A connection that a later policy closed is one, too.
fn denial(line: &[u8]) -> Option<OutboundDenial> {
    let line: Line = serde_json::from_slice(line).ok()?;
    if !matches!(line.decision.as_str(), "deny" | "closed") {
        return None;
    }
    let destination: SocketAddr = line.destination.parse().ok()?;
    let is_tcp = line.protocol == "tcp";
    let shown = match (is_tcp, line.sni, line.authority) {
        (true, Some(sni), _) => ShownName::from_sni(sni.as_bytes()),
        (false, _, Some(authority)) => ShownName::from_authority(authority.as_bytes()),
        _ => ShownName::Absent,
    };
    // Only what is a name or an address: a text that is neither may contain a credential, as `user:password@host` does.
    let name = match shown {
        ShownName::Name(name) => Some(name.to_string()),
        ShownName::Address(address) => Some(address.to_string()),
        ShownName::Absent | ShownName::Unparsable => None,
    };
    // The sandbox chooses the name freely, so it must not replace the address that the sandbox really used.
    Some(OutboundDenial {
        destination: destination.ip().to_canonical().to_string(),
        name,
        port: Some(destination.port()),
        protocol: if is_tcp { Protocol::Tcp } else { Protocol::Http },
        rule: line.rule,
    })
}

#[cfg(test)]
mod tests {
    use sandgate_policy::denials::Denials;
    use serde_json::{Value, json};

    use super::*;

    async fn read(log: &str) -> (String, Option<Denials<OutboundDenial>>) {
        let (report, mut copied) = (DenialReport::default(), Vec::new());
        copy(log.as_bytes(), &mut copied, EnvoyDenials::adding_to(report.clone())).await;
        (String::from_utf8(copied).unwrap(), report.take())
    }

    async fn shown(line: Value) -> Option<Value> {
        let (_, report) = read(&format!("{line}\n")).await;
        report.map(|report| serde_json::to_value(&report.denials[0].denial).unwrap())
    }

    #[tokio::test]
    async fn a_denied_connection_is_shown_by_its_address_and_the_name_in_it() {
        let tcp = json!({ "protocol": "tcp", "destination": "203.0.113.7:443", "decision": "deny",
            "rule": "default deny", "flags": "UF" });
        let seen = |destination: &str, protocol: &str| {
            Some(
                json!({ "destination": destination, "port": 443, "protocol": protocol, "rule": "default deny" }),
            )
        };
        assert_eq!(shown(tcp.clone()).await, seen("203.0.113.7", "tcp"));
        let with = |field: &str, value: &str| {
            let mut line = tcp.clone();
            line[field] = json!(value);
            line
        };
        let named = |protocol: &str| {
            let mut seen = seen("203.0.113.7", protocol).unwrap();
            seen["name"] = json!("elsewhere.test");
            Some(seen)
        };
        assert_eq!(shown(with("sni", "Elsewhere.test")).await, named("tcp"));
        let closed = with("decision", "closed");
        assert_eq!(shown(closed).await, seen("203.0.113.7", "tcp"));
        let mut http = with("protocol", "HTTP/1.1");
        http["authority"] = json!("elsewhere.test:8080");
        http["path"] = json!("/secret");
        assert_eq!(shown(http.clone()).await, named("http"));
        http["authority"] = json!("203.0.113.7");
        assert_eq!(shown(http).await, seen("203.0.113.7", "http"));
        assert_eq!(shown(with("decision", "allow")).await, None);
    }

    /// The attack: a sandbox connects to its own server, and shows the name of a harmless one, so that the owner allows that, or never
    /// learns the address.
    #[tokio::test]
    async fn a_shown_name_or_address_does_not_hide_the_address_of_the_connection() {
        for (protocol, field) in [("tcp", "sni"), ("HTTP/1.1", "authority")] {
            for harmless in ["pypi.test", "8.8.8.8"] {
                let mut line = json!({ "protocol": protocol, "destination": "203.0.113.66:443",
                    "decision": "deny", "rule": "default deny" });
                line[field] = json!(harmless);
                let seen = shown(line).await.unwrap();
                assert_eq!(seen["destination"], "203.0.113.66", "{protocol} {harmless}");
                assert_eq!(seen["name"], harmless);
            }
        }
    }

    /// The attack: what a sandbox sends as a name has a credential, or changes the terminal of its owner.
    #[tokio::test]
    async fn a_text_that_is_no_name_is_not_shown() {
        for authority in
            ["user:tl_secret@elsewhere.test", "a b", "\u{1b}[31m", "x?token=tl_secret", "*"]
        {
            let line = json!({ "protocol": "HTTP/2", "destination": "[2001:db8::1]:80",
                "authority": authority, "decision": "deny", "rule": "Host not understood" });
            let seen = shown(line).await.unwrap();
            assert_eq!(seen["destination"], "2001:db8::1", "{authority}");
            assert_eq!(seen.get("name"), None, "{authority}");
        }
    }

    #[tokio::test]
    async fn every_line_is_copied_whatever_it_is() {
        let denied = json!({ "protocol": "tcp", "destination": "203.0.113.7:443", "decision": "deny",
            "rule": "default deny" });
        let log = format!("no json\n{{}}\n{}\n{denied}\nno end", "x".repeat(100_000));
        let (copied, report) = read(&log).await;
        assert_eq!(copied, log);
        assert_eq!(report.unwrap().denials.len(), 1);
    }

    #[tokio::test]
    async fn the_log_is_read_even_if_nothing_reads_the_copy() {
        let (closed, other) = tokio::io::duplex(1);
        drop(other);
        let line = json!({ "protocol": "tcp", "destination": "203.0.113.7:443", "decision": "deny",
            "rule": "default deny" });
        let (log, report) = (format!("{line}\n{line}\n"), DenialReport::default());
        let denials = EnvoyDenials::adding_to(report.clone());
        copy(log.as_bytes(), closed, denials.clone()).await;
        assert_eq!((report.take().unwrap().denials[0].count, denials.logged()), (2, 2));
    }
}
