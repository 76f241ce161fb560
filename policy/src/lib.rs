//! Sandgate's decisions, pure: no I/O, no clock (time is a parameter), no runtime.
//!
//! The way of a request into a sandbox, each step a module:
//!
//! 1. [`request_line`]: which requests are refused for their method or path. [`host`]: the authority, parsed once into what it names.
//! 2. [`credential`]: the one credential of the request, in its [`context`].
//! 3. [`cache`]: what may still be believed of sandbox and caller.
//! 4. [`ingress`]: [`ingress::decide`], the only maker of a [`ingress::Permit`].
//!    [`budget`] and [`places`] say how many requests may be in flight, and whose.
//! 5. [`denial`]: every reason to refuse, in one table.
//! 6. [`hygiene`]: what must not cross the gateway; [`websocket`]: what an upgrade lacks.
//! 7. [`response`]: whether the sandbox's response may go on; [`recipient`]: who reads a denial.
//!
//! The way of a connection out of a sandbox is [`egress`].

pub mod budget;
pub mod cache;
pub mod config;
pub mod context;
pub mod cookie;
pub mod credential;
pub mod denial;
pub mod egress;
pub mod gateway;
pub mod head;
pub mod host;
pub mod hygiene;
pub mod ingress;
pub mod origin;
pub mod places;
pub mod recipient;
pub mod request_line;
pub mod response;
pub mod websocket;
