//! `tinyfaas call --coap`: the same over CoAP.
//!
//! Owns the flow of a call from the flags to the exit code. What is sent is
//! `coap/request.rs`, where to `coap/place.rs`, by what socket `coap/channel.rs`,
//! and what is printed `coap/reply.rs`.

mod channel;
mod connection;
mod place;
mod reply;
mod request;

use std::time::Duration;

use clap::ArgMatches;
use tinyfaas_coap::client::Progress as Transfer;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, OptionNumber};

use super::later::Accepted;
use crate::client::Server;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::terminal;

use channel::Channel;
use place::Place;

/// The largest body that is sent, in bytes: what a server takes unless it is
/// configured otherwise.
const BODY_BYTES_MAX: usize = 4 << 20;
/// How long one request may wait for the end of an asynchronous call; the server
/// may wait less.
const WAIT: &str = "wait=30s";
/// How long is paused at least until the call is asked for again, and at most,
/// whatever the server says.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(30)];
/// So begins what the gateway says of a call that has not ended.
const NOT_ENDED: &[u8] = b"the call is still ";

/// Whether these flags ask for a call over CoAP.
pub(super) fn is_asked_for(matches: &ArgMatches) -> bool {
    matches.get_flag("coap") || super::gateway_flag(matches).is_some_and(Place::has_scheme)
}

pub(super) async fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let name = matches.get_one::<String>("name").map(String::as_str).unwrap_or_default();
    let path = super::path(name, matches.get_one::<String>("path").map(String::as_str))?;
    let json = matches.get_flag(super::super::JSON);
    let (is_async, waits) = (matches.get_flag("async"), matches.get_flag("wait"));
    let limit = super::body::Limit { bytes: BODY_BYTES_MAX, over: "CoAP", flag: "--coap" };
    let body = super::body::whole(matches, limit)?;
    let mut call = request::call(matches, &path, body)?;
    // Once and for nothing that comes back: then it is not told of either.
    call.wants_reply = call.confirmable || !is_async || waits;
    let (place, server) = find(matches).await?;
    request::name_host(&mut call, &place)?;
    let progress = Progress::start(format!("calling {name} over CoAP"));
    let mut channel = Channel::open(place).await?;
    let told = |transfer: &Transfer| tell(&progress, name, transfer);
    let Some(mut response) = channel.call(call, told).await? else {
        return Ok(());
    };
    if is_async && response.code.is_success() {
        let accepted = accepted(&response)?;
        if !waits {
            drop(progress);
            return accepted.tell(json);
        }
        progress.now(format!("waiting for call {}", accepted.id()));
        response = result(&mut channel, &response).await?;
    }
    let unknown = reply::may_name_nobody(&response) && !json;
    let owner = if unknown { owner(server.as_ref(), name).await? } else { reply::Owner::Unclear };
    drop(progress);
    reply::finish(&response, owner, json)
}

/// Where the gateway is, and who told it.
async fn find(matches: &ArgMatches) -> Result<(Place, Option<Server>), Failure> {
    if let Some(text) = super::gateway_flag(matches) {
        let place = Place::parse(text)
            .map_err(|why| Failure::usage(format!("--gateway={text:?}: {why}")))?;
        return Ok((place, None));
    }
    let server = Server::find(matches)?;
    // An original tinyFaaS has the usual port.
    let port = match server.about().await? {
        None => place::PORT,
        Some(about) => {
            let port = about["endpoints"]["coap"].as_u64();
            port.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| {
                let address = server.address();
                Failure::failed(format!("the CoAP endpoint of the server at {address} is off"))
                    .tip("start it with another COAP_PORT than a negative one")
            })?
        }
    };
    Ok((Place::new(server.address().host(), port), Some(server)))
}

/// Says how far a call is that takes long.
fn tell(progress: &Progress, name: &str, transfer: &Transfer) {
    let bytes = |number: usize| terminal::bytes(number as u64);
    let Transfer { sent, to_send, received, to_receive } = *transfer;
    if received > 0 {
        let of = to_receive.map(|all| format!(" of {}", bytes(all))).unwrap_or_default();
        progress.now(format!("{name}: {}{of} received", bytes(received)));
    } else if sent > 0 && sent < to_send {
        progress.now(format!("{name}: {} of {} sent", bytes(sent), bytes(to_send)));
    } else if sent > 0 {
        progress.now(format!("calling {name} over CoAP"));
    }
}

/// What the answer to an asynchronous call says.
fn accepted(response: &Response) -> Result<Accepted, Failure> {
    if response.code != Code::CREATED {
        return Err(Failure::failed("the server has not taken the call as an asynchronous one"));
    }
    let mut location = String::new();
    for segment in response.options.all(OptionNumber::LOCATION_PATH) {
        location.push('/');
        location.push_str(&String::from_utf8_lossy(segment));
    }
    Ok(Accepted::at(Some(&location)))
}

/// Waits for the call's end; the answer is what who waits for the call gets.
async fn result(channel: &mut Channel, accepted: &Response) -> Result<Response, Failure> {
    let call = request::result(accepted, WAIT);
    loop {
        let Some(response) = channel.call(call.clone(), |_| {}).await? else {
            return Err(Failure::failed("the server says nothing of the call's result"));
        };
        // A function's own 5.03 is the result, and so is the gateway's on the call.
        let goes_on =
            response.code == Code::SERVICE_UNAVAILABLE && response.payload.starts_with(NOT_ENDED);
        if !goes_on {
            return Ok(response);
        }
        let [least, most] = PAUSES;
        let pause = response.options.uint(OptionNumber::MAX_AGE).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(pause.into()).clamp(least, most)).await;
    }
}

/// Whose a 4.04 is: the gateway's, where the server knows no such function.
async fn owner(server: Option<&Server>, name: &str) -> Result<reply::Owner, Failure> {
    let Some(server) = server else { return Ok(reply::Owner::Unclear) };
    match super::known(server, name).await {
        super::Known::No(failure) => Err(failure),
        super::Known::Yes => Ok(reply::Owner::Function),
        super::Known::CannotTell => Ok(reply::Owner::Unclear),
    }
}
