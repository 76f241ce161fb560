//! The ingress filter without its host: which requests may reach a sandbox, and which live streams must
//! end when something changes.
//!
//! [`sandgate_policy::ingress`] decides; the engine enforces the limits on waiting and resuming. Each worker has an
//! [`Engine`], which owns its streams. The workers of a process share a [`Hub`], which owns what belongs to no stream. In the
//! wasm form, a worker has a hub of its own. The modules, in the order in which a request meets them:
//!
//! 1. `engine`: the state of a worker and the events. `engine/request` takes the headers of a request, `engine/evaluate`
//!    decides or starts lookups, and `engine/resume` resumes a suspended sandbox.
//! 2. `waiting`: the phases of a request that is not decided.
//! 3. `resolver`: a worker's views of the caches. `hub` has the caches. `lookups` asks the control plane once for all
//!    streams that need the same result, and `feed` reports which cache entries are outdated. `many_sandboxes` warns about
//!    the wrong setting.
//! 4. `crowded`: the requests that a resume releases while their sandbox has no free slot. `resume_slots` and
//!    `engine/slots`: evict a request if the list of waiting requests, or a sandbox, is full.
//! 5. `live`: the forwarded requests. `engine/response` takes their responses, and `engine/reevaluate`
//!    evaluates them again after a change.
//! 6. `denials`: reports denied requests for the owners of sandboxes.
//! 7. `guards`: looks for the guards of Envoy's configuration.
//! 8. `effect`: the actions and effects for the host, `reply`: the local replies, and `metrics`: the counters. The
//!    hosts of both forms share them.

mod engine;

mod clock;
mod crowded;
mod denials;
mod guards;
mod properties;
mod resume_slots;
mod waiting;

mod feed;
mod hub;
mod lookups;
mod many_sandboxes;
mod resolver;

mod live;

mod effect;
mod metrics;
mod reply;

pub use clock::{Clock, Now};
pub use effect::{
    Call, CallId, CallKind, CallResponse, DenialReply, Effect, Forward, RequestAction,
    ResponseAction, StreamId,
};
pub use engine::{CALL_RESPONSE_MAX, Engine, TICK_MS};
pub use guards::{Guards, MissingGuard, Sight, missing_guards};
pub use hub::{Hub, HubEffect, Notice, WorkerId};
pub use metrics::Metrics;
pub use properties::RequestProperties;
pub use reply::Reply;
