//! A client of the admin API, for the management commands.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use reqwest::{Client, Method, Url};
use sandgate_xds::token_file;
use serde_json::Value;

use super::https;

/// The options that name a server instead of a store.
#[derive(Args, Clone)]
pub(super) struct AdminOptions {
    /// URL of a server's admin API (`--admin-listen`), instead of a store
    #[arg(long, value_name = "URL", env = "SANDGATE_ADMIN_URL", requires = "admin_token_file")]
    pub(super) admin_url: Option<String>,
    /// File with the admin token
    #[arg(long, value_name = "FILE", env = "SANDGATE_ADMIN_TOKEN_FILE")]
    admin_token_file: Option<PathBuf>,
    /// File with the issuers of the server's certificate; default: the system's
    #[arg(long, value_name = "FILE", env = "SANDGATE_ADMIN_CA")]
    admin_ca: Option<PathBuf>,
}

/// A server.
pub(super) struct AdminClient {
    url: Url,
    token: String,
    client: Client,
    runtime: tokio::runtime::Runtime,
}

impl AdminOptions {
    /// The server, if the options name one.
    pub(super) fn client(&self) -> anyhow::Result<Option<AdminClient>> {
        let Some(url) = &self.admin_url else { return Ok(None) };
        let file =
            self.admin_token_file.as_ref().context("--admin-url needs --admin-token-file")?;
        let url = https::url("--admin-url", url)?;
        let token = token_file::read(file).context("--admin-token-file")?.first;
        let client = https::client(self.admin_ca.as_deref(), None, https::TIMEOUT)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Some(AdminClient { url, token, client, runtime }))
    }
}

impl AdminClient {
    /// Makes a call. The segments are those of the path after `/admin/v1`.
    pub(super) fn call(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut url = self.url.clone();
        url.path_segments_mut()
            .map_err(|()| anyhow::anyhow!("--admin-url `{}` has no path", self.url))?
            .pop_if_empty()
            .extend(["admin", "v1"])
            .extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let mut request = self.client.request(method, url.clone()).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        let (status, bytes) = self.runtime.block_on(async {
            let response = request.send().await?;
            let status = response.status();
            anyhow::Ok((status, response.bytes().await?))
        })?;
        let answer: Value = serde_json::from_slice(&bytes)
            .with_context(|| format!("`{url}` answered {status} without JSON"))?;
        let error = answer.get("error").and_then(Value::as_str);
        anyhow::ensure!(
            status.is_success(),
            "{} ({status})",
            error.unwrap_or("the server refused")
        );
        Ok(answer)
    }

    /// All entries of a list.
    pub(super) fn all(&self, list: &str, filter: &[(&str, &str)]) -> anyhow::Result<Vec<Value>> {
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        loop {
            let mut query = filter.to_vec();
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let mut page = self.call(Method::GET, &[list], &query, None)?;
            let entries = page.get_mut(list).and_then(Value::as_array_mut);
            all.append(entries.with_context(|| format!("the response has no `{list}`"))?);
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = Some(next.to_owned()),
                None => return Ok(all),
            }
        }
    }
}
