//! Requests, by API and route.

use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::durations;

/// The route of requests for which there is none. Their paths are the client's choice, so they are no label.
const NO_ROUTE: &str = "none";

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Answered {
    api: &'static str,
    route: String,
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Routed {
    api: &'static str,
    route: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct OfApi {
    api: &'static str,
}

/// Counts requests. Clones share the counters.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<Answered, Counter>,
    durations: Family<Routed, Histogram, fn() -> Histogram>,
    in_flight: Family<Routed, Gauge>,
    unauthenticated: Family<OfApi, Counter>,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Family::new_with_constructor(durations),
            in_flight: Family::default(),
            unauthenticated: Family::default(),
        }
    }
}

impl HttpMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("http_requests", "Requests that were answered", self.requests.clone());
        registry.register(
            "http_request_duration_seconds",
            "Time from the head of a request to the head of its response",
            self.durations.clone(),
        );
        registry.register(
            "http_requests_in_flight",
            "Requests without a response head; of the change feed, the held polls",
            self.in_flight.clone(),
        );
        registry.register(
            "http_unauthenticated_requests",
            "Requests without a valid credential",
            self.unauthenticated.clone(),
        );
    }

    /// Counts the requests of `router`, which serves the API `api`.
    pub fn observe(&self, api: &'static str, router: Router) -> Router {
        router.layer(from_fn_with_state((self.clone(), api), count))
    }
}

/// Counts a request as in flight until it is dropped, also if its client is gone.
struct InFlight(Gauge);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn count(
    State((metrics, api)): State<(HttpMetrics, &'static str)>,
    request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let route = request.extensions().get::<MatchedPath>().map_or(NO_ROUTE, MatchedPath::as_str);
    let routed = Routed { api, route: route.to_owned() };
    let method = method(request.method());
    let gauge = metrics.in_flight.get_or_create_owned(&routed);
    gauge.inc();
    let in_flight = InFlight(gauge);
    let response = next.run(request).await;
    drop(in_flight);
    metrics.durations.get_or_create(&routed).observe(begun.elapsed().as_secs_f64());
    if response.status() == StatusCode::UNAUTHORIZED {
        metrics.unauthenticated.get_or_create(&OfApi { api }).inc();
    }
    let status = response.status().as_u16();
    let answered = Answered { api, route: routed.route, method, status };
    metrics.requests.get_or_create(&answered).inc();
    response
}

/// A method as a label. Clients can invent methods.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
