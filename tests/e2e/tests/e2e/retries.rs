//! A server that closes a connection without notice loses requests. Requests with a safe method are retried once,
//! others are not, and a 503 still means that nothing was sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::Method;
use sandgate_e2e::{Call, Protocol, Setup, Stack, run};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::scripted::{PORT, listening};

/// A request that reaches the server within this time after a response is lost.
const PAUSE: Duration = Duration::from_millis(30);

/// Responds to the first request of each connection, and closes the connection soon after. Requests that arrive in
/// between are counted without a response.
#[derive(Clone, Default)]
struct ClosingServer {
    /// The number of requests by request line.
    seen: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl ClosingServer {
    fn start(listener: TcpListener) -> Self {
        let server = Self::default();
        let serving = server.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.serve(stream).await });
            }
        });
        server
    }

    async fn serve(&self, mut stream: TcpStream) -> Result<()> {
        let mut buffer = vec![0; 64 << 10];
        let length = stream.read(&mut buffer).await?;
        self.count(buffer.get(..length).unwrap_or_default());
        if length > 0 {
            // A response to a HEAD has no body.
            let body: &[u8] = if buffer.starts_with(b"HEAD ") { b"" } else { b"ok" };
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n";
            stream.write_all(&[head, body].concat()).await?;
        }
        tokio::time::sleep(PAUSE).await;
        if let Ok(length) = stream.try_read(&mut buffer) {
            self.count(buffer.get(..length).unwrap_or_default());
        }
        Ok(())
    }

    fn count(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let Some(line) = text.lines().next().filter(|line| line.contains("HTTP/1.1")) else {
            return;
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry(line.to_owned()).or_default() += 1;
    }

    /// The number of times that each request of this method arrived.
    fn counts(&self, method: &str) -> Vec<usize> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let of_method = seen.iter().filter(|(line, _)| line.starts_with(&format!("{method} ")));
        of_method.map(|(_, count)| *count).collect()
    }
}

async fn closing_server(stack: &Stack) -> Result<(ClosingServer, String)> {
    let (sandbox, listener) = listening(stack).await?;
    Ok((ClosingServer::start(listener), sandbox.host(PORT)))
}

#[test]
fn requests_with_a_safe_method_are_retried_once() {
    run(Setup::default(), async |stack| {
        let (server, host) = closing_server(stack).await?;
        for protocol in [Protocol::Http1, Protocol::H2c] {
            for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE] {
                let mut connection = stack.edge().connect(protocol).await?;
                for number in 0..15 {
                    let path = format!("/{protocol:?}/{number}");
                    let call = stack.edge().request(method.clone(), &host, &path);
                    let answer = connection.send(call).await?;
                    assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
                }
            }
        }
        for method in ["GET", "HEAD", "OPTIONS", "TRACE"] {
            let counts = server.counts(method);
            assert_eq!(counts.len(), 30);
            assert!(counts.contains(&2), "no {method} was lost, so nothing was tested");
            assert!(counts.iter().all(|count| *count <= 2), "{counts:?}");
        }
        Ok(())
    });
}

/// Sends `call` after a GET, when the server is about to close the connection.
async fn after_a_get(stack: &Stack, host: &str, path: &str, call: Call) -> Result<u16> {
    let mut connection = stack.edge().connect(Protocol::H2c).await?;
    let before = connection.send(stack.edge().get(host, path)).await?;
    anyhow::ensure!(before.status == 200, "{}", before.text());
    Ok(connection.open(call).await?.status().as_u16())
}

#[test]
fn a_post_is_never_retried() {
    run(Setup::default(), async |stack| {
        let (server, host) = closing_server(stack).await?;
        let mut statuses = Vec::new();
        for number in 0..30 {
            let call = stack.edge().post(&host, &format!("/{number}")).body("once");
            let call = call.over(Protocol::H2c);
            statuses.push(after_a_get(stack, &host, &format!("/before/{number}"), call).await?);
        }
        assert!(statuses.contains(&502), "no POST was lost, so nothing was tested: {statuses:?}");
        assert!(statuses.iter().all(|status| [200, 502].contains(status)), "{statuses:?}");
        let counts = server.counts("POST");
        assert!(counts.iter().all(|count| *count == 1), "{counts:?}");
        Ok(())
    });
}

#[test]
fn an_upgrade_is_never_retried() {
    run(Setup::default(), async |stack| {
        let (server, host) = closing_server(stack).await?;
        let mut lost = 0;
        for number in 0..30 {
            let mut stream = TcpStream::connect(stack.edge().address()).await?;
            let request = |path: &str, rest: &str| {
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n{rest}\r\n")
            };
            stream.write_all(request(&format!("/before/{number}"), "").as_bytes()).await?;
            let mut buffer = vec![0; 4096];
            let length = stream.read(&mut buffer).await?;
            anyhow::ensure!(
                buffer.get(..length).is_some_and(|it| it.starts_with(b"HTTP/1.1 200 "))
            );
            let upgrade = "connection: upgrade\r\nupgrade: websocket\r\n";
            stream.write_all(request(&format!("/upgrade/{number}"), upgrade).as_bytes()).await?;
            let length = stream.read(&mut buffer).await?;
            lost += usize::from(
                buffer.get(..length).is_some_and(|it| it.starts_with(b"HTTP/1.1 502 ")),
            );
        }
        assert!(lost > 0, "no upgrade was lost, so nothing was tested");
        let seen = server.seen.lock().unwrap().clone();
        let upgrades = seen.iter().filter(|(line, _)| line.contains("/upgrade/"));
        for (line, count) in upgrades {
            assert_eq!(*count, 1, "{line}");
        }
        Ok(())
    });
}

/// The second attempt can't connect, so the response must still report that the first one was sent.
#[test]
fn if_only_the_first_attempt_was_sent_the_response_is_not_a_503() {
    run(Setup::default(), async |stack| {
        let (sandbox, listener) = listening(stack).await?;
        let dying = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            drop(listener);
            let mut buffer = vec![0; 4096];
            anyhow::Ok(stream.read(&mut buffer).await?)
        });
        let call = || stack.edge().get(&sandbox.host(PORT), "/");
        let first = call().send().await?;
        assert_eq!(first.denial()?, "502 UPSTREAM_RESET");
        assert!(dying.await?? > 0, "the request was not sent");
        assert_eq!(first.header("x-sandgate-sent"), None);
        // From now on nothing is sent, so the response is a 503.
        let second = call().send().await.context("the second request")?;
        assert_eq!(second.denial()?, "503 SANDBOX_UNREACHABLE");
        assert_eq!(second.header("x-sandgate-sent"), None);
        Ok(())
    });
}
