//! HTTP/2 with prior knowledge on the HTTP port, and HTTP/1.1 on the gRPC port, which needs HTTP/2.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::support::{ask, start};

async fn connect(address: std::net::SocketAddr) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    let (sender, connection) = handshake(TokioExecutor::new(), stream).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn answer(
    sender: &mut SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<Value> {
    let response = sender.send_request(request).await?;
    Ok(serde_json::from_slice(&response.into_body().collect().await?.to_bytes())?)
}

#[tokio::test]
async fn the_record_of_an_http2_request_has_the_same_fields() -> anyhow::Result<()> {
    let mut sender = connect(start().await?.http).await?;
    let request = Request::post("http://8080-my-env.sandbox.test:9443/a%2Fb//?a&&b=")
        .header("x", "1")
        .header("x", "2")
        .body(Full::from("hello"))?;
    let first = answer(&mut sender, request).await?;
    assert_eq!(first["version"], "HTTP/2.0");
    assert_eq!(first["target"], "/a%2Fb//?a&&b=");
    assert_eq!(first["host"], "8080-my-env.sandbox.test:9443");
    assert_eq!(first["body"], "hello");
    assert_eq!(
        first["headers"].as_array().map(|all| all.iter().filter(|it| it[0] == "x").count()),
        Some(2)
    );
    let second = answer(&mut sender, Request::get("http://h/").body(Full::default())?).await?;
    assert_eq!(first["connection"], second["connection"]);
    Ok(())
}

#[tokio::test]
async fn close_resets_only_its_own_stream() -> anyhow::Result<()> {
    let mut sender = connect(start().await?.http).await?;
    let close = Request::get("http://h/close").body(Full::default())?;
    assert!(sender.send_request(close).await.is_err());
    let next = answer(&mut sender, Request::get("http://h/health").body(Full::default())?).await?;
    assert_eq!(next["status"], "ok");
    Ok(())
}

#[tokio::test]
async fn the_grpc_port_refuses_http1_with_an_explanation() -> anyhow::Result<()> {
    let response = ask(start().await?.grpc, "POST /sandgate.demo.v1.Echo/Echo").await?;
    assert_eq!((response.status, &response.json()?["code"]), (505, &json!("HTTP2_REQUIRED")));
    Ok(())
}
