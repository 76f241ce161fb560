//! Sandgate's control plane: the public API, the API that ingress filters and sidecars call, the store,
//! and the runtimes in which sandboxes run.
//!
//! ```text
//! owner ───────────► api ─────┐
//!                             ├──► sandboxes ──► runtime (local │ webhook)
//! filter, sidecar ─► gateway ─┘        │
//!                       ▲              ▼
//!                       └─ changes ◄── db ──► store (SQLite)
//! ```
//!
//! The modules, in the order in which a request meets them:
//!
//! 1. [`cli`] parses the command line, and [`serve`] starts the server.
//! 2. [`http`] accepts connections, bounds requests, and reads bodies.
//! 3. [`api`] serves owners, [`admin`] operators, and [`gateway`] serves filters, sidecars, and the operator's platform. None of them
//!    contains SQL. [`gateway_tokens`] authenticates filters and sidecars.
//! 4. [`sandboxes`] has the rules of a sandbox's lifecycle.
//! 5. [`runtime`] starts and stops sandboxes.
//! 6. [`changes`] announces each committed change, and waits until all gateways have applied it.
//! 7. [`db`] runs the store's calls on threads that may block; writes wait in a `fair_queue`.
//! 8. [`store`] is the trait of a database, with one contract test suite, and its implementation for SQLite.
//! 9. [`denials`] collects what filters and sidecars report, for the events of sandboxes.
//! 10. [`metrics`] counts what the others do.
//! 11. [`conformance`] checks a server of the gateway API from outside, for platforms with their own.
//! 12. [`model`] has the types of what is stored, and [`random`] makes ids and secrets.

pub mod admin;
pub mod api;
pub mod changes;
pub mod cli;
pub mod conformance;
pub mod db;
pub mod denials;
mod fair_queue;
pub mod gateway;
pub mod gateway_tokens;
pub mod http;
pub mod metrics;
pub mod model;
pub mod random;
pub mod runtime;
pub mod sandboxes;
pub mod serve;
pub mod store;
