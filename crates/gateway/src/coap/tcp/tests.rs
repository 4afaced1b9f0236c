use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use tinyfaas_coap::block::BlockLimits;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, OptionNumber, OptionsBuilder, Token};
use tinyfaas_coap::observe::ResourceId;
use tinyfaas_coap::stream::Connection;
use tinyfaas_coap::stream::frame::Taken;
use tinyfaas_coap::stream::signal::{ABORT, CSM, PING, PONG, RELEASE};
use tinyfaas_model::RoutesWriter;
use tokio::io::DuplexStream;
use tokio::task::JoinHandle;

use super::patience::{Limit, Patience};
use super::*;
use crate::asynchronous::AcceptedCalls;
use crate::config::GatewayConfig;
use crate::dispatch::Dispatch;
use crate::held::HeldBytes;

/// A client's end of a connection.
struct Client {
    stream: DuplexStream,
    input: BytesMut,
    served: JoinHandle<()>,
    stop: watch::Sender<Stop>,
}

fn coap() -> Arc<Coap> {
    let config = GatewayConfig::default();
    let (_, routes) = RoutesWriter::new();
    let dispatch = Arc::new(Dispatch::new(&config, routes));
    let accepted = AcceptedCalls::new(&config, Arc::clone(&dispatch));
    Coap::new(&config, dispatch, accepted, HeldBytes::new(config.held_bytes_max))
}

impl Client {
    /// A connection whose pipe holds so many bytes each way.
    fn connect(pipe_bytes: usize) -> Client {
        let (stream, theirs) = tokio::io::duplex(pipe_bytes);
        let stop = watch::Sender::new(None);
        let changes = stop.subscribe();
        let peer = Peer::at(SocketAddr::from(([127, 0, 0, 1], 4000)));
        let blocks = Mutex::new(Blocks::new(coap().config.blocks.clone(), 1));
        let tcp = Tcp { coap: coap(), blocks };
        let served = tokio::spawn(async move {
            connection::serve(&tcp, theirs, peer, changes).await;
        });
        Client { stream, input: BytesMut::new(), served, stop }
    }

    /// One that has been greeted.
    async fn greeted(pipe_bytes: usize) -> Client {
        let mut client = Client::connect(pipe_bytes);
        client.send(&Frame::new(CSM)).await;
        assert_eq!(client.next().await.map(|frame| frame.code), Some(CSM));
        client
    }

    async fn send(&mut self, frame: &Frame) {
        let bytes = [&frame.encode_head()[..], &frame.payload].concat();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// What comes next; none at the end.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            match Frame::take(&mut self.input, 1 << 20).unwrap() {
                Taken::Frame(frame) => return Some(frame),
                Taken::Missing(_) => {
                    if self.stream.read_buf(&mut self.input).await.unwrap() == 0 {
                        return None;
                    }
                }
            }
        }
    }

    /// Looks that the next message has this code, and then there is no more.
    async fn ends_with(mut self, code: Code, words: &str) {
        let last = self.next().await.expect("a last message");
        let told = String::from_utf8(last.payload.to_vec()).unwrap();
        assert_eq!(last.code, code, "{told}");
        assert!(told.contains(words), "{told}");
        assert!(self.next().await.is_none());
        drop(self.stream);
        self.served.await.unwrap();
    }
}

fn get(token: u8) -> Frame {
    let mut options = OptionsBuilder::new();
    options.push(OptionNumber::URI_PATH, b"nobody").unwrap();
    let token = Token::new(&[token]).unwrap();
    Frame { token, options: options.build(), ..Frame::new(Code::GET) }
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_and_the_end_is_the_clients() {
    let mut client = Client::greeted(1000).await;
    for token in 0..3 {
        client.send(&get(token)).await;
    }
    for token in 0..3 {
        let answer = client.next().await.unwrap();
        assert_eq!((answer.code, answer.token.as_slice()), (Code::NOT_FOUND, &[token][..]));
    }
    client.stream.shutdown().await.unwrap();
    assert!(client.next().await.is_none());
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_release_is_followed_by_the_end() {
    let mut client = Client::greeted(1000).await;
    client.send(&get(1)).await;
    client.send(&Frame::new(RELEASE)).await;
    client.ends_with(Code::NOT_FOUND, "").await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_say_what_it_can_is_cut_off() {
    let mut client = Client::connect(1000);
    let begun = tokio::time::Instant::now();
    assert_eq!(client.next().await.unwrap().code, CSM);
    client.ends_with(ABORT, "no CSM came within 10s").await;
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_is_let_go() {
    let mut client = Client::greeted(1000).await;
    let begun = tokio::time::Instant::now();
    for _ in 0..3 {
        sleep(Duration::from_secs(299)).await;
        client.send(&Frame::new(PING)).await;
        assert_eq!(client.next().await.unwrap().code, PONG);
    }
    client.ends_with(RELEASE, "").await;
    assert_eq!(begun.elapsed().as_secs(), 3 * 299 + 300);
}

#[tokio::test(start_paused = true)]
async fn a_message_must_come_whole_in_time() {
    let mut client = Client::greeted(1000).await;
    let begun = tokio::time::Instant::now();
    // One that is slow, yet in time.
    for byte in &get(1).encode_head()[..] {
        sleep(Duration::from_secs(5)).await;
        client.stream.write_all(&[*byte]).await.unwrap();
    }
    assert_eq!(client.next().await.unwrap().code, Code::NOT_FOUND);
    // One that goes on, yet not for ever.
    let slow = async {
        client.stream.write_all(&[0xe0, 0, 100, 2, 0xff]).await.unwrap();
        for _ in 0..59 {
            sleep(Duration::from_secs(1)).await;
            client.stream.write_all(&[1]).await.unwrap();
        }
    };
    slow.await;
    let before = begun.elapsed().as_secs();
    client.ends_with(ABORT, "did not come whole within 60s").await;
    assert_eq!(begun.elapsed().as_secs(), before + 1);
}

/// A limit that has led to an end, or to a Release, must not be met again and again
/// while its words are still to be written: the task would turn for nothing.
#[test]
fn a_limit_is_met_once() {
    let (config, begun) = (TcpConfig::default(), now());
    let peer = Peer::at(SocketAddr::from(([127, 0, 0, 1], 4000)));
    let open = || {
        let mut connection = Connection::new(config.stream.clone(), peer, begun);
        let mut input = BytesMut::from(&[&Frame::new(CSM).encode_head()[..], b"\xe0"].concat()[..]);
        let mut blocks = Blocks::new(BlockLimits::default(), 1);
        assert!(connection.advance(begun, &mut input, &mut blocks).is_none());
        (connection, input)
    };
    let stall = |wait| Some((begun + wait, Limit::Stall));
    // Its client reads a byte now and then, and is silent for ever.
    let (mut connection, _) = open();
    let mut patience = Patience::new(begun);
    connection.release();
    patience.note(begun, &connection, 0);
    assert_eq!(patience.next(&config, &connection), stall(config.write_stall_timeout));
    patience.wrote();
    let later = begun + 2 * config.idle_timeout;
    patience.note(later, &connection, 0);
    let stalled = Some((later + config.write_stall_timeout, Limit::Stall));
    assert_eq!(patience.next(&config, &connection), stalled);
    // Its client has sent half a message, and reads nothing any more.
    let (mut connection, input) = open();
    let mut patience = Patience::new(begun);
    patience.note(begun, &connection, input.len());
    connection.abort("too late");
    patience.note(begun, &connection, input.len());
    assert_eq!(patience.next(&config, &connection), stall(config.linger_timeout));
    patience.wrote();
    patience.note(later, &connection, input.len());
    let stalled = Some((later + config.linger_timeout, Limit::Stall));
    assert_eq!(patience.next(&config, &connection), stalled);
}

#[tokio::test(start_paused = true)]
async fn who_takes_nothing_is_cut_off() {
    let client = Client::greeted(200).await;
    let begun = tokio::time::Instant::now();
    // Answers that fill the pipe, and then what may wait, until nothing is read.
    let flood = Bytes::from(get(1).encode_head().repeat(100_000));
    let (mut reader, mut writer) = tokio::io::split(client.stream);
    let written = writer.write_all(&flood).await;
    assert!(written.is_err(), "it never ended");
    assert_eq!(begun.elapsed().as_secs(), 30);
    // Nothing more comes than the pipe held.
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 200);
    client.served.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_servers_stop_releases_who_is_idle_at_once() {
    let client = Client::greeted(1000).await;
    let begun = tokio::time::Instant::now();
    client.stop.send_replace(Some(begun + Duration::from_secs(10)));
    client.ends_with(RELEASE, "").await;
    assert!(begun.elapsed() < Duration::from_millis(10));
    // And does not wait for who does not go.
    let mut client = Client::greeted(1000).await;
    let begun = tokio::time::Instant::now();
    client.stop.send_replace(Some(begun + Duration::from_secs(10)));
    assert_eq!(client.next().await.unwrap().code, RELEASE);
    client.served.await.unwrap();
    assert_eq!(begun.elapsed().as_millis(), 250);
}

/// Who observes may be silent for longer than others, but must be there.
#[tokio::test(start_paused = true)]
async fn who_observes_in_silence_is_asked() {
    let (config, mut blocks) = (TcpConfig::default(), Blocks::new(BlockLimits::default(), 1));
    let begun = now();
    let peer = Peer::at(SocketAddr::from(([127, 0, 0, 1], 4000)));
    let mut connection = Connection::new(config.stream.clone(), peer, begun);
    let mut patience = Patience::new(begun);
    let mut input = BytesMut::from(&Frame::new(CSM).encode_head()[..]);
    let mut options = get(1).options.edit();
    options.push_uint(OptionNumber::OBSERVE, 0);
    let asks = Frame { options: options.build(), ..get(1) };
    input.extend_from_slice(&asks.encode_head());
    let mut request = connection.advance(begun, &mut input, &mut blocks).unwrap();
    assert!(connection.observe(begun, &mut request.owed, ResourceId(1)));
    connection.reply(begun, &mut blocks, request.owed, Response::new(Code::CONTENT));
    let written = connection.output().remaining();
    connection.output().advance(written);
    patience.note(begun, &connection, 0);
    let silent = begun + config.idle_timeout;
    assert_eq!(patience.next(&config, &connection), Some((silent, Limit::Silence)));
    patience.asked = Some(silent);
    let absent = silent + config.ping_timeout;
    assert_eq!(patience.next(&config, &connection), Some((absent, Limit::Absence)));
    patience.heard(silent);
    let silent = silent + config.idle_timeout;
    assert_eq!(patience.next(&config, &connection), Some((silent, Limit::Silence)));
}

#[tokio::test(start_paused = true)]
async fn garbage_is_answered_in_words() {
    let mut client = Client::greeted(1000).await;
    client.stream.write_all(b"\x0fGET / HTTP/1.1\r\n\r\n").await.unwrap();
    client.ends_with(ABORT, "its token would have 15 bytes").await;
}
