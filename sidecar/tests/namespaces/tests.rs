//! The tests, with common stub resolvers as clients.

use std::process::Command;

use crate::network::{ALLOWED, NO_RESOLVER, NO_RESOLVER_V6, Network};

pub(crate) struct Test {
    pub(crate) name: &'static str,
    /// A program that only this test needs.
    pub(crate) needs: Option<&'static str>,
    pub(crate) run: fn(),
}

pub(crate) const TESTS: [Test; 11] = [
    test("responses_come_from_the_queried_address", responses_come_from_the_queried_address),
    test("queries_to_a_resolver_in_allow_out_reach_it_directly", an_allowed_resolver_is_asked),
    test("fragmented_queries_are_evaluated_as_whole_ones", fragments),
    test("with_internet_off_every_lookup_fails_immediately", internet_off_fails_at_once),
    test("large_responses_come_over_tcp", large_responses_come_over_tcp),
    test("glibc_resolves_names_with_one_and_two_address_families", glibc_resolves),
    Test {
        needs: Some("musl-gcc"),
        ..test("musl_resolves_names_with_one_and_two_address_families", musl_resolves)
    },
    test("hundreds_of_concurrent_lookups_are_all_answered", hundreds_at_once),
    test("a_response_never_leaves_by_another_interface", an_answer_never_leaves),
    test("a_redirect_works_in_a_shared_namespace", a_redirect_works),
    test("a_policy_change_loses_no_query", a_change_loses_nothing),
];

const fn test(name: &'static str, run: fn()) -> Test {
    Test { name, needs: None, run }
}

const ALLOWS: &str = r#"{"allow_internet_access":false,"allow_out":["ok.test","v4.test"]}"#;

/// dig itself refuses a response from an address that it did not query.
fn responses_come_from_the_queried_address() {
    let network = Network::new("{}");
    for server in [NO_RESOLVER, NO_RESOLVER_V6, "169.254.169.254", "10.77.0.1", "fd77:1::1"] {
        for transport in ["+notcp", "+tcp", "+noedns", "+dnssec"] {
            let answer = network.dig(&format!("@{server} {transport} +short ok.test A"));
            assert_eq!(answer, "203.0.113.10\n", "{server} {transport}");
        }
    }
}

/// Only the first fragment of a query contains the port.
fn fragments() {
    let network = Network::new(r#"{"deny_out":["bad.test"]}"#);
    let padding = "00".repeat(3000);
    for server in [NO_RESOLVER, NO_RESOLVER_V6] {
        let long = format!("@{server} +ednsopt=65001:{padding}");
        assert_eq!(network.dig(&format!("{long} +short ok.test A")), "203.0.113.10\n");
        assert!(network.dig(&format!("{long} bad.test A")).contains("status: NXDOMAIN"));
    }
}

fn an_allowed_resolver_is_asked() {
    let mut network = Network::new("{}");
    let text_of_who = |network: &Network, server: &str, transport: &str| {
        network.dig(&format!("@{server} {transport} +short who.test TXT")).trim().to_owned()
    };
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(text_of_who(&network, ALLOWED, transport), "\"upstream\"", "no rule has it");
    }
    network.set(&format!(
        r#"{{"allow_internet_access":false,"allow_out":["{ALLOWED}"],"deny_out":["bad.test"]}}"#
    ));
    for transport in ["+notcp", "+tcp"] {
        assert_eq!(text_of_who(&network, ALLOWED, transport), "\"allowed\"");
        assert_eq!(
            text_of_who(&network, NO_RESOLVER, transport),
            "",
            "no other resolver is allowed"
        );
        for name in ["bad.test", "alias.test"] {
            let answer = network.dig(&format!("@{ALLOWED} {transport} {name} A"));
            assert!(answer.contains("status: NXDOMAIN"), "{answer}");
        }
        let meta = network.dig(&format!("@{ALLOWED} {transport} +short meta.test A"));
        assert_eq!(meta, "203.0.113.15\n", "guardrails hold there too");
    }
}

fn internet_off_fails_at_once() {
    let network = Network::new(r#"{"allow_internet_access":false}"#);
    for server in [NO_RESOLVER, NO_RESOLVER_V6] {
        for transport in ["+notcp", "+tcp"] {
            for kind in ["A", "AAAA", "TXT", "MX", "HTTPS", "NS", "SRV", "CAA", "PTR", "ANY", "SOA"]
            {
                let answer = network.dig(&format!("@{server} {transport} ok.test {kind}"));
                assert!(answer.contains("status: NXDOMAIN"), "{answer}");
                assert!(answer.contains("EDE: 15 (Blocked): (default deny)"), "{answer}");
            }
        }
    }
    let began = std::time::Instant::now();
    // EAI_NONAME: the name does not exist. A time-out would be EAI_AGAIN, after 5 s and more.
    assert_eq!(network.getaddrinfo("ok.test"), "-2");
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
}

fn large_responses_come_over_tcp() {
    let network = Network::new("{}");
    for size in ["+noedns", "+bufsize=1232", "+bufsize=4096"] {
        let answer = network.dig(&format!("@{NO_RESOLVER} {size} +short huge.test TXT"));
        assert_eq!(answer.lines().count(), 20, "{size}: {answer}");
        let ignores = network.dig(&format!("@{NO_RESOLVER} {size} +ignore huge.test TXT"));
        assert!(ignores.contains(" tc "), "{ignores}");
    }
    let all = network.getaddrinfo("big.test");
    assert_eq!(all.matches("203.0.113.").count(), 100, "{all}");
}

fn glibc_resolves() {
    let mut network = Network::new("{}");
    assert_eq!(network.getaddrinfo("ok.test"), "['2001:db8:113::10', '203.0.113.10']");
    assert_eq!(network.getaddrinfo("v4.test"), "['203.0.113.11']");
    assert_eq!(network.getaddrinfo("missing.test"), "-2");
    network.set(ALLOWS);
    assert_eq!(network.getaddrinfo("ok.test"), "['198.18.0.10', 'fd53:6700::10']");
    assert_eq!(network.getaddrinfo("v4.test"), "['198.18.0.11']");
    assert_eq!(network.getaddrinfo("other.test"), "-2");
}

/// musl queries both families at the same time, and fails if one of the responses is NXDOMAIN.
fn musl_resolves() {
    let folder = tempfile::tempdir().expect("a folder");
    let (source, program) = (folder.path().join("resolve.c"), folder.path().join("resolve"));
    std::fs::write(&source, MUSL).expect("a file");
    let built = Command::new("musl-gcc").args(["-static", "-o"]).args([&program, &source]).status();
    assert!(built.expect("musl-gcc").success());
    let mut network = Network::new("{}");
    let resolve = |network: &Network, name| network.run(&[program.to_str().expect("a path"), name]);
    assert_eq!(resolve(&network, "v4.test"), "203.0.113.11\n");
    assert!(resolve(&network, "ok.test").contains("203.0.113.10\n"));
    assert_eq!(resolve(&network, "missing.test"), "Name does not resolve\n");
    network.set(ALLOWS);
    assert_eq!(resolve(&network, "v4.test"), "198.18.0.11\n");
    assert_eq!(resolve(&network, "other.test"), "Name does not resolve\n");
}

const MUSL: &str = r"
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
int main(int argc, char **argv) {
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *all;
    int error = getaddrinfo(argv[1], 0, &hints, &all);
    if (error) { puts(gai_strerror(error)); return 0; }
    for (; all; all = all->ai_next) {
        char text[64];
        void *a = all->ai_family == AF_INET
            ? (void *)&((struct sockaddr_in *)all->ai_addr)->sin_addr
            : (void *)&((struct sockaddr_in6 *)all->ai_addr)->sin6_addr;
        puts(inet_ntop(all->ai_family, a, text, sizeof text));
    }
}
";

/// Looks up a name from many threads, and prints how many got the expected address.
const MANY: &str = "import socket,sys\n\
    from concurrent.futures import ThreadPoolExecutor\n\
    def one(_): return socket.gethostbyname(sys.argv[1]) == sys.argv[2]\n\
    with ThreadPoolExecutor(64) as pool: print(sum(pool.map(one, range(int(sys.argv[3])))))";

fn hundreds_at_once() {
    let network = Network::new("{}");
    let found = network.run(&["python3", "-c", MANY, "ok.test", "203.0.113.10", "600"]);
    assert_eq!(found.trim(), "600");
}

fn a_change_loses_nothing() {
    let mut network = Network::new("{}");
    std::thread::scope(|scope| {
        // The policies have the same result for this name.
        let sandbox = network.sandbox();
        let asks = scope.spawn(move || {
            sandbox.run(&["python3", "-c", MANY, "ok.test", "203.0.113.10", "1000"])
        });
        let mut changes = 0;
        while !asks.is_finished() {
            let policy = if changes % 2 == 0 { r#"{"deny_out":["bad.test"]}"# } else { "{}" };
            network.set(policy);
            changes += 1;
        }
        assert_eq!(asks.join().expect("a thread").trim(), "1000");
        assert!(changes > 10, "{changes}");
    });
}

/// A sandbox may forge an accomplice's address as the source of its queries. Responses contain the queried names, so a
/// response to the accomplice would exfiltrate data.
fn an_answer_never_leaves() {
    let network = Network::new(r#"{"allow_internet_access":false}"#);
    for (address, server) in [("203.0.113.77", NO_RESOLVER), ("2001:db8:77::77", NO_RESOLVER_V6)] {
        let accomplice = network.impersonate(address, 5353);
        let script = "import socket,sys\n\
            family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n\
            s = socket.socket(family, socket.SOCK_DGRAM); s.bind((sys.argv[1], 5353))\n\
            q = b'\\x12\\x34\\1\\0\\0\\1\\0\\0\\0\\0\\0\\0\\6secret\\4test\\0\\0\\1\\0\\1'\n\
            for _ in range(20): s.sendto(q, (sys.argv[2], 53))";
        network.run(&["python3", "-c", script, address, server]);
        let received = accomplice.wait_with_output().expect("its number").stdout;
        assert_eq!(String::from_utf8_lossy(&received), "0\n", "{address}");
        // The proxy received the queries and still answers ordinary clients.
        assert!(network.dig(&format!("@{server} secret.test A")).contains("status: NXDOMAIN"));
    }
}

fn a_redirect_works() {
    let network = Network::shared(r#"{"deny_out":["bad.test"]}"#);
    for server in [NO_RESOLVER, NO_RESOLVER_V6] {
        for transport in ["+notcp", "+tcp"] {
            let answer = network.dig_as_nobody(&format!("@{server} {transport} +short ok.test A"));
            assert_eq!(answer, "203.0.113.10\n", "{server} {transport}");
            let denied = network.dig_as_nobody(&format!("@{server} {transport} alias.test A"));
            assert!(denied.contains("status: NXDOMAIN"), "{denied}");
        }
    }
}
