//! Tests of the control plane from the outside: over its HTTP APIs, its command line and its store.

#[cfg(test)]
mod suite {
    mod admin;
    mod api_access;
    mod api_bodies;
    mod api_create;
    mod api_events;
    mod api_life;
    mod api_list;
    mod api_patch;
    mod backup;
    mod bounds;
    mod command_line;
    mod contract;
    mod contract_bounds;
    mod contract_events;
    mod contract_placements;
    mod contract_principals;
    mod contract_replicas;
    mod contract_sandboxes;
    mod database;
    mod denials;
    mod draining;
    mod explain;
    mod failover;
    mod feed;
    mod fleet;
    mod full_disk;
    mod gateway;
    mod listener;
    mod local_runtime;
    mod metrics;
    mod network_policy;
    mod openapi;
    mod policy_check;
    mod postgres;
    mod receiver;
    mod reports;
    mod restore;
    mod resume;
    mod retries;
    mod runtime;
    mod sidecars;
    mod stored;
    mod support;
    mod timing;
    mod tls;
    mod upgrade;
    mod webhook;
    mod webhook_example;
}
