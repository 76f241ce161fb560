//! The form of what answers hold as JSON and not as fields of a type: what owners sent comes back
//! as they sent it.

#![expect(dead_code, reason = "these types are described, never made")]

use utoipa::ToSchema;

/// Where a sandbox is in its life.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Status {
    Pending,
    Running,
    Snapshotting,
    Suspending,
    Suspended,
    Terminated,
    /// Only in the answer 504 to create.
    Timeout,
}

/// What the owner asked for, and defaults for what clients can't do without. It may hold more.
#[derive(ToSchema)]
pub(crate) struct Resources {
    cpus: f64,
    memory_mb: u64,
    disk_mb: u64,
    ephemeral_disk_mb: u64,
}

/// What a sandbox may send to.
#[derive(ToSchema)]
pub(crate) struct ShownNetworkPolicy {
    allow_internet_access: bool,
    allow_out: Vec<String>,
    deny_out: Vec<String>,
}

/// What else the owner sent, as it was sent; null: nothing.
#[derive(ToSchema)]
pub(crate) struct KeptFields {
    #[schema(required)]
    image: Option<String>,
    #[schema(required)]
    timeout_secs: Option<u64>,
    #[schema(required)]
    entrypoint: Option<Vec<String>>,
    #[schema(required)]
    snapshot_id: Option<String>,
    #[schema(value_type = Vec<Object>)]
    file_systems: (),
    #[schema(required)]
    max_pending_secs: Option<u64>,
    #[schema(required)]
    secret_names: Option<Vec<String>>,
    #[schema(required)]
    template_id: Option<String>,
    #[schema(required)]
    pool_id: Option<String>,
    #[schema(required, value_type = Option<Object>)]
    metadata: (),
}
