//! `sandgate keys`: manages API keys, personal access tokens and sessions. A secret is printed only when it is created.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use sandgate_policy::gateway_api::CredentialKind;
use serde_json::{Value, json};

use super::admin::AdminClient;
use super::management::{ManagementOptions, by_command_line, parse_label};
use super::output::Output;
use crate::gateway::sidecar_tokens;
use crate::model::{
    API_KEY_PREFIX, Credential, NewCredential, Owner, SESSION_PREFIX, SandboxId, Timestamp,
    TokenPrefix,
};
use crate::random::{NewSecret, prefixed_id};

/// `sandgate keys`.
#[derive(Subcommand)]
pub(super) enum Keys {
    /// Create a credential, and print its secret; the secret can't be printed again
    Create {
        #[command(flatten)]
        what: NewKey,
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// List all credentials, without secrets
    List {
        #[command(flatten)]
        options: ManagementOptions,
    },
    /// Print the token with which the sidecar of one sandbox reads its network policy
    ///
    /// The token is derived from a gateway token, and is valid as long as that one. The output has a line for each gateway
    /// token of the file.
    Sidecar {
        /// Canonical id of the sandbox
        sandbox: String,
        /// File with the gateway tokens, the same as that of `sandgate serve`
        #[arg(long, value_name = "FILE")]
        gateway_token_file: PathBuf,
    },
    /// Revoke a credential; it stops working immediately
    Revoke {
        /// Id of the credential, `key_…`
        id: String,
        #[command(flatten)]
        options: ManagementOptions,
    },
}

/// The options of `sandgate keys create`.
#[derive(Args)]
pub(super) struct NewKey {
    /// Kind of the credential: an API key of a project, or a personal access token or session of a user
    #[arg(long, value_enum, default_value_t = Kind::ApiKey)]
    kind: Kind,
    /// Project of an API key
    #[arg(long, value_name = "ID", required_if_eq("kind", "api-key"))]
    project: Option<String>,
    /// User of a token or a session, whom `sandgate members add` has added
    #[arg(long, value_name = "EMAIL-OR-NAME", required_if_eq_any([("kind", "pat"), ("kind", "session")]))]
    user: Option<String>,
    /// Name of the credential, for people
    #[arg(long)]
    name: Option<String>,
    /// Lifetime of the credential: a number and s, m, h or d, such as 30d; default: unlimited
    #[arg(long, value_name = "TIME", value_parser = duration)]
    expires_in: Option<Duration>,
    /// Prefix of personal access tokens, the same as that of `sandgate serve`
    #[arg(
        long,
        value_name = "PREFIX",
        env = "SANDGATE_PERSONAL_ACCESS_TOKEN_PREFIX",
        default_value_t
    )]
    personal_access_token_prefix: TokenPrefix,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    ApiKey,
    Pat,
    Session,
}

impl Kind {
    fn prefix(self, personal_access_tokens: &TokenPrefix) -> String {
        match self {
            Self::ApiKey => API_KEY_PREFIX.to_owned(),
            Self::Pat => personal_access_tokens.of_new_token(),
            Self::Session => SESSION_PREFIX.to_owned(),
        }
    }
}

impl Keys {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Create { what, options } => create(what, &options),
            Self::List { options } => {
                let all: Vec<_> = match options.server()? {
                    Some(server) => server.all("keys", &[])?,
                    None => options.open_store()?.credentials()?.iter().map(credential).collect(),
                };
                Output::new(options.json).many("keys", &all)
            }
            Self::Sidecar { sandbox, gateway_token_file } => {
                let id = SandboxId::parse(&sandbox).with_context(|| {
                    format!("`{sandbox}` is not the id of a sandbox, which has 21 characters of a-z and 0-9")
                })?;
                let tokens = sidecar_tokens(&gateway_token_file, &id)?;
                Output::plain(&(tokens.join("\n") + "\n"))
            }
            Self::Revoke { id, options } => {
                if let Some(server) = options.server()? {
                    let revoked = server.call(Method::DELETE, &["keys", &id], &[], None)?;
                    return Output::new(options.json).one(&revoked);
                }
                let store = options.open_store()?;
                let revoked = store.revoke_credential(&id, by_command_line())?;
                options.wait_until_applied(store.as_ref(), revoked.revision)?;
                Output::new(options.json).one(&credential(&revoked.value))
            }
        }
    }
}

/// Creates a credential through a server. The server knows the prefix of personal access tokens.
fn create_at(server: &AdminClient, what: &NewKey) -> anyhow::Result<Value> {
    let kind = match what.kind {
        Kind::ApiKey => "api_key",
        Kind::Pat => "pat",
        Kind::Session => "session",
    };
    let body = json!({
        "kind": kind,
        "project_id": what.project,
        "user": what.user,
        "name": what.name,
        "expires_in_seconds": what.expires_in.map(|time| time.as_secs()),
    });
    server.call(Method::POST, &["keys"], &[], Some(&body))
}

fn create(what: NewKey, options: &ManagementOptions) -> anyhow::Result<()> {
    if let Some(server) = options.server()? {
        return Output::new(options.json).one(&create_at(&server, &what)?);
    }
    let store = options.open_store()?;
    let owner = match (what.kind, what.project, what.user) {
        (Kind::ApiKey, Some(project_id), None) => Owner::Project { project_id },
        (Kind::Pat | Kind::Session, None, Some(user)) => {
            let found = store.user(&user)?;
            let user = found.with_context(|| {
                format!("there is no user `{user}`; add the user with `sandgate members add --user {user} --project ID`")
            })?;
            Owner::User { user_id: user.id, session: matches!(what.kind, Kind::Session) }
        }
        (Kind::ApiKey, _, _) => {
            anyhow::bail!("an API key belongs to a project; use --project without --user")
        }
        (Kind::Pat | Kind::Session, _, _) => anyhow::bail!(
            "a token or session belongs to a user, and is valid in all projects of the user; use --user without --project"
        ),
    };
    let name =
        what.name.as_deref().map(|name| parse_label("the name of a key", name)).transpose()?;
    let secret = NewSecret::generate(&what.kind.prefix(&what.personal_access_token_prefix))?;
    let now = Timestamp::now();
    let new = NewCredential {
        id: prefixed_id("key")?,
        owner,
        name: name.map(str::to_owned),
        hash: secret.hash(),
        expires_at: what.expires_in.map(|time| now.plus(time)),
    };
    let made = store.create_credential(&new, by_command_line())?;
    let mut shown = credential(&made);
    if let Value::Object(fields) = &mut shown {
        fields.insert("secret".to_owned(), json!(secret.reveal()));
    }
    Output::new(options.json).one(&shown)
}

fn credential(value: &Credential) -> Value {
    let (project, user) = match &value.owner {
        Owner::Project { project_id } => (Some(project_id), None),
        Owner::User { user_id, .. } => (None, Some(user_id)),
    };
    let kind = match value.owner.kind() {
        CredentialKind::ApiKey => "api_key",
        CredentialKind::PersonalAccessToken => "pat",
        CredentialKind::Session => "session",
    };
    json!({
        "id": value.id,
        "kind": kind,
        "name": value.name,
        "project_id": project,
        "user_id": user,
        "created_at": value.created_at.millis(),
        "expires_at": value.expires_at.map(Timestamp::millis),
        "revoked_at": value.revoked_at.map(Timestamp::millis),
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || "expected a number and s, m, h or d, such as 30d".to_owned();
    let unit = text.chars().last().ok_or_else(invalid)?;
    let seconds: u64 = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(invalid()),
    };
    let number: u64 =
        text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(invalid)?;
    match number.checked_mul(seconds) {
        Some(total) if (1..=10 * 365 * 24 * 60 * 60).contains(&total) => {
            Ok(Duration::from_secs(total))
        }
        _ => Err("must be from one second to ten years".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_number_and_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7_200)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(2_592_000)));
        for invalid in ["", "d", "30", "-1d", "0s", "1w", "1dd", "18446744073709551615d", "9999d"] {
            assert!(duration(invalid).is_err(), "{invalid}");
        }
    }
}
