//! Bodies that are processed in parts, so that memory use does not depend on their size.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::LazyLock;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::server::Identity;
use crate::server::answer::{AnyBody, full, respond};

/// The maximum size of a request body that the record contains, in bytes.
const SHOWN: usize = 64 << 10;

/// The facts of a request body that was read.
pub(super) struct Consumed {
    pub(super) length: u64,
    /// The body, if it is small and UTF-8.
    pub(super) text: Option<String>,
    /// The digest in hexadecimal, if requested.
    pub(super) sha256: Option<String>,
}

/// Reads a body to its end.
pub(super) async fn consume(mut body: Incoming, digest: bool) -> Result<Consumed, hyper::Error> {
    let mut length = 0;
    let mut shown = Vec::new();
    let mut sha256 = digest.then(Sha256::new);
    while let Some(frame) = body.frame().await {
        // The only other frames are trailers.
        let Ok(data) = frame?.into_data() else { continue };
        length += data.len() as u64;
        if length <= SHOWN as u64 {
            shown.extend_from_slice(&data);
        }
        if let Some(sha256) = &mut sha256 {
            sha256.update(&data);
        }
    }
    let text = if length <= SHOWN as u64 { String::from_utf8(shown).ok() } else { None };
    let sha256 = sha256.map(|sha256| {
        sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    });
    Ok(Consumed { length, text, sha256 })
}

/// `count` server-sent events: the first immediately, the others at intervals of `interval`. With a
/// `count` of 0, the stream never ends.
pub(super) fn events(count: u64, interval: Duration, identity: &Identity) -> Response<AnyBody> {
    let id = identity.id.clone();
    let events = stream::unfold(1, move |number: u64| {
        let id = id.clone();
        async move {
            if count != 0 && number > count {
                return None;
            }
            if number > 1 {
                tokio::time::sleep(interval).await;
            }
            let data = json!({ "number": number, "count": count, "sandbox": id });
            let event = format!("id: {number}\nevent: tick\ndata: {data}\n\n");
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(event))), number + 1))
        }
    });
    let mut response = respond(StatusCode::OK, "text/event-stream", Bytes::new());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    *response.body_mut() = StreamBody::new(events).boxed_unsync();
    response
}

/// `bytes` bytes, with a `Content-Length`.
pub(super) fn download(bytes: u64) -> Response<AnyBody> {
    let mut response = Response::new(full(Bytes::new()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    *response.body_mut() = Pattern { remaining: bytes }.boxed_unsync();
    response
}

/// Bytes 0, 1, … 250, 0, 1, …: the period is prime, so a
/// lost, repeated or swapped block is detected.
struct Pattern {
    remaining: u64,
}

/// Contains whole periods of the pattern, so that every block of a download is a prefix of this
/// block.
static BLOCK: LazyLock<Bytes> = LazyLock::new(|| (0..=250_u8).cycle().take(251 * 256).collect());

impl Body for Pattern {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        let length = usize::try_from(self.remaining).map_or(BLOCK.len(), |n| n.min(BLOCK.len()));
        self.remaining -= length as u64;
        Poll::Ready(Some(Ok(Frame::data(BLOCK.slice(..length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}
