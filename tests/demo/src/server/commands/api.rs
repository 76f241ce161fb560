//! The paths of commands and files.
//!
//! | path below `/api/v1` | behaviour |
//! |---|---|
//! | `POST /processes/run` | runs a process and streams its output and its end |
//! | `POST /processes`, `GET /processes` | starts a process; lists them |
//! | `GET /processes/PID`, `DELETE /processes/PID` | shows a process; kills it and its group |
//! | `POST /processes/PID/signal` | `{"signal":15}` |
//! | `POST /processes/PID/stdin`, `…/stdin/close` | writes to its standard input; closes it |
//! | `GET /processes/PID/stdout`, `…/stderr`, `…/output`, each with `/follow` | its output so far; its output until its end, as server-sent events |
//! | `GET`, `PUT`, `DELETE /files?path=P` | reads, writes, deletes a file |
//! | `GET /files/list?path=P` | lists a folder |

use std::time::Duration;

use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::output::Stream;
use super::refusal::Refusal;
use super::spec::Spec;
use super::{Commands, NOTE, access, events, files};
use crate::server::answer::{Answer, AnyBody, full, respond};
use crate::server::query::Query;

const PREFIX: &str = "/api/v1";
/// The largest body of a request that is not a file.
const LARGEST_BODY: usize = 1 << 20;
/// How long the upload of a file may take.
const UPLOAD_WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
struct SignalBody {
    signal: i32,
}

impl Commands {
    /// Whether the path belongs to this part of the API.
    pub(in crate::server) fn has_path(path: &str) -> bool {
        let path = path.strip_prefix(PREFIX).unwrap_or_default();
        ["/processes", "/files"].iter().any(|root| {
            path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    /// The response if commands are off.
    pub(in crate::server) fn off() -> Response<AnyBody> {
        let message = "this demo was started without commands and files; see `sandgate-demo serve \
                       --help`";
        Refusal::new(StatusCode::NOT_IMPLEMENTED, "COMMANDS_OFF", message).into_response()
    }

    /// What `/api/v1/info` says about commands.
    pub(in crate::server) fn describe(&self, info: Answer) -> Answer {
        info.with("running_processes", self.processes.running().count())
            .with("total_processes", self.processes.started())
            .with("note", NOTE)
    }

    pub(in crate::server) async fn respond(&self, request: Request<Incoming>) -> Response<AnyBody> {
        match self.answer(request).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<AnyBody>, Refusal> {
        access::check(request.headers(), &self.settings.project)?;
        let (head, body) = request.into_parts();
        let path = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        let segments: Vec<_> = path.split('/').skip(1).collect();
        let (get, post) = (head.method == Method::GET, head.method == Method::POST);
        match segments.as_slice() {
            ["processes"] if get => {
                let all: Vec<_> = self.processes.list().iter().map(|it| it.info()).collect();
                Ok(answer(&json!({ "processes": all })))
            }
            ["processes"] if post => Ok(answer(&self.start(body).await?.info())),
            ["processes", "run"] if post => Ok(events::run(self.start(body).await?)),
            ["processes", pid, rest @ ..] => {
                let process = self.processes.find(pid)?;
                match rest {
                    [] if get => Ok(answer(&process.info())),
                    [] if head.method == Method::DELETE => {
                        process.kill();
                        Ok(nothing())
                    }
                    ["signal"] if post => {
                        let body = read(body, LARGEST_BODY).await?;
                        let SignalBody { signal } =
                            serde_json::from_slice(&body).map_err(|error| {
                                Refusal::bad_request(format!("the body names no signal: {error}"))
                            })?;
                        process.signal(signal)?;
                        Ok(answer(&json!({ "success": true })))
                    }
                    ["stdin"] if post => {
                        process.write(&read(body, LARGEST_BODY).await?).await?;
                        Ok(nothing())
                    }
                    ["stdin", "close"] if post => {
                        process.close_stdin().await?;
                        Ok(nothing())
                    }
                    [name] if get => {
                        let lines = process.output.lines(pipe(name)?);
                        let count = lines.len();
                        let pid = process.pid();
                        Ok(answer(&json!({ "pid": pid, "lines": lines, "line_count": count })))
                    }
                    [name, "follow"] if get => Ok(events::follow(process, pipe(name)?)),
                    _ => Err(no_such_call(&head.method, &head.uri)),
                }
            }
            ["files"] if get => {
                let bytes = self.files.read(file_path(&head.uri)?).await?;
                Ok(files::response(bytes))
            }
            ["files"] if head.method == Method::PUT => {
                let path = file_path(&head.uri)?;
                // Before the body is read, so that the number of bodies in memory is bounded.
                let _slot = self.files.slot().await?;
                let body = timeout(UPLOAD_WAIT, read(body, files::LARGEST)).await;
                let body = body.map_err(|_| too_slow())??;
                self.files.write(path, body).await?;
                Ok(nothing())
            }
            ["files"] if head.method == Method::DELETE => {
                self.files.delete(file_path(&head.uri)?).await?;
                Ok(nothing())
            }
            ["files", "list"] if get => Ok(answer(&self.files.list(file_path(&head.uri)?).await?)),
            _ => Err(no_such_call(&head.method, &head.uri)),
        }
    }

    async fn start(
        &self,
        body: Incoming,
    ) -> Result<std::sync::Arc<super::process::Process>, Refusal> {
        let spec = Spec::parse(&read(body, LARGEST_BODY).await?)?;
        self.processes.start(spec, &self.settings.directory, self.settings.time_limit)
    }
}

async fn read(body: Incoming, largest: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, largest).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "TOO_LARGE",
            format!("the demo takes at most {} KiB in this call", largest >> 10),
        )),
        Err(error) => Err(Refusal::bad_request(format!("the request ended early: {error}"))),
    }
}

fn too_slow() -> Refusal {
    let message = format!("the file did not arrive within {} s", UPLOAD_WAIT.as_secs());
    Refusal::new(StatusCode::REQUEST_TIMEOUT, "TOO_SLOW", message)
}

fn pipe(name: &str) -> Result<Option<Stream>, Refusal> {
    match name {
        "stdout" => Ok(Some(Stream::Stdout)),
        "stderr" => Ok(Some(Stream::Stderr)),
        "output" => Ok(None),
        _ => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "NOT_FOUND",
            format!("a process has `stdout`, `stderr` and `output`, and no `{name}`"),
        )),
    }
}

/// The parameter `path`. The clients encode it as a form does, in which `+` is a space.
fn file_path(uri: &Uri) -> Result<String, Refusal> {
    let mut paths = Query::of(uri).raw("path");
    let (Some(path), None) = (paths.next(), paths.next()) else {
        return Err(Refusal::bad_request("the query must have one `path`, as in `?path=/tmp/a`"));
    };
    let path = path.replace('+', " ");
    let path = percent_decode_str(&path)
        .decode_utf8()
        .map_err(|_| Refusal::bad_request("the demo only takes paths that are UTF-8"))?;
    if path.is_empty() || path.contains('\0') {
        return Err(Refusal::bad_request("the path is empty or contains a zero byte"));
    }
    Ok(path.into_owned())
}

fn answer(value: &Value) -> Response<AnyBody> {
    respond(StatusCode::OK, "application/json", value.to_string())
}

fn nothing() -> Response<AnyBody> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

fn no_such_call(method: &Method, uri: &Uri) -> Refusal {
    let message = format!("the demo has no `{method} {}`", uri.path());
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_belong_to_commands_and_files() {
        for path in ["/api/v1/processes", "/api/v1/processes/run", "/api/v1/files/list"] {
            assert!(Commands::has_path(path), "{path}");
        }
        for path in ["/api/v1/processesx", "/api/v1/info", "/processes", "/", "/api/v2/files"] {
            assert!(!Commands::has_path(path), "{path}");
        }
    }

    #[test]
    fn a_path_is_decoded_like_a_form() {
        let path = |query: &str| file_path(&format!("/x?{query}").parse().unwrap());
        assert_eq!(path("path=%2Ftmp%2Fa+b%2Bc").unwrap(), "/tmp/a b+c");
        for wrong in ["", "path=", "path=a&path=b", "path=%00", "path=%FF", "Path=a"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
