//! Writes sandboxes into a store, because the public API would take hours for so many.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use sandgate_stack::postgres::Cluster;

/// The sandboxes of one project.
const PER_PROJECT: u32 = 1_000;
/// The columns of a sandbox, and their values for the number `i`. Both databases understand them.
const COLUMNS: &str = "id, name, project_id, state, address, generation, placement, exposed_ports, public, auto_resume, \
                       spec, network, created_at";
const VALUES: &str = "'benchsandbox' || (100000000 + i), 's' || i, 'project_bench' || (i / 1000), 'running', \
                      '10.' || (i / 65536) || '.' || (i / 256 % 256) || '.' || (i % 256), 1, 1, '[8080]', 1, 1, '{}', \
                      '{\"allow_internet_access\":true,\"allow_out\":[],\"deny_out\":[]}', 1700000000000";

/// The name of a sandbox.
pub(super) fn name(number: u64) -> String {
    format!("s{number}")
}

pub(super) fn sqlite(data: &Path, organization: &str, count: u32) -> Result<()> {
    let mut store = rusqlite::Connection::open(data.join("sandgate.db"))?;
    store.busy_timeout(Duration::from_secs(10))?;
    // The file is new, so nothing is lost if this is interrupted.
    store.pragma_update(None, "synchronous", "OFF")?;
    store.pragma_update(None, "cache_size", -512_000)?;
    let transaction = store.transaction()?;
    let numbers = |count: u32| {
        format!(
            "WITH RECURSIVE numbers(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM numbers LIMIT {count})"
        )
    };
    transaction.execute_batch(&format!(
        "{} INSERT INTO projects (id, organization_id, name, created_at)
         SELECT 'project_bench' || i, '{organization}', 'project-' || i, 0 FROM numbers;
         {} INSERT INTO sandboxes ({COLUMNS}) SELECT {VALUES} FROM numbers;",
        numbers(count.div_ceil(PER_PROJECT)),
        numbers(count),
    ))?;
    transaction.commit()?;
    store.pragma_query(None, "wal_checkpoint", |_| Ok(()))?;
    Ok(())
}

/// A trigger counts the sandboxes of a project. Within one transaction, a thousand changes of a row are slow.
pub(super) fn postgres(cluster: &Cluster, url: &str, organization: &str, count: u32) -> Result<()> {
    let projects = count.div_ceil(PER_PROJECT);
    cluster.run_sql(
        url,
        &format!(
            "ALTER TABLE sandboxes DISABLE TRIGGER sandbox_counted;
             INSERT INTO projects (id, organization_id, name, created_at)
             SELECT 'project_bench' || i, '{organization}', 'project-' || i, 0
             FROM generate_series(0, {projects} - 1) AS i;
             INSERT INTO sandboxes ({COLUMNS}) SELECT {VALUES} FROM generate_series(0, {count} - 1) AS i;
             INSERT INTO project_use SELECT project_id, count(*), sum(octet_length(exposed_ports) + octet_length(spec)
             + octet_length(network)) FROM sandboxes GROUP BY project_id;
             ALTER TABLE sandboxes ENABLE TRIGGER sandbox_counted;"
        ),
    )?;
    // As the database does by itself some time later.
    cluster.run_sql(url, "VACUUM ANALYZE")
}
