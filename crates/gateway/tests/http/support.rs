//! A gateway with fake functions, and a client that speaks HTTP/1 by hand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::BytesMut;
use tinyfaas_gateway::{Gateway, GatewayConfig};
use tinyfaas_model::{FunctionCounters, Handler, HandlerSet, Routes, RoutesWriter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) use crate::functions::*;

pub(crate) struct Server {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) writer: RoutesWriter,
    routes: Routes,
}

impl Server {
    pub(crate) async fn start(config: GatewayConfig) -> Self {
        let (writer, routes) = RoutesWriter::new();
        let gateway = Gateway::new(config, routes.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = gateway.serve_http(vec![listener]).unwrap().addresses[0];
        Self { gateway, address, writer, routes }
    }

    /// A server with the defaults and one function `f`.
    pub(crate) async fn with(handler: Arc<dyn Handler>) -> Self {
        let mut server = Self::start(GatewayConfig::default()).await;
        server.deploy(Function::default(), handler);
        server
    }

    pub(crate) fn deploy(
        &mut self,
        function: Function,
        handler: Arc<dyn Handler>,
    ) -> Arc<HandlerSet> {
        deploy(&mut self.writer, function, handler)
    }

    /// What is counted of the function `f`.
    pub(crate) fn counters(&self) -> Arc<FunctionCounters> {
        Arc::clone(&self.routes.find("f").unwrap().counters)
    }

    pub(crate) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        // Acknowledgements come in real time, of which a paused clock leaves none.
        stream.set_nodelay(true).unwrap();
        Client { stream, buffer: BytesMut::new() }
    }

    /// Sends this on a connection of its own and reads the response.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        let mut client = self.connect().await;
        client.send(request).await;
        client.response().await
    }
}

pub(crate) struct Client {
    stream: TcpStream,
    buffer: BytesMut,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let first = values.next();
        assert!(values.next().is_none(), "{name} is repeated: {self:?}");
        first
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends as much as the other side takes; tells whether that was all.
    pub(crate) async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).await.is_ok()
    }

    /// False at the end of what comes.
    async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.is_ok_and(|bytes| bytes > 0)
    }

    /// The status and the headers of the next response; None where the
    /// connection ends before one.
    pub(crate) async fn head(&mut self) -> Option<Response> {
        let end = loop {
            let found = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            match found {
                Some(at) => break at + 4,
                None if !self.fill().await => {
                    assert!(self.buffer.is_empty(), "cut head: {:?}", self.buffer);
                    return None;
                }
                None => (),
            }
        };
        let head = String::from_utf8(self.buffer.split_to(end).to_vec()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        };
        Some(Response { status, headers: lines.map(header).collect(), body: Vec::new() })
    }

    /// The next chunk of a chunked body; None at its end, or where it breaks
    /// off, which `broken` then tells.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let end = loop {
            match self.buffer.windows(2).position(|bytes| bytes == b"\r\n") {
                Some(at) => break at,
                None if !self.fill().await => return None,
                None => (),
            }
        };
        let line = String::from_utf8(self.buffer.split_to(end + 2).to_vec()).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        while self.buffer.len() < length + 2 {
            if !self.fill().await {
                return None;
            }
        }
        let chunk = self.buffer.split_to(length).to_vec();
        let _ = self.buffer.split_to(2);
        if length == 0 { None } else { Some(chunk) }
    }

    /// The next response, whole.
    pub(crate) async fn response(&mut self) -> Response {
        self.try_response().await.expect("a response")
    }

    pub(crate) async fn try_response(&mut self) -> Option<Response> {
        let mut response = self.head().await?;
        if response.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                response.body.extend(chunk);
            }
        } else if let Some(length) = response.header("content-length") {
            let length = length.parse().unwrap();
            while self.buffer.len() < length && self.fill().await {}
            response.body = self.buffer.split_to(length).to_vec();
        }
        Some(response)
    }

    /// Waits until the server has closed the connection, with nothing more said.
    pub(crate) async fn ended(&mut self) {
        self.closed().await;
        assert!(self.buffer.is_empty(), "unexpected: {:?}", self.buffer);
    }

    /// Waits until the server has closed the connection, whatever it says.
    pub(crate) async fn closed(&mut self) {
        while self.fill().await {}
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }
}

pub(crate) const GET: &str = "GET /f HTTP/1.1\r\nhost: h\r\n\r\n";

/// A POST with this body.
pub(crate) fn post(body: &str) -> String {
    format!("POST /f HTTP/1.1\r\nhost: h\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
