//! Limits of clients: queries beyond a limit get a response.

use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use sandgate_sidecar::dns::{BindError, Limits, Listen, Proxy, Role};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::authority::Behaviour;
use crate::rig::{CLOSED, LOCAL, OPEN, PATIENCE, Rig, by_tcp, question, read, write};

fn slow(milliseconds: u64) -> Vec<Behaviour> {
    vec![Behaviour { delay: Duration::from_millis(milliseconds), ..Behaviour::default() }]
}

#[tokio::test]
async fn queries_beyond_the_limit_get_servfail() {
    let limits = Limits { questions: 8, ..Limits::default() };
    let rig = Rig::with(OPEN, slow(300), limits).await;
    let socket = UdpSocket::bind(LOCAL).await.unwrap();
    socket.connect(rig.sandbox).await.unwrap();
    for id in 0..40_u16 {
        let mut message = question("ok.test", RecordType::A);
        message.metadata.id = id;
        socket.send(&message.to_vec().unwrap()).await.unwrap();
    }
    let (mut good, mut overloaded, mut buffer) = (0, 0, [0; 1500]);
    for _ in 0..40 {
        let received = tokio::time::timeout(PATIENCE, socket.recv(&mut buffer)).await;
        received.expect("an answer for each").unwrap();
        match buffer[3] & 0x0f {
            0 => good += 1,
            2 => overloaded += 1,
            code => panic!("unexpected {code}"),
        }
    }
    assert_eq!((good, overloaded), (8, 32));
    assert_eq!(rig.count("overloaded"), 32);
    assert_eq!(rig.code("ok.test", RecordType::A).await, ResponseCode::NoError, "it passes");
}

#[tokio::test]
async fn refused_queries_do_not_count_toward_the_limit() {
    let limits = Limits { questions: 0, ..Limits::default() };
    let rig = Rig::with(CLOSED, slow(0), limits).await;
    assert_eq!(rig.code("ok.test", RecordType::A).await, ResponseCode::NXDomain);
}

#[tokio::test]
async fn a_connection_carries_many_queries_and_responses_come_out_of_order() {
    let rig = Rig::with(OPEN, slow(100), Limits::default()).await;
    let mut stream = TcpStream::connect(rig.sandbox).await.unwrap();
    for id in 0..50_u16 {
        let mut message = question("ok.test", RecordType::A);
        message.metadata.id = id;
        write(&mut stream, &message).await;
    }
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(read(&mut stream).await.metadata.id);
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_client_that_half_closed_its_connection_gets_its_response() {
    let rig = Rig::with(OPEN, slow(200), Limits::default()).await;
    let mut stream = TcpStream::connect(rig.sandbox).await.unwrap();
    write(&mut stream, &question("ok.test", RecordType::A)).await;
    stream.shutdown().await.unwrap();
    assert_eq!(read(&mut stream).await.answers.len(), 1);
}

#[tokio::test]
async fn connections_beyond_the_limit_get_servfail() {
    let limits = Limits { connections: 2, ..Limits::default() };
    let rig = Rig::with(OPEN, slow(0), limits).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(rig.sandbox).await.unwrap();
        write(&mut stream, &question("ok.test", RecordType::A)).await;
        assert_eq!(read(&mut stream).await.answers.len(), 1);
        held.push(stream);
    }
    let answer = by_tcp(rig.sandbox, &question("ok.test", RecordType::A)).await;
    assert_eq!(answer.metadata.response_code, ResponseCode::ServFail);
    assert_eq!(rig.count("overloaded_connections"), 1);
    drop(held);
    let freed = async {
        let asked = question("ok.test", RecordType::A);
        while by_tcp(rig.sandbox, &asked).await.answers.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("a place is free again");
}

#[tokio::test]
async fn an_idle_connection_is_closed_even_in_the_middle_of_a_message() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let rig = Rig::with(OPEN, slow(0), limits).await;
    for start in [&b""[..], b"\x00", b"\xff\xffabc"] {
        let mut stream = TcpStream::connect(rig.sandbox).await.unwrap();
        stream.write_all(start).await.unwrap();
        let closed = tokio::time::timeout(PATIENCE, stream.read_u8()).await.expect("an end");
        assert!(closed.is_err());
    }
}

#[tokio::test]
async fn binding_fails_with_the_reason() {
    let limits = Limits::default();
    let none = Proxy::bind(&[], vec![], limits).err();
    assert!(matches!(none, Some(BindError::NoResolver)));
    let any =
        Listen { address: "0.0.0.0:0".parse().unwrap(), role: Role::Envoy, transparent: false };
    let refused = Proxy::bind(&[any], vec![LOCAL], limits).err();
    assert!(matches!(refused, Some(BindError::Unspecified(_))));
    let taken = std::net::UdpSocket::bind(LOCAL).unwrap();
    let address = taken.local_addr().unwrap();
    let listen = Listen { address, role: Role::Envoy, transparent: false };
    let reason = Proxy::bind(&[listen], vec![LOCAL], limits).err().unwrap();
    assert_eq!(reason.to_string(), format!("can't listen on {address} for DNS by UDP"));
}
