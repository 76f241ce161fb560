//! Which datagrams answer a question.

use test_case::test_case;

use super::*;

/// `ok.test A`, id 0x1234.
const QUESTION: &[u8] =
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02ok\x04test\x00\x00\x01\x00\x01";

fn verdict(change: impl FnOnce(&mut Vec<u8>)) -> bool {
    let query = Query::parse(QUESTION, Transport::Udp).unwrap();
    let mut answer = QUESTION.to_vec();
    answer[2] = 0x81;
    change(&mut answer);
    is_response(&query, 0x1234, &answer)
}

#[test_case(|_| {}; "the same")]
#[test_case(|answer| answer[13..15].copy_from_slice(b"OK"); "in other letters")]
#[test_case(|answer| answer.extend_from_slice(b"more"); "with more behind it")]
#[test_case(|answer| { answer.truncate(12); answer[3] = 1; answer[5] = 0; }; "a failure by header alone")]
fn it_does(change: fn(&mut Vec<u8>)) {
    assert!(verdict(change));
}

#[test_case(|answer| answer[0] ^= 1; "another id")]
#[test_case(|answer| answer[2] = 0x01; "a question")]
#[test_case(|answer| answer[2] = 0xa9; "another opcode")]
#[test_case(|answer| answer[5] = 2; "two questions")]
#[test_case(|answer| { answer.truncate(12); answer[5] = 0; }; "a success by header alone")]
#[test_case(|answer| answer[13] = b'0'; "another name")]
#[test_case(|answer| answer[22] = 28; "another type")]
#[test_case(|answer| answer[22] = 1 ^ 0x20; "a type that differs as letters do")]
#[test_case(|answer| answer[24] = 3; "another class")]
#[test_case(|answer| answer.truncate(24); "cut off")]
#[test_case(Vec::clear; "empty")]
fn it_does_not(change: fn(&mut Vec<u8>)) {
    assert!(!verdict(change));
}

#[test]
fn a_question_is_forwarded_under_the_id_that_is_given_and_otherwise_as_it_was() {
    let query = Query::parse(QUESTION, Transport::Udp).unwrap();
    let forwarded = query.forwarded(0xabcd);
    assert_eq!(forwarded[..2], [0xab, 0xcd]);
    assert_eq!(forwarded[2..], QUESTION[2..]);
}
