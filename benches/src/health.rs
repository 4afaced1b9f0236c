//! The health service over gRPC, which runs no function, beside a bare tonic
//! server's under the same load.
//!
//! Owns the servers of this part and its rounds. It says what the gRPC endpoint
//! itself costs. Must not know how a load is made.

use std::path::Path;

use crate::bare::{Bare, Baseline};
use crate::cli::Options;
use crate::figure::Target::AtLeast;
use crate::load::grpc::Target;
use crate::load::{self, Pace};
use crate::report::{Kind, Load, Subject};
use crate::series::{RATE_OF_TONIC, Rival, Series};
use crate::server::Server;

/// What it is called in the report.
const OURS: &str = "gRPC's health check";
const THEIRS: &str = "tonic's health check";

/// All that is measured of it.
pub(crate) fn subjects(binary: &Path, options: &Options) -> Vec<Subject> {
    measure(binary, options).unwrap_or_else(|error| vec![Subject::failed(OURS, &error)])
}

fn measure(binary: &Path, options: &Options) -> anyhow::Result<Vec<Subject>> {
    let server = Server::start(binary)?;
    let Some(address) = server.grpc else {
        return Ok(vec![Subject::skipped(OURS, "the server has no gRPC endpoint")]);
    };
    let tonic = Bare::start(Baseline::Tonic)?;
    let mut pairs = Vec::new();
    for calls in options.selection.health_calls() {
        let series = |who: &str, kind, address, process| {
            let load =
                Load { who: who.to_owned(), kind, connections: calls, body_bytes: 0, rate: None };
            let target = load::Target::Grpc(Target::health(address));
            Series::new(load, target, Pace::Closed, Some(process), options)
        };
        pairs.push((
            series(OURS, Kind::Function, address, server.pid()),
            series(THEIRS, Kind::Bare, tonic.address, tonic.pid()),
        ));
    }
    for _ in 0..options.rounds {
        for (ours, theirs) in &mut pairs {
            ours.run_once()?;
            theirs.run_once()?;
        }
    }
    let mut subjects = Vec::new();
    for (ours, theirs) in &pairs {
        subjects.push(theirs.subject(None));
        let mut subject = ours.subject(Some((Rival::Tonic, theirs)));
        subject.aim(RATE_OF_TONIC, AtLeast(0.9));
        subjects.push(subject);
    }
    server.stop()?;
    Ok(subjects)
}
