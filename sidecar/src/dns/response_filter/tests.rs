//! Tests with arbitrary responses of resolvers: the filter removes what the policy forbids, and does not fail.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hickory_proto::op::OpCode;
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, HTTPS, MX, NULL, SVCB};
use proptest::prelude::*;
use sandgate_policy::egress::{NetworkPolicy, OperatorSettings, Policy, VirtualMeaning};

use super::super::query::Transport;
use super::*;

const BAD: &str = "bad.test.";
/// The records of `ok.test`.
const VIRTUAL: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 18, 0, 10));
const NAMES: [&str; 5] = ["ok.test.", "OK.test.", BAD, "x.BAD.test.", "other.test."];

/// The client's response without the observed addresses.
fn filter(
    query: &Query,
    wire: &[u8],
    mode: FilterMode,
    generation: &Generation,
    counters: &Counters,
) -> Result<Vec<u8>, Withheld> {
    super::filter(query, wire, mode, generation, counters).map(|filtered| filtered.wire)
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn generation(policy: &str) -> Generation {
    let policy: NetworkPolicy = serde_json::from_str(policy).unwrap();
    let policy = Arc::new(Policy::new(&policy, &OperatorSettings::default()));
    let virtual_v4 = (VIRTUAL, VirtualMeaning::try_from("ok.test".to_owned()).unwrap());
    Generation::new(1, policy, None, [virtual_v4])
}

fn query(kind: RecordType, transport: Transport) -> Query {
    let kind = u16::from(kind).to_be_bytes();
    let header = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    let wire = [&header[..], b"\x02ok\x04test\x00", &kind, &[0, 1]].concat();
    Query::parse(&wire, transport).unwrap()
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::sample::select(&NAMES[..]).prop_map(name)
}

fn any_v4() -> impl Strategy<Value = Ipv4Addr> {
    let bad = [Ipv4Addr::new(169, 254, 169, 254), Ipv4Addr::LOCALHOST, Ipv4Addr::new(10, 0, 0, 1)];
    prop_oneof![prop::sample::select(bad.to_vec()), any::<u32>().prop_map(Ipv4Addr::from)]
}

fn any_v6() -> impl Strategy<Value = Ipv6Addr> {
    prop_oneof![
        any::<u128>().prop_map(Ipv6Addr::from),
        any_v4().prop_map(|v4| v4.to_ipv6_mapped()),
        any_v4().prop_map(|v4| (0x64_ff9b << 96 | u128::from(v4.to_bits())).into()),
        any_v4().prop_map(|v4| (0x2002 << 112 | u128::from(v4.to_bits()) << 80).into()),
    ]
}

fn any_binding() -> impl Strategy<Value = SVCB> {
    let v4 = prop::collection::vec(any_v4(), 1..3);
    let v6 = prop::collection::vec(any_v6(), 1..3);
    (any_name(), any::<bool>(), v4, v6).prop_map(|(target, own, v4, v6)| {
        let params = [
            format!(
                "ipv4hint={}",
                v4.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            ),
            format!(
                "ipv6hint={}",
                v6.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
            ),
        ];
        let target = if own { ".".to_owned() } else { target.to_ascii() };
        let text =
            format!("1 {target} mandatory=ech,ipv4hint {} ech=AAAA {}", params[0], params[1]);
        let data = RData::try_from_str(RecordType::HTTPS, &text).unwrap();
        let RData::HTTPS(HTTPS(binding)) = data else { panic!("an HTTPS record") };
        binding
    })
}

fn any_data() -> impl Strategy<Value = RData> {
    prop_oneof![
        any_v4().prop_map(|v4| RData::A(A(v4))),
        any_v6().prop_map(|v6| RData::AAAA(AAAA(v6))),
        any_name().prop_map(|target| RData::CNAME(CNAME(target))),
        any_name().prop_map(|target| RData::MX(MX::new(1, target))),
        any_binding().prop_map(|binding| RData::HTTPS(HTTPS(binding))),
        prop::collection::vec(any::<u8>(), 1..40)
            .prop_map(|bytes| RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(bytes) }),
    ]
}

fn any_section() -> impl Strategy<Value = Vec<Record>> {
    let record =
        (any_name(), any_data()).prop_map(|(owner, data)| Record::from_rdata(owner, 9, data));
    prop::collection::vec(record, 0..5)
}

fn any_answer() -> impl Strategy<Value = Message> {
    (any_section(), any_section(), any_section()).prop_map(|(answers, authorities, additionals)| {
        let mut message = Message::response(0x1234, OpCode::Query);
        message.answers = answers;
        message.authorities = authorities;
        message.additionals = additionals;
        message
    })
}

fn any_kind() -> impl Strategy<Value = RecordType> {
    prop::sample::select(vec![
        RecordType::A,
        RecordType::AAAA,
        RecordType::HTTPS,
        RecordType::MX,
        RecordType::ANY,
    ])
}

/// All addresses in a message, each with the owner name of its record.
fn told(message: &Message) -> Vec<(Name, IpAddr)> {
    let mut all = Vec::new();
    for record in message.all_sections() {
        all.extend(address_of(record).map(|address| (record.name.clone(), address)));
        let RData::HTTPS(HTTPS(binding)) = &record.data else { continue };
        let of = svcb::target(&record.name, binding);
        for (_, value) in &binding.svc_params {
            match value {
                SvcParamValue::Ipv4Hint(hints) => {
                    all.extend(hints.0.iter().map(|hint| (of.clone(), IpAddr::V4(hint.0))));
                }
                SvcParamValue::Ipv6Hint(hints) => {
                    all.extend(hints.0.iter().map(|hint| (of.clone(), IpAddr::V6(hint.0))));
                }
                _ => {}
            }
        }
    }
    all
}

fn has_ech(message: &Message) -> bool {
    // The text of other records can contain these letters by chance.
    let bindings = message.all_sections().filter(|record| matches!(record.data, RData::HTTPS(_)));
    bindings.map(|record| record.data.to_string()).any(|text| text.contains("ech"))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_denied_gets_through(
        message in any_answer(),
        kind in any_kind(),
        tcp in any::<bool>(),
    ) {
        let generation = generation(r#"{"deny_out":["bad.test","*.bad.test"]}"#);
        let query = query(kind, if tcp { Transport::Tcp } else { Transport::Udp });
        let wire = query.encode(message);
        let treated = filter(&query, &wire, FilterMode::Real, &generation, &Counters::default());
        if let Ok(wire) = treated {
            prop_assert!(wire.len() <= query.limit());
            let message = Message::from_vec(&wire).unwrap();
            for (of, address) in told(&message) {
                prop_assert!(generation.guardrail(address).is_none(), "{} {}", of, address);
                prop_assert!(generation.denied(&of).is_none(), "{} {}", of, address);
            }
            prop_assert!(!has_ech(&message));
        }
    }

    #[test]
    fn a_virtual_answer_tells_no_real_address(message in any_answer(), kind in any_kind()) {
        let policy = r#"{"allow_internet_access":false,"allow_out":["ok.test"]}"#;
        let generation = generation(policy);
        let query = query(kind, Transport::Tcp);
        let wire = query.encode(message);
        let treated = filter(&query, &wire, FilterMode::Virtual, &generation, &Counters::default());
        let message = Message::from_vec(&treated.unwrap()).unwrap();
        for (_, address) in told(&message) {
            prop_assert_eq!(address, VIRTUAL);
        }
        prop_assert!(!has_ech(&message));
    }

    #[test]
    fn envoy_finds_no_address_that_it_may_not_dial(message in any_answer()) {
        let policy = r#"{"allow_internet_access":false,"allow_out":["ok.test"]}"#;
        let generation = generation(policy);
        let query = query(RecordType::AAAA, Transport::Tcp);
        let wire = query.encode(message);
        let treated = filter(&query, &wire, FilterMode::Envoy, &generation, &Counters::default());
        let message = Message::from_vec(&treated.unwrap()).unwrap();
        for (_, address) in told(&message) {
            prop_assert!(generation.allows_resolved(&query.name, address), "{}", address);
        }
    }

    #[test]
    fn bytes_of_any_kind_are_judged_or_refused(
        message in any_answer(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
        kind in any_kind(),
    ) {
        let generation = generation(r#"{"deny_out":["bad.test","*.bad.test"]}"#);
        let query = query(kind, Transport::Udp);
        let mut wire = query.encode(message);
        for (place, byte) in changes {
            let place = place.index(wire.len());
            wire[place] = byte;
        }
        wire.truncate(cut.index(wire.len() * 2));
        for mode in [FilterMode::Real, FilterMode::Virtual, FilterMode::Envoy] {
            if let Ok(answer) = filter(&query, &wire, mode, &generation, &Counters::default()) {
                prop_assert!(answer.len() <= query.limit());
                prop_assert_eq!(&answer[..2], &wire_id());
                for (of, address) in Message::from_vec(&answer).iter().flat_map(told) {
                    // Virtual addresses are in a guardrail too, because they are never real destinations.
                    let ours = mode == FilterMode::Virtual && address == VIRTUAL;
                    prop_assert!(ours || generation.guardrail(address).is_none(), "{}", address);
                    prop_assert!(generation.denied(&of).is_none());
                }
            }
        }
    }
}

fn wire_id() -> [u8; 2] {
    [0x12, 0x34]
}

/// A compressed name in the answer points into the question. If the client's question replaced a different one, the
/// pointer would give a name that was not evaluated.
#[test]
fn an_answer_to_another_question_does_not_become_one_to_the_clients() {
    let generation = generation(r#"{"deny_out":["bad.test","*.bad.test"]}"#);
    let query = query(RecordType::A, Transport::Udp);
    let mut message = query.address("8.8.8.8".parse().unwrap(), 1);
    let hidden = RData::A(A::new(203, 0, 113, 66));
    message.answers.push(Record::from_rdata(name("bad.test."), 9, hidden));
    let mut wire = query.encode(message);
    // The name `bad.…` ends with a pointer into the question, whose name is now `ok.best`.
    let last_label = HEADER + 4;
    assert_eq!(&wire[last_label..last_label + 4], b"test");
    wire[last_label] = b'b';
    if let Ok(answer) = filter(&query, &wire, FilterMode::Real, &generation, &Counters::default()) {
        let names = Message::from_vec(&answer).iter().flat_map(told).collect::<Vec<_>>();
        assert!(names.iter().all(|(of, _)| generation.denied(of).is_none()), "{names:?}");
    }
}

#[test]
fn signatures_of_what_was_changed_go_with_it() {
    let generation = generation("{}");
    let query = query(RecordType::A, Transport::Tcp);
    let signature = |kind: RecordType| {
        let bytes = [&u16::from(kind).to_be_bytes()[..], &[13; 40]].concat();
        let data = RData::Unknown { code: RecordType::RRSIG, rdata: NULL::with(bytes) };
        Record::from_rdata(name("ok.test."), 9, data)
    };
    let address = |a| Record::from_rdata(name("ok.test."), 9, RData::A(a));
    let mut message = Message::response(0x1234, OpCode::Query);
    message.metadata.authentic_data = true;
    message.answers = vec![
        address(A::new(169, 254, 169, 254)),
        address(A::new(8, 8, 8, 8)),
        signature(RecordType::A),
        signature(RecordType::TXT),
    ];
    let wire = query.encode(message);
    let treated =
        filter(&query, &wire, FilterMode::Real, &generation, &Counters::default()).unwrap();
    let answer = Message::from_vec(&treated).unwrap();
    assert_eq!(answer.answers.len(), 2, "{answer}");
    assert_eq!(signed(&answer.answers[1]), Some(RecordType::TXT));
    assert!(!answer.metadata.authentic_data, "nobody has authenticated this");
}

#[test]
fn what_lies_behind_a_message_does_not_go_on() {
    let generation = generation("{}");
    let query = query(RecordType::A, Transport::Udp);
    let wire = query.encode(query.address("8.8.8.8".parse().unwrap(), 1));
    let longer = [wire.as_slice(), b"hidden"].concat();
    let treated = filter(&query, &longer, FilterMode::Real, &generation, &Counters::default());
    assert_eq!(treated, Ok(wire));
}

/// The client's answer if the resolver's answer has neither records nor a SOA.
fn of_nothing(policy: &str, mode: FilterMode, kind: RecordType) -> Message {
    let mut query = query(kind, Transport::Udp);
    query.edns = Some(super::super::edns::ClientEdns { payload: 1232, dnssec_ok: false });
    let mut empty = Message::response(1, OpCode::Query);
    empty.add_query(hickory_proto::op::Query::query(name("ok.test."), kind));
    let wire = empty.to_vec().unwrap();
    let made = filter(&query, &wire, mode, &generation(policy), &Counters::default()).unwrap();
    Message::from_vec(&made).unwrap()
}

#[test]
fn an_empty_answer_of_any_type_that_is_made_here_has_a_soa() {
    const ALLOWS: &str = r#"{"allow_internet_access":false,"allow_out":["ok.test"]}"#;
    for number in [1, 2, 5, 15, 16, 28, 33, 39, 41 + 2, 46, 47, 48, 64, 65, 255, 257] {
        let kind = RecordType::from(number);
        for mode in [FilterMode::Virtual, FilterMode::Envoy] {
            let answer = of_nothing(ALLOWS, mode, kind);
            let soa =
                answer.authorities.iter().any(|record| record.record_type() == RecordType::SOA);
            assert!(soa && answer.answers.is_empty(), "{kind} {mode:?}: {answer}");
        }
    }
}

#[test]
fn a_resolver_without_edns_does_not_take_it_from_the_client() {
    let answer = of_nothing("{}", FilterMode::Real, RecordType::A);
    assert!(answer.edns.is_some(), "{answer}");
}
