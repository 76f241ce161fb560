//! Ingress: decides which requests reach a sandbox, and what may cross the gateway in both directions. [`decide`]
//! decides about a request, [`reevaluate`] about a live stream, and [`response`] about a response.
//!
//! Comments with "Contract:" quote Tensorlake's documentation of sandbox networking, on which its clients rely.
//!
//! The modules, in the order in which a request meets them:
//!
//! 1. [`config`]: the operator's configuration of the filter.
//! 2. [`head`] and [`request`]: the request, parsed once. [`message`] checks its bounds and its framing. [`host`] parses its [`authority`] into
//!    the [`port`] of a sandbox under a [`domain`], and [`credential`] finds its only credential, in a
//!    [`cookie`] or a header, and the credential's [`project_context`]. [`origin`] detects
//!    cross-origin requests.
//! 3. [`lookup`] and [`cache`]: the results of lookups at the control plane, and how long they are valid.
//! 4. [`decision`]: the decision, and the only constructor of a [`Permit`]. [`concurrency`] and
//!    [`slots`] limit the requests in flight.
//! 5. [`denial`]: every reason to deny a request. [`recipient`] is the client that a denial is
//!    written for.
//! 6. [`hygiene`] and [`websocket`]: the changes to the headers of a permitted request.
//! 7. [`response`]: the decision about the response of the sandbox. It depends on the request by its
//!    [`response_context`].

mod byte_set;
pub mod config;

pub mod authority;
pub mod cookie;
pub mod credential;
pub mod domain;
pub mod head;
pub mod host;
pub mod message;
pub mod origin;
pub mod port;
pub mod project_context;
pub mod request;
pub mod response_context;

pub mod cache;
pub mod lookup;

pub mod concurrency;
pub mod decision;
pub mod slots;

pub mod denial;
pub mod recipient;

pub mod hygiene;
pub mod websocket;

pub mod response;

pub use decision::{
    Caller, CloseReason, Decision, EvictionPermit, Permit, RequestFacts, ResumePermit,
    StreamDecision, decide, reevaluate,
};
pub use lookup::{KnownSandbox, Resolved};
pub use request::{Request, SandboxRequest};
