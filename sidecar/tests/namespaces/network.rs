//! The network of one test: three isolated namespaces, and their processes.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::inside::PORT;

/// The gateway's resolver, a resolver that an owner may allow, and addresses without a resolver.
pub(crate) const UPSTREAM: &str = "198.51.100.53";
pub(crate) const ALLOWED: &str = "203.0.113.53";
pub(crate) const NO_RESOLVER: &str = "203.0.113.99";
pub(crate) const NO_RESOLVER_V6: &str = "2001:db8:53::99";

/// A user other than the agent's.
const NOBODY_UID: u32 = 65534;

static NETWORKS: AtomicU32 = AtomicU32::new(0);

/// The namespaces and processes. Dropping the value removes them.
pub(crate) struct Network {
    sandbox: String,
    gateway: String,
    internet: String,
    proxy: (Child, ChildStdin, BufReader<ChildStdout>),
    resolvers: Vec<(Child, ChildStdin)>,
}

impl Network {
    /// Starts the proxy in the gateway with this policy.
    pub(crate) fn new(policy: &str) -> Self {
        let number = NETWORKS.fetch_add(1, Ordering::SeqCst);
        let name = |part: &str| format!("sgdns-{}-{number}-{part}", std::process::id());
        let (sandbox, gateway, internet) = (name("sandbox"), name("gateway"), name("internet"));
        let cleanup = Cleanup(vec![sandbox.clone(), gateway.clone(), internet.clone()]);
        build(&sandbox, &gateway, &internet);
        let mut resolvers = Vec::new();
        for (label, address) in [("upstream", UPSTREAM), ("allowed", ALLOWED)] {
            let address = format!("{address}:53");
            let (child, input, mut out) = start(&internet, &["resolver", label, &address]);
            assert_eq!(line(&mut out), "ready");
            resolvers.push((child, input));
        }
        let proxy = start(&gateway, &["gateway", &format!("{UPSTREAM}:53")]);
        std::mem::forget(cleanup);
        let mut network = Self { sandbox, gateway, internet, proxy, resolvers };
        network.set(policy);
        network
    }

    /// The same network, with sandbox and proxy in one namespace: nftables redirects the queries of users other than
    /// the agent's.
    pub(crate) fn shared(policy: &str) -> Self {
        let mut network = Self::new(policy);
        let (gateway, upstream) = (network.gateway.clone(), format!("{UPSTREAM}:53"));
        network.proxy.0.kill().expect("the first proxy");
        network.proxy.0.wait().expect("its end");
        network.proxy = start(&gateway, &["shared", &upstream]);
        network.set(policy);
        let rules = format!(
            "table inet shared {{ chain dns {{\n\
               type nat hook output priority -100; policy accept;\n\
               meta skuid {NOBODY_UID} meta l4proto {{ tcp, udp }} th dport 53 redirect to :{PORT}\n\
             }}\n\
             }}\n"
        );
        nft(&gateway, &rules);
        network
    }

    /// Runs `dig` as an unprivileged user in the gateway's namespace.
    pub(crate) fn dig_as_nobody(&self, arguments: &str) -> String {
        let id = NOBODY_UID.to_string();
        let user = ["setpriv", "--reuid", &id, "--clear-groups", "dig", "+tries=1", "+time=8"];
        let command: Vec<_> = user.into_iter().chain(arguments.split(' ')).collect();
        Sandbox(self.gateway.clone()).run(&command)
    }

    /// Changes the policy, and waits until it is in force.
    pub(crate) fn set(&mut self, policy: &str) {
        writeln!(self.proxy.1, "{policy}").expect("the proxy reads");
        line(&mut self.proxy.2).parse::<u64>().expect("the number of a generation");
    }

    /// A handle that runs programs while the policy changes.
    pub(crate) fn sandbox(&self) -> Sandbox {
        Sandbox(self.sandbox.clone())
    }

    /// Assigns the sandbox an address that a host on the internet has too, and starts a listener on `port` there, which
    /// prints the number of datagrams that it received.
    pub(crate) fn impersonate(&self, address: &str, port: u16) -> Child {
        for namespace in [&self.sandbox, &self.internet] {
            ip(&format!("-n {namespace} address add {address} dev lo"));
        }
        // Disables the kernel's own check, so that only the proxy prevents the leak.
        let off = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done";
        assert!(inside(&self.gateway, &["sh", "-c", off]).status().expect("sh").success());
        let script = "import socket,sys\n\
            family = socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET\n\
            s = socket.socket(family, socket.SOCK_DGRAM); s.bind((sys.argv[1], int(sys.argv[2])))\n\
            print('ready', flush=True); s.settimeout(3); n = 0\n\
            try:\n  while True: s.recv(4096); n += 1\n\
            except TimeoutError: print(n)";
        let port = port.to_string();
        let mut listener = inside(&self.internet, &["python3", "-c", script, address, &port])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let mut ready = [0; 6];
        listener.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("a line");
        listener
    }

    /// Runs a program in the sandbox, and returns what it printed.
    pub(crate) fn run(&self, command: &[&str]) -> String {
        self.sandbox().run(command)
    }

    /// `dig`, without its banner.
    pub(crate) fn dig(&self, arguments: &str) -> String {
        let quick = ["dig", "+tries=1", "+time=8"];
        let arguments: Vec<_> = quick.into_iter().chain(arguments.split(' ')).collect();
        self.run(&arguments)
    }

    /// The addresses, or the error code, of glibc's getaddrinfo for any family.
    pub(crate) fn getaddrinfo(&self, name: &str) -> String {
        let script = "import socket,sys\n\
            try: print(sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80)}))\n\
            except socket.gaierror as e: print(e.errno)";
        self.run(&["python3", "-c", script, name]).trim().to_owned()
    }
}

/// The sandbox's namespace.
pub(crate) struct Sandbox(String);

impl Sandbox {
    pub(crate) fn run(&self, command: &[&str]) -> String {
        let done = inside(&self.0, command).output().expect("a program");
        String::from_utf8(done.stdout).expect("text")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let resolvers = self.resolvers.iter_mut().map(|(child, _)| child);
        for child in resolvers.chain([&mut self.proxy.0]) {
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(Cleanup(vec![self.sandbox.clone(), self.gateway.clone(), self.internet.clone()]));
    }
}

/// Namespaces to remove, with what `ip netns` mounts in them.
struct Cleanup(Vec<String>);

impl Drop for Cleanup {
    fn drop(&mut self) {
        for namespace in &self.0 {
            let _ = Command::new("ip").args(["netns", "delete", namespace]).status();
            let _ = std::fs::remove_dir_all(config_folder(namespace));
        }
    }
}

/// The folder whose files `ip netns exec` mounts over those in `/etc`.
fn config_folder(namespace: &str) -> PathBuf {
    PathBuf::from("/etc/netns").join(namespace)
}

fn build(sandbox: &str, gateway: &str, internet: &str) {
    for namespace in [sandbox, gateway, internet] {
        ip(&format!("netns add {namespace}"));
        ip(&format!("-n {namespace} link set lo up"));
    }
    link(
        sandbox,
        "10.77.0.2/24",
        "fd77:1::2/64",
        gateway,
        "10.77.0.1/24",
        "fd77:1::1/64",
        "inside",
    );
    link(
        internet,
        "198.51.100.53/24",
        "fd77:2::2/64",
        gateway,
        "198.51.100.1/24",
        "fd77:2::1/64",
        "outside",
    );
    ip(&format!("-n {internet} address add {ALLOWED}/32 dev lo"));
    ip(&format!("-n {sandbox} route add default via 10.77.0.1"));
    ip(&format!("-n {sandbox} -6 route add default via fd77:1::1"));
    ip(&format!("-n {gateway} route add default via 198.51.100.53"));
    ip(&format!("-n {gateway} -6 route add default via fd77:2::2"));
    // Delivers packets that `tproxy` has marked locally, whatever their address.
    for family in ["-4", "-6"] {
        ip(&format!("-n {gateway} {family} rule add fwmark 1 lookup 100"));
        ip(&format!("-n {gateway} {family} route add local default dev lo table 100"));
    }
    let rules = format!(
        "table inet sandgate {{ chain dns {{\n\
           type filter hook prerouting priority mangle; policy accept;\n\
           iifname inside meta nfproto ipv4 meta l4proto {{ tcp, udp }} th dport 53 tproxy ip to :{PORT} meta mark set 1 accept\n\
           iifname inside meta nfproto ipv6 meta l4proto {{ tcp, udp }} th dport 53 tproxy ip6 to :{PORT} meta mark set 1 accept\n\
         }}\n\
         }}\n"
    );
    nft(gateway, &rules);
    let files = config_folder(sandbox);
    std::fs::create_dir_all(&files).expect("to write to /etc/netns");
    std::fs::write(files.join("resolv.conf"), format!("nameserver {NO_RESOLVER}\n"))
        .expect("a file");
}

fn nft(namespace: &str, rules: &str) {
    let mut nft =
        inside(namespace, &["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
    nft.stdin.take().expect("a pipe").write_all(rules.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("nft").success(), "nft refused the rules");
}

fn link(left: &str, v4: &str, v6: &str, right: &str, right_v4: &str, right_v6: &str, name: &str) {
    ip(&format!("-n {left} link add eth0 type veth peer name {name} netns {right}"));
    for (namespace, device, v4, v6) in [(left, "eth0", v4, v6), (right, name, right_v4, right_v6)] {
        ip(&format!("-n {namespace} address add {v4} dev {device}"));
        ip(&format!("-n {namespace} address add {v6} dev {device} nodad"));
        ip(&format!("-n {namespace} link set {device} up"));
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().expect("ip");
    assert!(status.success(), "ip {arguments}");
}

fn inside(namespace: &str, command: &[&str]) -> Command {
    let mut inside = Command::new("ip");
    inside.args(["netns", "exec", namespace]).args(command);
    inside
}

/// Starts this program in a namespace. It ends when its input does.
fn start(namespace: &str, role: &[&str]) -> (Child, ChildStdin, BufReader<ChildStdout>) {
    let this = std::env::current_exe().expect("this program");
    let command = [&[this.to_str().expect("a path"), "inside"], role].concat();
    let mut child = inside(namespace, &command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program again");
    let (input, out) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    (child, input, BufReader::new(out))
}

fn line(out: &mut BufReader<ChildStdout>) -> String {
    let mut line = String::new();
    out.read_line(&mut line).expect("a line");
    line.trim().to_owned()
}
