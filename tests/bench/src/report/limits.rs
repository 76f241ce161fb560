//! What the same run says about a goal that is not reached: the ways that have a part of the cost, and where the profile is.

use super::{Data, number, ratio, row, rows, text_of};

/// What a goal is compared with.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    /// The part of the run, and the field of its rows.
    part: &'static str,
    field: &'static str,
    /// Whether the ratio to bare counts, and not the value itself.
    is_ratio: bool,
    /// Ways that do less, or other ways to the same end.
    ways: &'static [&'static str],
    /// The section of the profile.
    section: &'static str,
}

const REQUEST: &[&str] = &["without_filter", "noop", "lua_key", "ext_authz_grpc", "ext_authz_http"];
const CONNECTION: &[&str] = &["without_filter", "noop"];

const fn ratio_of(
    part: &'static str,
    field: &'static str,
    ways: &'static [&'static str],
    section: &'static str,
) -> Limit {
    Limit { part, field, is_ratio: true, ways, section }
}

pub(super) const TIME: Limit = ratio_of("ingress", "micros", REQUEST, "a-request");
pub(super) const TAIL: Limit = ratio_of("latency", "p99", REQUEST, "latency");
pub(super) const ADDRESSES: Limit = ratio_of("scale", "micros", &[], "a-request");
pub(super) const WAITERS: Limit = ratio_of("waiting", "last_ms", &[], "a-request");
pub(super) const CONNECTIONS: Limit =
    ratio_of("egress", "connections", CONNECTION, "a-connection-out-of-a-sandbox");
pub(super) const UPLOAD: Limit =
    ratio_of("egress", "up", CONNECTION, "a-connection-out-of-a-sandbox");
pub(super) const DOWNLOAD: Limit =
    ratio_of("egress", "down", CONNECTION, "a-connection-out-of-a-sandbox");
pub(super) const MEMORY: Limit = Limit {
    part: "egress",
    field: "idle_megabytes",
    is_ratio: false,
    ways: CONNECTION,
    section: "a-connection-out-of-a-sandbox",
};

impl Limit {
    /// A sentence with the other ways of this run, and the link to the profile.
    pub(super) fn text(self, data: &Data) -> String {
        let all = rows(data, self.part);
        let of = |name: &&str| {
            let way = row(&all, name)?;
            let value = if self.is_ratio {
                format!("{:.2}", ratio(&all, name, "bare", self.field)?)
            } else {
                format!("{:.0} MB", number(way, self.field))
            };
            Some(format!("{} {value}", text_of(way, "title")))
        };
        let others: Vec<String> = self.ways.iter().filter_map(of).collect();
        let profile =
            format!("[The profile](benchmarks-profile.md#{}) has the parts.", self.section);
        if others.is_empty() {
            return profile;
        }
        format!("In the same run: {}. {profile}", others.join(", "))
    }
}
