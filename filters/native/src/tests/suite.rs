//! The tests of the wasm form, run with the native module. Those of the wasm form alone are left out: the budget of
//! instructions, and host calls that only a VM can refuse.

use super::envoy as host;

#[path = "../../../../tests/wasm-host/tests/ingress/bounds.rs"]
mod bounds;
#[path = "../../../../tests/wasm-host/tests/ingress/browsers.rs"]
mod browsers;
#[path = "../../../../tests/wasm-host/tests/ingress/budgets.rs"]
mod budgets;
#[path = "../../../../tests/wasm-host/tests/ingress/caching.rs"]
mod caching;
#[path = "../../../../tests/wasm-host/tests/ingress/chaos.rs"]
mod chaos;
#[path = "../../../../tests/wasm-host/tests/ingress/configuration.rs"]
mod configuration;
#[path = "../../../../tests/wasm-host/tests/ingress/credentials.rs"]
mod credentials;
#[path = "../../../../tests/wasm-host/tests/ingress/decisions.rs"]
mod decisions;
#[path = "../../../../tests/wasm-host/tests/ingress/denials.rs"]
mod denials;
#[path = "../../../../tests/wasm-host/tests/ingress/guards.rs"]
mod guards;
#[path = "../../../../tests/wasm-host/tests/ingress/hostile.rs"]
mod hostile;
#[path = "../../../../tests/wasm-host/tests/ingress/live.rs"]
pub(super) mod live;
#[path = "../../../../tests/wasm-host/tests/ingress/live_limits.rs"]
mod live_limits;
#[path = "../../../../tests/wasm-host/tests/ingress/lookups.rs"]
mod lookups;
#[path = "../../../../tests/wasm-host/tests/ingress/many_sandboxes.rs"]
mod many_sandboxes;
#[path = "../../../../tests/wasm-host/tests/ingress/outage.rs"]
mod outage;
#[path = "../../../../tests/wasm-host/tests/ingress/permissions.rs"]
mod permissions;
#[path = "../../../../tests/wasm-host/tests/ingress/public.rs"]
mod public;
#[path = "../../../../tests/wasm-host/tests/ingress/request_hygiene.rs"]
mod request_hygiene;
#[path = "../../../../tests/wasm-host/tests/ingress/response_hygiene.rs"]
mod response_hygiene;
#[path = "../../../../tests/wasm-host/tests/ingress/resume.rs"]
mod resume;
#[path = "../../../../tests/wasm-host/tests/ingress/resume_limits.rs"]
mod resume_limits;
#[path = "../../../../tests/wasm-host/tests/ingress/routing.rs"]
mod routing;
#[path = "../../../../tests/wasm-host/tests/ingress/secrecy.rs"]
mod secrecy;
#[path = "../../../../tests/wasm-host/tests/ingress/shapes.rs"]
mod shapes;
#[path = "../../../../tests/wasm-host/tests/ingress/support.rs"]
pub(super) mod support;
