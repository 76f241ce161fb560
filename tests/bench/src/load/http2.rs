//! HTTP/2 with prior knowledge: one request at a time on each connection, or one gRPC call.

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, Request, StatusCode};

use super::{Load, Protocol};
use crate::serve::grpc_message;

pub(super) struct Client {
    sender: h2::client::SendRequest<Bytes>,
}

impl Client {
    pub(super) async fn connect(load: &Load) -> Result<Self> {
        let (sender, connection) = h2::client::handshake(load.tcp().await?).await?;
        // Its error is also that of each request.
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    pub(super) async fn send(&mut self, load: &Load, number: u64) -> Result<()> {
        let is_grpc = load.protocol == Protocol::Grpc;
        let (method, path) = if is_grpc {
            (Method::POST, "/grpc.health.v1.Health/Check")
        } else {
            (Method::GET, "/health")
        };
        let uri = format!("http://{}{path}", load.authority(number));
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in load.headers(number) {
            request = request.header(name, value);
        }
        if is_grpc {
            request = request.header("content-type", "application/grpc").header("te", "trailers");
        }
        let mut sender = self.sender.clone().ready().await?;
        let (response, mut body) = sender.send_request(request.body(())?, !is_grpc)?;
        if is_grpc {
            body.send_data(grpc_message(&[]), true)?;
        }
        let response = response.await?;
        let status = response.status();
        ensure!(status == StatusCode::OK, "HTTP status {status}");
        let mut body = response.into_body();
        while let Some(chunk) = body.data().await {
            body.flow_control().release_capacity(chunk?.len())?;
        }
        if is_grpc {
            let trailers = body.trailers().await?.context("no trailers")?;
            let status = trailers.get("grpc-status").context("no gRPC status")?;
            ensure!(status == "0", "gRPC status {status:?}");
        }
        Ok(())
    }
}
