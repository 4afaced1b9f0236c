//! `tinyfaas call --grpc`: a call over gRPC.
//!
//! Owns the order of things: find the endpoint, call, wait for the end of an
//! asynchronous call. What flags become is `grpc/request.rs`, the way to the server
//! `grpc/channel.rs`, printing a reply and its exit code `grpc/reply.rs`. A server
//! that does not know version 2 of the interface is called by version 1, which is
//! all that the original has.

mod channel;
mod place;
mod reply;
mod request;

use std::time::{Duration, Instant};

use clap::ArgMatches;
use tinyfaas_grpc::v2::get_result_response::State;
use tinyfaas_grpc::v2::{GetResultRequest, GetResultResponse, InvokeRequest, InvokeResponse};
use tonic::{Code, Status};

use self::channel::Client;
use self::place::Place;
use super::endpoint::{Protocol, choose};
use super::later::Accepted;
use crate::client::{Server, Trust, original};
use crate::failure::{self, Failure};
use crate::progress::Progress;

const GRPC: Protocol = Protocol {
    name: "gRPC",
    endpoints: ["grpc", "grpc_tls"],
    variables: ["GRPC_PORT", "GRPC_TLS_PORT"],
    scheme: "grpc",
    port: place::PORT,
};
/// The longest body that is sent, in bytes; the server's own limit, 16 MiB a message
/// unless it is configured otherwise, stands below it as a rule.
const BODY_BYTES_MAX: usize = 64 << 20;
/// How long one request may wait for the end of an asynchronous call, in seconds;
/// the server may wait less.
const WAIT_SECONDS: i64 = 30;
/// How often the call is asked for at most, whatever the server does.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether these flags ask for a call over gRPC.
pub(super) fn is_asked_for(matches: &ArgMatches) -> bool {
    matches.get_flag("grpc")
        || !matches.get_flag("coap") && super::gateway_flag(matches).is_some_and(Place::has_scheme)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    if matches.get_flag("non") {
        return Err(Failure::usage("--non is CoAP's: add --coap"));
    }
    let name = matches.get_one::<String>("name").map(String::as_str).unwrap_or_default();
    let path = super::path(name, matches.get_one::<String>("path").map(String::as_str))?;
    let json = matches.get_flag(super::super::JSON);
    let request = request::invoke(matches, name, &path)?;
    let request = InvokeRequest { body: body(matches)?, ..request };
    let gateway = Gateway::find(matches).await?;
    let progress = Progress::start(format!("calling {name} over gRPC"));
    let mut client = Client::connect(&gateway.place, &gateway.trust).await?;
    if !matches.get_flag("async") {
        let outcome = gateway.call(matches, &mut client, request).await?;
        if let Err(status) = &outcome
            && !json
            && let Some(failure) = gateway.unknown(name, status).await?
        {
            return Err(failure);
        }
        drop(progress);
        return reply::finish(&gateway.place, outcome, json);
    }
    let accepted = match gateway.leave(&mut client, request).await? {
        Ok(accepted) => accepted,
        Err(status) => {
            let unknown = gateway.unknown(name, &status).await?;
            return Err(unknown.unwrap_or_else(|| reply::failure(&gateway.place, &status)));
        }
    };
    if !matches.get_flag("wait") {
        drop(progress);
        return accepted.tell(json);
    }
    progress.now(format!("waiting for call {}", accepted.id()));
    let outcome = result(&mut client, accepted.id()).await;
    drop(progress);
    reply::finish(&gateway.place, outcome, json)
}

fn body(matches: &ArgMatches) -> Result<bytes::Bytes, Failure> {
    let limit = super::body::Limit { bytes: BODY_BYTES_MAX, over: "gRPC", flag: "--grpc" };
    Ok(super::body::whole(matches, limit)?.unwrap_or_default())
}

/// Where functions are called over gRPC.
struct Gateway {
    place: Place,
    trust: Trust,
    /// Who told where it is; it also knows names near a wrong one.
    server: Option<Server>,
    /// Whether that is an original tinyFaaS.
    is_original: bool,
}

impl Gateway {
    async fn find(matches: &ArgMatches) -> Result<Self, Failure> {
        if let Some(text) = super::gateway_flag(matches) {
            let place = Place::parse(text)
                .map_err(|why| Failure::usage(format!("--gateway={text:?}: {why}")))?;
            let trust = Trust::of(matches, place.is_tls(), &place)?;
            return Ok(Self { place, trust, server: None, is_original: false });
        }
        let server = Server::find(matches)?;
        let about = server.about().await?;
        let endpoint = choose(matches, &server, about.as_ref(), GRPC)?;
        let place = Place::new(server.address().host(), endpoint);
        let trust = server.trust().clone();
        Ok(Self { place, trust, server: Some(server), is_original: about.is_none() })
    }

    /// Calls and waits for the reply.
    async fn call(
        &self,
        matches: &ArgMatches,
        client: &mut Client,
        request: InvokeRequest,
    ) -> Result<Result<InvokeResponse, Status>, Failure> {
        if !self.is_original {
            match client.invoke(request.clone()).await {
                Err(status) if is_not_served(&status) => {}
                outcome => return Ok(outcome),
            }
        }
        let request = request::of_version_1(matches, &self.place, request)?;
        Ok(match client.request(request).await {
            Err(status) if is_not_served(&status) => {
                return Err(Failure::failed(format!("no tinyFaaS is served at {}", self.place))
                    .tip("is that the port of a tinyFaaS's gRPC endpoint (GRPC_PORT)?"));
            }
            outcome => outcome,
        })
    }

    /// Leaves a call to be run later.
    async fn leave(
        &self,
        client: &mut Client,
        request: InvokeRequest,
    ) -> Result<Result<Accepted, Status>, Failure> {
        let outcome =
            if self.is_original { None } else { Some(client.invoke_async(request).await) };
        match outcome {
            None => Err(self.not_asynchronous()),
            Some(Err(status)) if is_not_served(&status) => Err(self.not_asynchronous()),
            Some(outcome) => Ok(outcome.map(|accepted| Accepted::with_id(&accepted.call_id))),
        }
    }

    fn not_asynchronous(&self) -> Failure {
        let place = &self.place;
        Failure::failed(format!(
            "the server at {place} is an older tinyFaaS: over gRPC it knows no asynchronous calls"
        ))
        .tip("call over HTTP: leave --grpc out")
    }

    /// What the server says of a name that the endpoint does not know. The original
    /// says of such a call no more than that it failed.
    async fn unknown(&self, name: &str, status: &Status) -> Result<Option<Failure>, Failure> {
        let Some(server) = &self.server else { return Ok(None) };
        Ok(match status.code() {
            Code::NotFound => match super::known(server, name).await {
                super::Known::No(failure) => Some(failure),
                super::Known::Yes | super::Known::CannotTell => None,
            },
            Code::Unknown if self.is_original => {
                let names = original::list(server).await?;
                let unknown = !names.iter().any(|known| known == name);
                let said = || format!("no function is called {name}");
                unknown.then(|| Failure::new(failure::Code::NotFound, said()))
            }
            _ => None,
        })
    }
}

/// Whether the server does not have this part of the interface.
fn is_not_served(status: &Status) -> bool {
    status.code() == Code::Unimplemented
}

/// Waits for the call's end; the outcome is what who waits for the call gets.
async fn result(client: &mut Client, id: &str) -> Result<InvokeResponse, Status> {
    loop {
        let asked = Instant::now();
        let wait = Some(prost_types::Duration { seconds: WAIT_SECONDS, nanos: 0 });
        let request = GetResultRequest { call_id: id.to_owned(), wait };
        let result = client.get_result(request).await?;
        match result.state() {
            State::Waiting | State::Running => {
                tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed())).await;
            }
            state => return ended(state, result),
        }
    }
}

/// What became of a call that has ended.
fn ended(state: State, result: GetResultResponse) -> Result<InvokeResponse, Status> {
    if let Some(response) = result.response {
        return Ok(response);
    }
    Err(match result.error {
        Some(error) => Status::new(Code::from_i32(error.code), error.message),
        None => Status::unknown(match state {
            State::Cancelled => "the call was cancelled",
            State::Lost => "the server gave the call up",
            _ => "the server says nothing of the call's result",
        }),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use tinyfaas_grpc::v2::get_result_response::Error;

    use super::*;
    use crate::client::{Address, Trust};

    /// An original's management service that knows one function.
    fn original() -> Gateway {
        let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
        let address = listener.local_addr().expect("bound").to_string();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("accepts");
                let read = stream.read(&mut [0; 4096]).expect("a request");
                assert!(read > 0);
                let answer =
                    "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\none\n";
                stream.write_all(answer.as_bytes()).expect("answers");
            }
        });
        let address = Address::parse(&address).expect("an address");
        let server = Server::at(address, Trust::default()).expect("plain HTTP needs no trust");
        let place = Place::parse("127.0.0.1").expect("a place");
        let trust = Trust::default();
        Gateway { place, trust, server: Some(server), is_original: true }
    }

    #[tokio::test]
    async fn an_original_is_asked_which_functions_it_has() {
        let gateway = original();
        let status = Status::unknown("rpc error");
        let unknown = gateway.unknown("two", &status).await.expect("it answers");
        let failure = unknown.expect("there is no such function");
        assert_eq!(failure.code(), failure::Code::NotFound as u8);
        assert!(gateway.unknown("one", &status).await.expect("it answers").is_none());
        let status = Status::internal("it raised");
        assert!(gateway.unknown("two", &status).await.expect("not asked").is_none());
    }

    #[test]
    fn the_end_of_an_asynchronous_call_is_a_reply_or_a_status() {
        let check = |state: State, result: GetResultResponse, expected: Result<u32, Code>| {
            let outcome = ended(state, result);
            let outcome = outcome.map(|reply| reply.status).map_err(|status| status.code());
            assert_eq!(outcome, expected, "{state:?}");
        };
        let none = GetResultResponse::default();
        let reply = InvokeResponse { status: 404, ..InvokeResponse::default() };
        check(
            State::Succeeded,
            GetResultResponse { response: Some(reply), ..none.clone() },
            Ok(404),
        );
        let late = Error { code: Code::DeadlineExceeded as i32, message: String::new() };
        let failed = GetResultResponse { error: Some(late), ..none.clone() };
        check(State::Failed, failed, Err(Code::DeadlineExceeded));
        check(State::Cancelled, none.clone(), Err(Code::Unknown));
        check(State::Lost, none.clone(), Err(Code::Unknown));
        check(State::Unspecified, none, Err(Code::Unknown));
    }
}
