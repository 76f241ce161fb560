//! The reader of a denial: the shape that it understands, its origin, and the id of its request.

use super::config::IngressConfig;
use super::head::Head;
use super::hygiene::HeaderChange;

/// The form of a denial that a client understands.
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

/// The header that carries the request id.
const REQUEST_ID_HEADER: &str = "x-request-id";
/// No longer id is repeated to a client.
const REQUEST_ID_MAX: usize = 128;
/// Response headers that a page of another origin may read, apart from those that Fetch lists itself.
const EXPOSED_HEADERS: &str = "retry-after, www-authenticate, x-request-id";

/// The id of a request, which access logs have too. A client may choose it, so it is only held when it is
/// safe in a header and on a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RequestId(String);

impl RequestId {
    /// Parses an id: letters, digits and `-._~:=+/@`, 128 at most.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-._~:=+/@".contains(b);
        let good = (1..=REQUEST_ID_MAX).contains(&text.len()) && text.iter().all(safe);
        good.then(|| String::from_utf8_lossy(text).into_owned()).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The reader of a denial. The default is a program of which nothing is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recipient {
    shape: DenialFormat,
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

    /// The same while no configuration says which origins are trusted.
    #[must_use]
    pub fn unconfigured(head: Head<'_>) -> Self {
        let shape = if head.is_grpc() {
            DenialFormat::Grpc
        } else if head.is_navigation() && !head.is_upgrade() {
            DenialFormat::Html
        } else {
            DenialFormat::Json
        };
        let request_id = head.first(REQUEST_ID_HEADER).and_then(RequestId::parse);
        Self { shape, origin: None, request_id }
    }

    /// The form that the client understands.
    #[must_use]
    pub fn shape(&self) -> DenialFormat {
        self.shape
    }

    /// The id under which the operator finds the request.
    #[must_use]
    pub fn request_id(&self) -> Option<&RequestId> {
        self.request_id.as_ref()
    }

    /// The headers of every denial to this recipient: its request id, and for a page of a trusted
    /// origin the permission to read the denial (Fetch standard, "CORS protocol").
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

    /// What a response that the proxy itself generated lacks.
    #[must_use]
    pub fn complete_local_reply(&self) -> Vec<HeaderChange> {
        self.headers().map(|(name, value)| HeaderChange::Set(name.into(), value.into())).collect()
    }
}
