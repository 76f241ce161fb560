//! Server-sent events of processes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{CACHE_CONTROL, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use super::output;
use super::process::Process;
use crate::server::answer::{AnyBody, respond};

/// A comment is sent if there was nothing else for this time, so that no proxy takes the stream for
/// an idle one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The lines of a process until its end.
pub(super) fn follow(process: Arc<Process>, of: Option<output::Stream>) -> Response<AnyBody> {
    events(Reader { process, of, position: 0, next: Next::Line, is_run: false })
}

/// The start, the lines, and the end of a process. It is killed if the client goes away.
pub(super) fn run(process: Arc<Process>) -> Response<AnyBody> {
    events(Reader { process, of: None, position: 0, next: Next::Start, is_run: true })
}

struct Reader {
    process: Arc<Process>,
    of: Option<output::Stream>,
    position: usize,
    next: Next,
    is_run: bool,
}

enum Next {
    Start,
    Line,
    Nothing,
}

impl Reader {
    async fn event(&mut self) -> Option<Value> {
        match self.next {
            Next::Start => {
                self.next = Next::Line;
                Some(self.process.started_event())
            }
            Next::Line => match self.process.output.next(&mut self.position, self.of).await {
                Some(line) => Some(line.event()),
                None => {
                    self.next = Next::Nothing;
                    if self.is_run { Some(self.process.end_event().await) } else { None }
                }
            },
            Next::Nothing => None,
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if self.is_run {
            self.process.kill();
        }
    }
}

fn events(reader: Reader) -> Response<AnyBody> {
    let mut response = respond(StatusCode::OK, "text/event-stream", Bytes::new());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    *response.body_mut() = StreamBody::new(frames(reader)).boxed_unsync();
    response
}

fn frames(reader: Reader) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> {
    stream::unfold(reader, async |mut reader| {
        let text = match timeout(KEEP_ALIVE, reader.event()).await {
            Ok(Some(event)) => format!("data: {event}\n\n"),
            Ok(None) => return None,
            Err(_) => ": \n\n".to_owned(),
        };
        Some((Ok(Frame::data(Bytes::from(text))), reader))
    })
}
