//! A gateway with fake functions, and a client that speaks CoAP by hand.

use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tinyfaas_coap::block::Block;
use tinyfaas_coap::message::{
    Code, Kind, Message, MessageId, OptionNumber, Options, OptionsBuilder, Token, uint,
};
use tinyfaas_gateway::{CoapSockets, Gateway, GatewayConfig, PskKeys};
use tinyfaas_model::{FunctionCounters, Handler, HandlerSet, Routes, RoutesWriter};
use tokio::net::UdpSocket;
use tokio::time::timeout;

pub(crate) use crate::functions::*;

/// How long an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) writer: RoutesWriter,
    routes: Routes,
    pub(crate) address: SocketAddr,
}

impl Server {
    pub(crate) fn start(config: GatewayConfig) -> Self {
        let (writer, routes) = RoutesWriter::new();
        let gateway = Gateway::new(config, routes.clone());
        let socket = StdSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let address = socket.local_addr().unwrap();
        let sockets = CoapSockets { udp: vec![socket], ..CoapSockets::default() };
        gateway.serve_coap(sockets, PskKeys::default()).unwrap();
        Self { gateway, writer, routes, address }
    }

    /// A server with the defaults and one function `f`.
    pub(crate) fn with(handler: Arc<dyn Handler>) -> Self {
        let mut server = Self::start(GatewayConfig::default());
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

    /// Asks this from a socket of its own and reads the whole answer.
    pub(crate) async fn ask(&self, ask: Ask) -> Answer {
        let mut client = Client::new(self.address).await;
        client.ask(ask).await
    }
}

/// A request.
#[derive(Clone)]
pub(crate) struct Ask {
    code: Code,
    options: OptionsBuilder,
    payload: Bytes,
}

/// Asks a URL's path and query.
pub(crate) fn ask(code: Code, url: &str) -> Ask {
    let (path, query) = url.split_once('?').unwrap_or((url, ""));
    let mut options = OptionsBuilder::new();
    for segment in path.split('/').skip(1) {
        options.push(OptionNumber::URI_PATH, segment.as_bytes()).unwrap();
    }
    for part in query.split('&').filter(|part| !part.is_empty()) {
        options.push(OptionNumber::URI_QUERY, part.as_bytes()).unwrap();
    }
    Ask { code, options, payload: Bytes::new() }
}

pub(crate) fn get(url: &str) -> Ask {
    ask(Code::GET, url)
}

pub(crate) fn post(url: &str, payload: impl Into<Bytes>) -> Ask {
    Ask { payload: payload.into(), ..ask(Code::POST, url) }
}

impl Ask {
    pub(crate) fn with(mut self, number: OptionNumber, value: &[u8]) -> Self {
        self.options.push(number, value).unwrap();
        self
    }
}

/// A response, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: Code,
    pub(crate) options: Options,
    pub(crate) payload: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The code, and each option as `NUMBER=TEXT`, but those of blocks.
    pub(crate) fn told(&self) -> String {
        let mut told = self.code.to_string();
        let blocks = [OptionNumber::BLOCK1, OptionNumber::BLOCK2, OptionNumber::SIZE2];
        for (number, value) in self.options.iter().filter(|(number, _)| !blocks.contains(number)) {
            let value = match number {
                OptionNumber::CONTENT_FORMAT | OptionNumber::MAX_AGE => {
                    uint(value).unwrap().to_string()
                }
                _ => String::from_utf8_lossy(value).into_owned(),
            };
            told += &format!(" {number}={value}");
        }
        told
    }
}

pub(crate) struct Client {
    socket: UdpSocket,
    next: u16,
}

impl Client {
    async fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.connect(server).await.unwrap();
        Self { socket, next: 1 }
    }

    /// Asks this, in blocks where it is long, and reads the answer to its end.
    async fn ask(&mut self, ask: Ask) -> Answer {
        let mut parts = ask.payload.chunks(1024).peekable();
        let mut number = 0;
        let mut answer = loop {
            let part = parts.next().unwrap_or_default();
            let more = parts.peek().is_some();
            let mut options = ask.options.clone();
            if ask.payload.len() > 1024 {
                let block = Block { number, more, exponent: 6 };
                options.push_uint(OptionNumber::BLOCK1, block.to_uint());
            }
            let answer = self.exchange(ask.code, options, part).await;
            if answer.code != Code::CONTINUE {
                break answer;
            }
            number += 1;
        };
        while let Some(block) = answer.options.get(OptionNumber::BLOCK2).and_then(Block::read)
            && block.more
        {
            let next = Block { number: block.number + 1, more: false, ..block };
            let mut options = ask.options.clone();
            options.push_uint(OptionNumber::BLOCK2, next.to_uint());
            let more = self.exchange(ask.code, options, &[]).await;
            assert_eq!(more.code, answer.code, "{more:?}");
            answer.payload.extend(more.payload);
            answer.options = more.options;
        }
        answer
    }

    async fn exchange(&mut self, code: Code, options: OptionsBuilder, payload: &[u8]) -> Answer {
        let id = self.next;
        self.next += 1;
        let token = Token::new(&id.to_be_bytes()).unwrap();
        let request = Message {
            kind: Kind::Confirmable,
            code,
            id: MessageId(id),
            token,
            options: options.build(),
            payload: Bytes::copy_from_slice(payload),
        };
        self.socket.send(&request.encode()).await.unwrap();
        loop {
            let mut datagram = vec![0; 2048];
            let read = timeout(PATIENCE, self.socket.recv(&mut datagram)).await;
            datagram.truncate(read.expect("no answer came").unwrap());
            let message = Message::decode(&datagram.into()).unwrap();
            if message.kind == Kind::Confirmable {
                let taken = Message::empty(Kind::Acknowledgement, message.id);
                self.socket.send(&taken.encode()).await.unwrap();
            }
            if message.code.is_empty() {
                assert_eq!(message.kind, Kind::Acknowledgement);
                continue;
            }
            assert_eq!(message.token, token);
            let (code, options) = (message.code, message.options);
            return Answer { code, options, payload: message.payload.to_vec() };
        }
    }
}
