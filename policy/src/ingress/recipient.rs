//! The client that receives a denial: the format that it understands, its origin, and the id of its request.

use super::byte_set::ByteSet;
use super::config::IngressConfig;
use super::head::Head;
use super::hygiene::HeaderChange;

/// The format of a denial that a client understands.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum DenialFormat {
    /// A gRPC status.
    Grpc,
    /// A page for a person.
    Html,
    /// JSON for programs.
    #[default]
    Json,
}

/// The header of the request id.
const REQUEST_ID_HEADER: &str = "x-request-id";
/// The maximum length of a request id that is sent to a client.
const REQUEST_ID_MAX: usize = 128;
/// The characters that a request id can have.
static ID_BYTES: ByteSet =
    ByteSet::new(b"-._~:=+/@0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");
/// The response headers that a page of another origin may read, in addition to those that the Fetch standard allows.
const EXPOSED_HEADERS: &str = "retry-after, www-authenticate, x-request-id";

/// The id of a request, as in access logs. A client may choose it, so only text that is safe in a header and in HTML is
/// accepted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestId(String);

impl RequestId {
    /// Parses an id: letters, digits and `-._~:=+/@`, 128 at most.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        // Looks at all bytes, without a branch for each: processors mispredict the branches of a random id.
        let are_safe =
            |text: &[u8]| text.iter().fold(true, |all, byte| all & ID_BYTES.contains(*byte));
        let is_good = (1..=REQUEST_ID_MAX).contains(&text.len()) && are_safe(text);
        let text = std::str::from_utf8(text).ok().filter(|_| is_good)?;
        Some(Self(text.to_owned()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The client that receives a denial. The default is a program without a request id and without a trusted origin.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recipient {
    format: DenialFormat,
    origin: Option<String>,
    request_id: Option<RequestId>,
}

impl Recipient {
    /// The sender of a request.
    #[must_use]
    pub fn of(head: Head<'_>, config: &IngressConfig) -> Self {
        let origin = head.single("origin").ok().flatten();
        let trusted = origin.and_then(|origin| config.trusted_origin(origin));
        Self { origin: trusted.map(str::to_owned), ..Self::unconfigured(head) }
    }

    /// The sender of a request whose headers can't be read. It may be a gRPC client, and such a client takes any reply
    /// without a gRPC status for a success.
    #[must_use]
    pub fn unknown() -> Self {
        Self { format: DenialFormat::Grpc, ..Self::default() }
    }

    /// The sender of a request while there is no configuration, so that no origin is trusted.
    #[must_use]
    pub fn unconfigured(head: Head<'_>) -> Self {
        let format = if head.is_grpc() {
            DenialFormat::Grpc
        } else if head.is_navigation() && !head.is_upgrade() {
            DenialFormat::Html
        } else {
            DenialFormat::Json
        };
        let request_id = head.first(REQUEST_ID_HEADER).and_then(RequestId::parse);
        Self { format, origin: None, request_id }
    }

    /// The format that the client understands.
    #[must_use]
    pub fn format(&self) -> DenialFormat {
        self.format
    }

    /// The request id, by which the operator finds the request in the access log.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// The headers of every denial to this recipient: the request id, and for a trusted origin the CORS headers that
    /// let its page read the denial (Fetch standard, "CORS protocol").
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let id = self.request_id.as_ref().map(|id| (REQUEST_ID_HEADER, id.as_str()));
        let cors = self.origin.as_deref().map(|origin| {
            [
                ("access-control-allow-origin", origin),
                ("access-control-allow-credentials", "true"),
                ("access-control-expose-headers", EXPOSED_HEADERS),
                ("vary", "Origin"),
            ]
        });
        id.into_iter().chain(cors.into_iter().flatten())
    }

    /// The header changes that give Envoy's own responses the headers of a denial.
    #[must_use]
    pub fn complete_local_reply(&self) -> Vec<HeaderChange> {
        self.headers().map(|(name, value)| HeaderChange::Set(name, value.into())).collect()
    }
}
