//! Invalid queries get the responses that the RFCs define.

use hickory_proto::op::{Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, RecordType};
use proptest::prelude::*;
use test_case::test_case;

use crate::authority::name;
use crate::rig::{OPEN, Rig, by_tcp, exchange, question, raw};

fn changed(change: impl FnOnce(&mut Message)) -> Message {
    let mut message = question("ok.test", RecordType::A);
    change(&mut message);
    message
}

fn second_question(message: &mut Message) {
    message.add_query(Query::query(name("bad.test"), RecordType::A));
}

#[test_case(|m| m.metadata.op_code = OpCode::Update, ResponseCode::NotImp; "an update")]
#[test_case(|m| m.metadata.op_code = OpCode::Notify, ResponseCode::NotImp; "a notification")]
#[test_case(|m| m.metadata.op_code = OpCode::Status, ResponseCode::NotImp; "a status")]
#[test_case(second_question, ResponseCode::FormErr; "two questions")]
#[test_case(|m| m.queries.clear(), ResponseCode::FormErr; "no question")]
#[test_case(|m| { m.queries[0].set_query_class(DNSClass::CH); }, ResponseCode::Refused; "class CH")]
#[test_case(|m| { m.queries[0].set_query_class(DNSClass::ANY); }, ResponseCode::Refused; "any class")]
#[test_case(|m| { m.queries[0].set_query_type(RecordType::AXFR); }, ResponseCode::Refused; "a zone transfer")]
#[test_case(|m| { m.queries[0].set_query_type(RecordType::IXFR); }, ResponseCode::Refused; "an incremental one")]
#[test_case(|m| { m.queries[0].set_query_type(RecordType::OPT); }, ResponseCode::FormErr; "options as a question")]
#[test_case(|m| { m.queries[0].set_query_type(RecordType::from(249)); }, ResponseCode::NotImp; "a key exchange")]
// 16 is BADVERS in a response with EDNS, and BADSIG elsewhere (RFC 6895 §2.3). The library calls it BADSIG.
#[test_case(|m| { m.edns.as_mut().unwrap().set_version(1); }, ResponseCode::BADSIG; "EDNS of the future")]
#[tokio::test]
async fn an_invalid_query_is_rejected_and_not_forwarded(
    change: fn(&mut Message),
    code: ResponseCode,
) {
    let rig = Rig::new(OPEN).await;
    let message = changed(change);
    for answer in [exchange(rig.sandbox, &message).await, by_tcp(rig.sandbox, &message).await] {
        assert_eq!(answer.metadata.response_code, code);
        assert_eq!(answer.metadata.id, 0x1234);
        // The response to a query with EDNS has EDNS (RFC 6891 §6.1.1).
        assert!(answer.edns.is_some_and(|edns| edns.version() == 0 && edns.max_payload() == 1232));
    }
    assert_eq!((rig.seen(), rig.count("malformed")), (0, 2));
    let mut plain = message;
    plain.edns = None;
    assert!(exchange(rig.sandbox, &plain).await.edns.is_none(), "EDNS, unasked");
}

#[test_case(&[]; "no questions section")]
#[test_case(b"\x02ok"; "cut off in the name")]
#[test_case(b"\xc0\x0c\x00\x01\x00\x01"; "a name that points to itself")]
#[test_case(b"\xc0\x00\x00\x01\x00\x01"; "a name that points into the header")]
#[test_case(b"\x40abc\x00\x00\x01\x00\x01"; "a label of an unknown kind")]
#[test_case(b"\x02ok\x00\x00\x01"; "without a class")]
#[tokio::test]
async fn an_unparseable_query_is_a_format_error(rest: &[u8]) {
    let rig = Rig::new(OPEN).await;
    let wire = [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], rest].concat();
    let answer = raw(rig.sandbox, &wire).await;
    assert_eq!(answer, [0x12, 0x34, 0x81, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test_case(0, 0, None; "a question that is cut off")]
#[test_case(1, 1, Some(false); "a record in the answer section")]
#[test_case(1, 2, None; "a record that is cut off")]
#[tokio::test]
async fn a_format_error_has_edns_if_the_query_shows_it(
    questions: u8,
    answers: u8,
    edns: Option<bool>,
) {
    let rig = Rig::new(OPEN).await;
    let record = b"\x02ok\x04test\x00\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xcb\x00\x71\x0a";
    let opt = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    let header = [0x12, 0x34, 1, 0, 0, questions, 0, answers, 0, 0, 0, 1];
    let question = b"\x02ok\x04test\x00\x00\x01\x00\x01";
    let wire = match (questions, answers) {
        (0, _) => [&header[..4], &[0, 1, 0, 0, 0, 0, 0, 1], &question[..6]].concat(),
        (_, 1) => [&header[..], question, record, opt].concat(),
        _ => [&header[..], question, record, &record[..9]].concat(),
    };
    let answer = raw(rig.sandbox, &wire).await;
    let found = hickory_proto::op::Message::from_vec(&answer).expect("a message");
    assert_eq!(found.metadata.response_code, ResponseCode::FormErr);
    assert_eq!(found.edns.map(|edns| edns.flags().dnssec_ok), edns);
}

/// The response repeats the DO bit (RFC 3225 §3).
#[tokio::test]
async fn a_rejection_keeps_the_dnssec_ok_flag() {
    let rig = Rig::new(OPEN).await;
    let mut message = changed(second_question);
    message.edns.as_mut().unwrap().set_dnssec_ok(true);
    let answer = exchange(rig.sandbox, &message).await;
    assert!(answer.edns.is_some_and(|edns| edns.flags().dnssec_ok));
}

#[tokio::test]
async fn a_response_sent_to_the_proxy_gets_no_response() {
    let rig = Rig::new(OPEN).await;
    let socket = tokio::net::UdpSocket::bind(crate::rig::LOCAL).await.unwrap();
    socket.connect(rig.sandbox).await.unwrap();
    let mut answer = question("ok.test", RecordType::A).to_vec().unwrap();
    answer[2] |= 0x80;
    socket.send(&answer).await.unwrap();
    socket.send(b"short").await.unwrap();
    // The first response belongs to the query after them.
    let mut good = question("ok.test", RecordType::A);
    good.metadata.id = 0x4321;
    socket.send(&good.to_vec().unwrap()).await.unwrap();
    let mut buffer = [0; 1500];
    let received = tokio::time::timeout(crate::rig::PATIENCE, socket.recv(&mut buffer)).await;
    received.expect("an answer").unwrap();
    assert_eq!(buffer[..2], [0x43, 0x21]);
}

#[tokio::test]
async fn an_oversized_datagram_is_malformed_and_the_proxy_continues() {
    let rig = Rig::new(OPEN).await;
    let mut wire = question("ok.test", RecordType::A).to_vec().unwrap();
    wire.resize(9000, 0xff);
    raw(rig.sandbox, &wire).await;
    assert_eq!(rig.ask("ok.test", RecordType::A).await.answers.len(), 1);
}

#[test]
fn the_proxy_continues_after_any_bytes() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let rig = runtime.block_on(Rig::new(OPEN));
    let good = question("ok.test", RecordType::A).to_vec().unwrap();
    let garbage = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..600),
        (proptest::collection::vec((0..good.len(), any::<u8>()), 1..6)).prop_map(move |changes| {
            let mut wire = good.clone();
            changes.into_iter().for_each(|(place, byte)| wire[place] = byte);
            wire
        }),
    ];
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() };
    // One socket for all, because a response to garbage must not be taken for the response to the next query.
    let socket = runtime.block_on(tokio::net::UdpSocket::bind(crate::rig::LOCAL)).unwrap();
    proptest!(config, |(wire in garbage)| {
        runtime.block_on(socket.send_to(&wire, rig.sandbox)).unwrap();
        let answer = runtime.block_on(rig.ask("ok.test", RecordType::A));
        prop_assert_eq!(answer.answers.len(), 1);
    });
}
