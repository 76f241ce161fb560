//! One small HTTP request to Envoy on loopback: not worth a client library.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How much of an answer is read.
const MOST: u64 = 1 << 20;

/// Asks `127.0.0.1:port` for `path`: status and body.
///
/// # Errors
///
/// Where there is no whole answer within `limit`.
pub async fn ask(port: u16, path: &str, limit: Duration) -> io::Result<(u16, String)> {
    tokio::time::timeout(limit, exchange(port, path)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

async fn exchange(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: sandgate-agent\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut stream = stream.take(MOST);
    let mut answer = Vec::new();
    // Not to the end of the connection: Envoy leaves closing it to the client, for a second.
    while !is_whole(&answer) && stream.read_buf(&mut answer).await? > 0 {}
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, body.to_owned()))
}

/// Whether it is as long as its head says. One that does not say it ends with the connection.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|length| body.len() >= length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Answers one request in these pieces; then closes, or leaves that to the client for ever.
    async fn server(pieces: &'static [&'static str], closes: bool) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            for piece in pieces {
                stream.write_all(piece.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
            if !closes {
                std::future::pending::<()>().await;
            }
        });
        port
    }

    #[tokio::test]
    async fn an_answer_is_over_when_it_says_so() {
        let pieces = &["HTTP/1.1 200 OK\r\nContent-", "Length: 5\r\n\r\nhel", "lo"];
        let port = server(pieces, false).await;
        // Far less than it would take if the end of the connection were waited for.
        let (status, body) = ask(port, "/", Duration::from_secs(20)).await.unwrap();
        assert_eq!((status, body.as_str()), (200, "hello"));
    }

    #[tokio::test]
    async fn an_answer_that_does_not_say_its_length_ends_with_the_connection() {
        let port = server(&["HTTP/1.1 503 No\r\n\r\nwhy", " not"], true).await;
        let (status, body) = ask(port, "/", Duration::from_secs(20)).await.unwrap();
        assert_eq!((status, body.as_str()), (503, "why not"));
    }

    #[tokio::test]
    async fn half_an_answer_is_none() {
        let port = server(&["HTTP/1.1 200 OK\r\ncontent-le"], true).await;
        assert!(ask(port, "/", Duration::from_secs(20)).await.is_err());
    }
}
