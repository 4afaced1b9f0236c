//! The fixed reply: `/.well-known/core` over CoAP with one function deployed,
//! beside libcoap's own server under the same load, replies of equal size. And a
//! large body through that function, in blocks.
//!
//! Owns the servers of this part and its rounds. It says what the CoAP endpoint
//! itself costs, no function involved but for the blocks. Must not know how a load is made.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::Bytes;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{Code, Message};

use crate::bare_hyper::body;
use crate::cli::Options;
use crate::figure::Target::AtLeast;
use crate::figure::{Figure, Unit};
use crate::function::{Echo, Environment};
use crate::libcoap::{self, Libcoap};
use crate::load::coap::{Target, ask, request};
use crate::load::{self, Pace};
use crate::measure::held;
use crate::memory;
use crate::report::{Kind, Load, Subject};
use crate::series::{RATE_OF_LIBCOAP, Rival, Series, milliseconds};
use crate::server::Server;

/// Where a server tells what it has (RFC 6690 section 4).
const PATH: [&str; 2] = [".well-known", "core"];
/// What it is called in the report.
const OURS: &str = "/.well-known/core";
const THEIRS: &str = "libcoap's server";
/// The one function.
const FUNCTION: &str = "echo";
/// What travels in blocks, in bytes.
const LARGE_BYTES: usize = 1_000_000;

/// All that is measured of it.
pub(crate) fn subjects(binary: &Path, options: &Options) -> Vec<Subject> {
    measure(binary, options).unwrap_or_else(|error| vec![Subject::failed(OURS, &error)])
}

fn measure(binary: &Path, options: &Options) -> anyhow::Result<Vec<Subject>> {
    let server = Server::start(binary)?;
    let Some(address) = server.coap else {
        return Ok(vec![Subject::skipped(OURS, "the server has no CoAP endpoint")]);
    };
    // A function without an interpreter to look for.
    Echo::pack(Environment::Binary, &options.samples)?.upload(&server, FUNCTION, 1)?;
    let (ours, datagram_bytes) = discovery(address)?;
    let libcoap = Libcoap::start()?;
    let theirs = libcoap.as_ref().map(|it| it.replying(datagram_bytes)).transpose()?;
    let mut subjects = Vec::new();
    let mut pairs = Vec::new();
    for clients in options.selection.fixed_clients() {
        let series = |who: &str, kind, target: &Target, process| {
            let body_bytes = target.expected.len();
            let who = who.to_owned();
            let load = Load { who, kind, connections: clients, body_bytes, rate: None };
            let target = load::Target::Coap(target.clone());
            Series::new(load, target, Pace::Closed, Some(process), options)
        };
        let theirs = libcoap.as_ref().zip(theirs.as_ref());
        pairs.push((
            series(OURS, Kind::Function, &ours, server.pid()),
            theirs.map(|(libcoap, theirs)| series(THEIRS, Kind::Peer, theirs, libcoap.pid())),
        ));
    }
    let (mut memory, mut transfers) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        for (ours, theirs) in &mut pairs {
            ours.run_once()?;
            theirs.as_mut().map_or(Ok(()), Series::run_once)?;
        }
        memory.push(memory::read(server.pid())?);
        transfers.push(transfer(address)?);
    }
    subjects.push(held("memory, after each round of fixed replies", &memory));
    subjects.push(in_blocks(&transfers));
    if libcoap.is_none() {
        subjects.push(Subject::skipped(THEIRS, libcoap::MISSING));
    }
    for (ours, theirs) in &pairs {
        subjects.extend(theirs.as_ref().map(|theirs| theirs.subject(None)));
        let rival = theirs.as_ref().map(|theirs| (Rival::Libcoap, theirs));
        let mut subject = ours.subject(rival);
        if rival.is_some() {
            subject.aim(RATE_OF_LIBCOAP, AtLeast(1.0));
        }
        subjects.push(subject);
    }
    server.stop()?;
    Ok(subjects)
}

/// What the server replies, and how many bytes that are on the wire.
fn discovery(address: SocketAddr) -> anyhow::Result<(Target, usize)> {
    let reply = ask(address, &request(Code::GET, &PATH)).context("discovery")?;
    let text = String::from_utf8_lossy(&reply.response.payload);
    ensure!(
        reply.response.code == Code::CONTENT && text.contains(&format!("</{FUNCTION}>")),
        "the server answers GET {OURS} with {} {text:?} and not with its function",
        reply.response.code
    );
    Ok((Target::fixed(address, &PATH, reply.response.payload.clone()), reply.datagram_bytes))
}

/// A large body to the function and back, a block of 1,024 bytes at a time: until
/// the server had it, and from then until the reply was here, in milliseconds.
fn transfer(address: SocketAddr) -> anyhow::Result<(f64, f64)> {
    let body = Bytes::from(body(LARGE_BYTES));
    let post = Message { payload: body.clone(), ..request(Code::POST, &[FUNCTION]) };
    let reply = ask(address, &post)?;
    let Response { code, payload, .. } = reply.response;
    ensure!(
        code == Code::CONTENT && payload == body,
        "a body of {LARGE_BYTES} bytes came back as {code} with {} bytes and not unchanged",
        payload.len()
    );
    Ok((milliseconds(reply.up), milliseconds(reply.down)))
}

fn in_blocks(transfers: &[(f64, f64)]) -> Subject {
    let (up, down) = transfers.iter().copied().unzip();
    let figures = vec![
        Figure::new("1 MB up, and the function", Unit::Milliseconds, up),
        Figure::new("1 MB down", Unit::Milliseconds, down),
    ];
    Subject::new("binary echo over CoAP, blocks of 1,024 bytes one by one", figures)
}
