//! A running sandbox, and an HTTP client that sends exactly the given bytes.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use sandgate_demo::server::{Addresses, CommandSettings, Commands, DemoSandbox, Identity, Ports};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(crate) const ID: &str = "k3j5a9x2m7q4w8z1p6r0t";
pub(crate) const NAME: &str = "my-env";
/// The timeout for immediate events. It is long because the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A sandbox in this process, on ports that the system chose.
pub(crate) async fn start() -> anyhow::Result<Addresses> {
    start_with(None).await
}

async fn start_with(commands: Option<Commands>) -> anyhow::Result<Addresses> {
    let identity = Identity { id: ID.into(), name: Some(NAME.into()) };
    let address = IpAddr::V4(Ipv4Addr::new(127, 77, 0, 1));
    let sandbox = DemoSandbox::bind(address, Ports::ANY, identity).await?.with_commands(commands);
    let addresses = sandbox.addresses();
    tokio::spawn(sandbox.serve());
    Ok(addresses)
}

/// An HTTP/1.1 response.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn json(&self) -> anyhow::Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("no JSON: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Vec<&[u8]> {
        let named = self.headers.iter().filter(|(it, _)| it == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }
}

/// An HTTP/1.1 connection.
#[derive(Debug)]
pub(crate) struct Http1(pub(crate) BufReader<TcpStream>);

impl Http1 {
    pub(crate) async fn connect(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(BufReader::new(TcpStream::connect(address).await?)))
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.0.write_all(bytes).await?)
    }

    /// Reads the status and the headers. Header names are in lower case.
    pub(crate) async fn head(&mut self) -> anyhow::Result<Response> {
        let status = self.line().await?;
        let status = status.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5));
        let status = std::str::from_utf8(status.context("no status line")?)?.parse()?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Ok(Response { status, headers, body: Vec::new() });
            }
            let colon = line.iter().position(|&byte| byte == b':').context("no header")?;
            let (name, value) = line.split_at(colon);
            let name = String::from_utf8(name.to_ascii_lowercase())?;
            headers.push((name, value.get(1..).unwrap_or_default().trim_ascii().to_vec()));
        }
    }

    /// Reads a complete response, which must declare its length.
    pub(crate) async fn response(&mut self) -> anyhow::Result<Response> {
        let mut response = self.head().await?;
        let length = match response.header("content-length").first() {
            Some(length) => std::str::from_utf8(length)?.parse()?,
            None if matches!(response.status, 204 | 304) => 0,
            None => anyhow::bail!("no content-length"),
        };
        response.body = vec![0; length];
        self.0.read_exact(&mut response.body).await?;
        Ok(response)
    }

    /// Reads a line, without its line break.
    pub(crate) async fn line(&mut self) -> anyhow::Result<Vec<u8>> {
        let mut line = Vec::new();
        tokio::time::timeout(PATIENCE, self.0.read_until(b'\n', &mut line)).await??;
        anyhow::ensure!(line.pop() == Some(b'\n'), "the connection was closed");
        line.pop_if(|byte| *byte == b'\r');
        Ok(line)
    }
}

/// Sends one request on a new connection. `request` is the request line without its version,
/// followed by header lines, separated by `\r\n`.
pub(crate) async fn ask(address: SocketAddr, request: &str) -> anyhow::Result<Response> {
    let (line, headers) = request.split_once("\r\n").unwrap_or((request, ""));
    let end = if headers.is_empty() { "" } else { "\r\n" };
    let request = format!("{line} HTTP/1.1\r\nHost: demo.test\r\n{headers}{end}\r\n");
    let mut connection = Http1::connect(address).await?;
    connection.send(request.as_bytes()).await?;
    connection.response().await
}

/// The project of the sandbox, and the header field by which the edge names it.
const PROJECT: &str = "project_k3j5a9x2m7q4w8z1";

/// The management API of a sandbox in this process that runs commands.
pub(crate) struct Api {
    address: SocketAddr,
    path: String,
    _directory: TempDir,
    commands: Commands,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.commands.kill_all();
    }
}

impl Api {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        Self::start_if(true).await
    }

    pub(crate) async fn without_commands() -> anyhow::Result<Self> {
        Self::start_if(false).await
    }

    async fn start_if(are_on: bool) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let commands = Commands::new(CommandSettings {
            project: PROJECT.into(),
            directory: directory.path().to_owned(),
            time_limit: PATIENCE * 4,
        });
        let address = start_with(are_on.then(|| commands.clone())).await?.management;
        let path = directory.path().to_str().context("the path is UTF-8")?.to_owned();
        Ok(Self { address, path, _directory: directory, commands })
    }

    pub(crate) fn commands(&self) -> &Commands {
        &self.commands
    }

    /// The folder in which commands start.
    pub(crate) fn directory(&self) -> &str {
        &self.path
    }

    /// Sends a request as the edge does, and reads the complete response.
    pub(crate) async fn call(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<Response> {
        self.send(method, path, &format!("X-Forwarded-Project-Id: {PROJECT}\r\n"), body).await
    }

    /// Sends a request with these header lines, and reads the complete response.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<Response> {
        let mut connection = self.open_with(method, path, headers, body).await?;
        let mut response = connection.head().await?;
        let rest = connection.0.read_to_end(&mut response.body);
        // A response without a length ends with the connection.
        tokio::time::timeout(PATIENCE, rest).await??;
        Ok(response)
    }

    /// Sends a request as the edge does.
    pub(crate) async fn open(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<Http1> {
        let headers = format!("X-Forwarded-Project-Id: {PROJECT}\r\n");
        self.open_with(method, path, &headers, body).await
    }

    async fn open_with(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> anyhow::Result<Http1> {
        let length = body.len();
        let mut connection = Http1::connect(self.address).await?;
        // HTTP/1.0 has no chunks.
        let head =
            format!("{method} /api/v1{path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n");
        connection.send(head.as_bytes()).await?;
        // The server may respond to a body that is too large before it has read all of it.
        let _: anyhow::Result<()> = connection.send(body).await;
        Ok(connection)
    }

    /// Begins an upload of which nothing follows, and waits until the server waits for it.
    pub(crate) async fn begin_upload(&self, path: &str) -> anyhow::Result<Http1> {
        let mut connection = Http1::connect(self.address).await?;
        let head = format!(
            "PUT /api/v1{path} HTTP/1.1\r\nHost: h\r\nX-Forwarded-Project-Id: {PROJECT}\r\n\
             Content-Length: 9\r\nExpect: 100-continue\r\n\r\n"
        );
        connection.send(head.as_bytes()).await?;
        anyhow::ensure!(connection.head().await?.status == 100, "the server does not wait");
        Ok(connection)
    }

    /// The JSON of a successful response.
    pub(crate) async fn json(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<Value> {
        let response = self.call(method, path, body).await?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        anyhow::ensure!(response.status == 200, "{method} {path}: {} {text}", response.status);
        response.json()
    }

    /// All server-sent events of a response.
    pub(crate) async fn events(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
    ) -> anyhow::Result<Vec<Value>> {
        let response = self.call(method, path, body).await?;
        let text = String::from_utf8(response.body)?;
        anyhow::ensure!(response.status == 200, "{method} {path}: {} {text}", response.status);
        text.split("\n\n")
            .filter_map(|event| event.strip_prefix("data: "))
            .map(|data| serde_json::from_str(data).with_context(|| data.to_owned()))
            .collect()
    }
}

/// The command lines of all processes on the machine that have this argument.
pub(crate) fn processes_with(argument: &str) -> anyhow::Result<Vec<String>> {
    let entries = std::fs::read_dir("/proc")?.flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let has_it = |line: &Vec<u8>| line.split(|byte| *byte == 0).any(|it| it == argument.as_bytes());
    Ok(lines.filter(has_it).map(|line| String::from_utf8_lossy(&line).into_owned()).collect())
}
