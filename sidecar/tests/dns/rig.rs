//! A proxy between test resolvers and a test client.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{RData, RecordType};
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, VirtualMeaning};
use sandgate_sidecar::dns::{Generation, Limits, Listen, Proxy, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::authority::{Authority, Behaviour, name};

/// A test that waits longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
pub(crate) const LOCAL: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
pub(crate) const LOCAL_V6: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

pub(crate) const OPEN: &str = r#"{}"#;
pub(crate) const CLOSED: &str = r#"{"allow_internet_access":false}"#;
pub(crate) const DENIES: &str = r#"{"deny_out":["bad.test","*.denied.test"]}"#;
pub(crate) const ALLOWS: &str = r#"{"allow_internet_access":false,"allow_out":["ok.test","v4.test","via.test","private.test","meta.test","metaonly.test","*.a.ok.test","svc.test","mx.test","missing.test"],"deny_out":["bad.test"]}"#;

pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) sandbox: SocketAddr,
    pub(crate) inner: SocketAddr,
    pub(crate) resolvers: Vec<Authority>,
    _end: DropGuard,
}

impl Rig {
    /// With one resolver without faults.
    pub(crate) async fn new(policy: &str) -> Self {
        Self::with(policy, vec![Behaviour::default()], Limits::default()).await
    }

    pub(crate) async fn with(policy: &str, behaviours: Vec<Behaviour>, limits: Limits) -> Self {
        let mut resolvers = Vec::new();
        for behaviour in behaviours {
            resolvers.push(Authority::start(LOCAL, ZONE, behaviour).await);
        }
        Self::on(policy, LOCAL, resolvers, limits).await
    }

    pub(crate) async fn on(
        policy: &str,
        address: SocketAddr,
        resolvers: Vec<Authority>,
        limits: Limits,
    ) -> Self {
        let listen = |role| Listen { address, role, transparent: false };
        let upstream = resolvers.iter().map(|resolver| resolver.address).collect();
        let (proxy, server) =
            Proxy::bind(&[listen(Role::Sandbox), listen(Role::Envoy)], upstream, limits)
                .expect("free ports");
        let [sandbox, inner] = server.addresses()[..] else { panic!("two listeners") };
        let end = CancellationToken::new();
        tokio::spawn(server.run(end.clone()));
        proxy.set(generation(1, policy, None));
        Self { proxy, sandbox, inner, resolvers, _end: end.drop_guard() }
    }

    pub(crate) async fn ask(&self, text: &str, kind: RecordType) -> Message {
        exchange(self.sandbox, &question(text, kind)).await
    }

    pub(crate) async fn code(&self, text: &str, kind: RecordType) -> ResponseCode {
        self.ask(text, kind).await.metadata.response_code
    }

    pub(crate) async fn inner(&self, text: &str, kind: RecordType) -> Message {
        exchange(self.inner, &question(text, kind)).await
    }

    /// The number of queries that all resolvers received.
    pub(crate) fn seen(&self) -> usize {
        self.resolvers.iter().map(|resolver| resolver.seen().len()).sum()
    }

    pub(crate) fn count(&self, counter: &str) -> u64 {
        let values = self.proxy.counters().values();
        values.iter().find(|(name, _)| *name == counter).expect("a counter").1
    }
}

pub(crate) fn policy(text: &str) -> Arc<Policy> {
    let policy: NetworkPolicy = serde_json::from_str(text).expect("a policy");
    let operator: OperatorSettings = serde_json::from_str(
        r#"{"also_global":["203.0.113.0/24","198.51.100.0/24","2001:db8::/32"],"protected":["198.51.100.66"]}"#,
    )
    .expect("an operator");
    Arc::new(Policy::new(&policy, &operator))
}

pub(crate) fn generation(number: u64, text: &str, and: Option<&str>) -> Generation {
    let meaning = |name: &str| VirtualMeaning::try_from(name.to_owned()).expect("a name");
    let table = [
        ("198.18.0.2", "*"),
        ("fd53:6700::2", "*"),
        ("198.18.0.10", "ok.test"),
        ("fd53:6700::10", "ok.test"),
        ("198.18.0.11", "v4.test"),
        ("fd53:6700::11", "v4.test"),
    ];
    let table = table.map(|(address, name)| (address.parse().expect("an address"), meaning(name)));
    Generation::new(number, policy(text), and.map(policy), table)
}

pub(crate) fn question(text: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name(text), kind));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.edns = Some(edns);
    message
}

/// Sends a datagram, and waits for the response.
pub(crate) async fn raw(to: SocketAddr, datagram: &[u8]) -> Vec<u8> {
    let from = if to.is_ipv4() { LOCAL } else { LOCAL_V6 };
    let socket = UdpSocket::bind(from).await.expect("a port");
    socket.connect(to).await.expect("a route");
    socket.send(datagram).await.expect("to send");
    let mut buffer = vec![0; 65_536];
    let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
    let length = received.expect("an answer, whatever it says").expect("a datagram");
    buffer.truncate(length);
    buffer
}

pub(crate) async fn exchange(to: SocketAddr, question: &Message) -> Message {
    let wire = raw(to, &question.to_vec().expect("a message")).await;
    Message::from_vec(&wire).expect("an answer that can be parsed")
}

pub(crate) async fn by_tcp(to: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(to).await.expect("a connection");
    write(&mut stream, question).await;
    read(&mut stream).await
}

pub(crate) async fn write(stream: &mut TcpStream, question: &Message) {
    let wire = question.to_vec().expect("a message");
    let length = u16::try_from(wire.len()).expect("a short question");
    stream.write_all(&[&length.to_be_bytes(), wire.as_slice()].concat()).await.expect("to write");
}

pub(crate) async fn read(stream: &mut TcpStream) -> Message {
    let answer = async {
        let length = stream.read_u16().await.expect("a length");
        let mut wire = vec![0; usize::from(length)];
        stream.read_exact(&mut wire).await.expect("a message");
        Message::from_vec(&wire).expect("an answer that can be parsed")
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("an answer, whatever it says")
}

/// The addresses in all sections, including the hints of service bindings, as sorted text.
pub(crate) fn addresses(message: &Message) -> Vec<String> {
    use hickory_proto::rr::rdata::svcb::SvcParamValue;
    let mut all = Vec::new();
    for record in message.all_sections() {
        all.extend(record.data.ip_addr().map(|address| address.to_string()));
        let RData::HTTPS(https) = &record.data else { continue };
        for (_, value) in &https.0.svc_params {
            match value {
                SvcParamValue::Ipv4Hint(hints) => {
                    all.extend(hints.0.iter().map(|a| a.0.to_string()))
                }
                SvcParamValue::Ipv6Hint(hints) => {
                    all.extend(hints.0.iter().map(|a| a.0.to_string()))
                }
                _ => {}
            }
        }
    }
    all.sort();
    all
}

/// The zone of the tests. `0.66` is the address of a denied name.
pub(crate) const ZONE: &str = include_str!("zone.txt");
