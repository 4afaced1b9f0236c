//! Which loads are measured: of whom, by how many connections, with how large
//! bodies, how paced.
//!
//! Owns that choice as data, and the reading of its lists. Must not know how a load
//! is made.

use crate::function::Environment;
use crate::load::Pace;

/// Connections of a single caller, of a function that is a process per call, and
/// of a busy gateway.
const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// The body of the loads that targets hold for.
pub(crate) const BODY_BYTES: usize = 64;
/// Other bodies, measured by default at `BODIES_CONNECTIONS`.
const BODIES: [usize; 3] = [0, 1000, 1_000_000];
const BODIES_CONNECTIONS: usize = 8;
/// A larger body would be sent in blocks over CoAP, which is another load.
const COAP_BODY_BYTES_MAX: usize = 1024;
/// A larger body is no message for a server that is not configured for it.
const GRPC_BODY_BYTES_MAX: usize = 16_000_000;
/// Calls at a time of the health service by default.
const HEALTH_CALLS: usize = 32;
/// Clients that ask for the fixed reply by default.
const FIXED_CLIENTS: usize = 8;
/// Of the open loop by default, a second.
const RATES: [u64; 1] = [1000];
/// No load is larger than this.
const CONNECTIONS_MAX: usize = 1024;
const BODY_BYTES_MAX: usize = 64_000_000;
const RATE_MAX: u64 = 1_000_000;

/// Whose loads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// The bare hyper server.
    Bare,
    /// A function of the server under test, over HTTP.
    Function(Environment),
    /// The same over CoAP.
    OverCoap(Environment),
    /// The same over gRPC.
    OverGrpc(Environment),
    /// A peer, by its place among them.
    Peer(usize),
}

/// One load of one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Of whom.
    pub(crate) who: Who,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Of request and reply.
    pub(crate) body_bytes: usize,
    /// When requests begin.
    pub(crate) pace: Pace,
}

impl Choice {
    fn can_be_made(&self) -> bool {
        match self.who {
            Who::OverCoap(_) => self.body_bytes <= COAP_BODY_BYTES_MAX && self.pace == Pace::Closed,
            Who::OverGrpc(_) => self.body_bytes <= GRPC_BODY_BYTES_MAX,
            Who::Bare | Who::Function(_) | Who::Peer(_) => true,
        }
    }
}

/// What of it was asked for; `None` is the default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Connections at a time; none for no closed loop.
    pub(crate) connections: Option<Vec<usize>>,
    /// Bodies, in bytes.
    pub(crate) bodies: Option<Vec<usize>>,
    /// Rates of the open loop; none for no open loop.
    pub(crate) rates: Option<Vec<u64>>,
    /// As little as the targets need.
    pub(crate) quick: bool,
}

impl Selection {
    /// The loads in the order in which a round measures them: those that are held
    /// against each other stand side by side.
    pub(crate) fn choices(&self, all: &[Who]) -> Vec<Choice> {
        let mut choices = Vec::new();
        for (connections, body_bytes, pace) in self.groups() {
            for &who in all {
                let choice = Choice { who, connections, body_bytes, pace };
                if choice.can_be_made() && (self.chosen_by_hand() || self.worth_it(choice)) {
                    choices.push(choice);
                }
            }
        }
        choices
    }

    /// How many clients ask for the fixed reply, a series each.
    pub(crate) fn fixed_clients(&self) -> Vec<usize> {
        self.connections.clone().unwrap_or_else(|| vec![FIXED_CLIENTS])
    }

    /// How many calls at a time ask for the server's health, a series each.
    pub(crate) fn health_calls(&self) -> Vec<usize> {
        self.connections.clone().unwrap_or_else(|| vec![HEALTH_CALLS])
    }

    fn chosen_by_hand(&self) -> bool {
        self.connections.is_some() || self.bodies.is_some()
    }

    fn groups(&self) -> Vec<(usize, usize, Pace)> {
        let mut groups = Vec::new();
        if self.chosen_by_hand() {
            let bodies = self.bodies.clone().unwrap_or_else(|| vec![BODY_BYTES]);
            for &connections in self.connections.as_deref().unwrap_or(&CONNECTIONS) {
                groups.extend(bodies.iter().map(|&body| (connections, body, Pace::Closed)));
            }
        } else {
            groups.extend(CONNECTIONS.map(|each| (each, BODY_BYTES, Pace::Closed)));
            if !self.quick {
                groups.extend(BODIES.map(|each| (BODIES_CONNECTIONS, each, Pace::Closed)));
            }
        }
        groups.extend(self.open_loops());
        groups
    }

    fn open_loops(&self) -> Vec<(usize, usize, Pace)> {
        let by_default: &[u64] = if self.quick || self.chosen_by_hand() { &[] } else { &RATES };
        let connections = self.connections.iter().flatten().max().copied();
        let connections = connections.unwrap_or(CONNECTIONS[CONNECTIONS.len() - 1]);
        let bodies = self.bodies.clone().unwrap_or_else(|| vec![BODY_BYTES]);
        let rates = self.rates.as_deref().unwrap_or(by_default);
        let each = rates.iter().flat_map(|&rate| {
            bodies.iter().map(move |&body| (connections, body, Pace::Open(rate)))
        });
        each.collect()
    }

    /// What the default leaves out: a process per call needs 8 connections and no
    /// large bodies to be known; a quick run measures what has a target.
    fn worth_it(&self, choice: Choice) -> bool {
        let Choice { who, connections, body_bytes, pace } = choice;
        let small = body_bytes == BODY_BYTES && pace == Pace::Closed;
        match who {
            Who::Function(Environment::Binary) => connections == 8 && small,
            Who::Function(Environment::Node) => !self.quick || connections == 32,
            Who::OverCoap(Environment::Python) | Who::OverGrpc(Environment::Python) => {
                small && (!self.quick || connections == 32)
            }
            Who::OverCoap(_) | Who::OverGrpc(_) => false,
            Who::Bare | Who::Function(Environment::Python) | Who::Peer(_) => {
                !self.quick || connections != 8
            }
        }
    }
}

/// Reads `1,8,32`, or `none`.
///
/// # Errors
/// A text for people where it is neither.
pub(crate) fn connections(text: &str) -> Result<Vec<usize>, String> {
    list(text, |one| match one.parse() {
        Ok(number) if (1..=CONNECTIONS_MAX).contains(&number) => Ok(number),
        _ => Err(format!("{one:?} is no number from 1 to {CONNECTIONS_MAX}")),
    })
}

/// Reads `0,64,1k,1M`: bytes, thousands and millions of them.
///
/// # Errors
/// A text for people where it is something else.
pub(crate) fn bodies(text: &str) -> Result<Vec<usize>, String> {
    let sizes = list(text, |one| {
        let (digits, unit) = match one.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1000),
            None => one.strip_suffix('M').map_or((one, 1), |digits| (digits, 1_000_000)),
        };
        let bytes = digits.parse::<usize>().ok().and_then(|number| number.checked_mul(unit));
        match bytes {
            Some(bytes) if bytes <= BODY_BYTES_MAX => Ok(bytes),
            _ => Err(format!("{one:?} is no size up to 64M, such as 0, 64, 1k or 1M")),
        }
    })?;
    if sizes.is_empty() { Err("at least one size is needed".to_owned()) } else { Ok(sizes) }
}

/// Reads `500,2000`, or `none`.
///
/// # Errors
/// A text for people where it is neither.
pub(crate) fn rates(text: &str) -> Result<Vec<u64>, String> {
    list(text, |one| match one.parse() {
        Ok(number) if (1..=RATE_MAX).contains(&number) => Ok(number),
        _ => Err(format!("{one:?} is no rate from 1 to {RATE_MAX} a second")),
    })
}

/// Each once, in the order given.
fn list<T: PartialEq>(
    text: &str,
    read: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<T>, String> {
    let mut found = Vec::new();
    if text == "none" {
        return Ok(found);
    }
    for one in text.split(',') {
        let one = read(one.trim())?;
        if !found.contains(&one) {
            found.push(one);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Who; 7] = [
        Who::Bare,
        Who::Function(Environment::Python),
        Who::Function(Environment::Node),
        Who::Function(Environment::Binary),
        Who::Peer(0),
        Who::OverCoap(Environment::Python),
        Who::OverGrpc(Environment::Python),
    ];

    fn of(choices: &[Choice], who: Who) -> Vec<(usize, usize, Pace)> {
        let of = choices.iter().filter(|choice| choice.who == who);
        of.map(|choice| (choice.connections, choice.body_bytes, choice.pace)).collect()
    }

    #[test]
    fn the_default_is_short_but_sees_each_dimension() {
        let choices = Selection::default().choices(&ALL);
        let closed = |connections, body| (connections, body, Pace::Closed);
        let mut all: Vec<_> = [1, 8, 32].map(|each| closed(each, 64)).into();
        all.extend([0, 1000, 1_000_000].map(|body| closed(8, body)));
        all.push((32, 64, Pace::Open(1000)));
        for who in [Who::Bare, ALL[1], ALL[2], Who::Peer(0)] {
            assert_eq!(of(&choices, who), all, "{who:?}");
        }
        assert_eq!(of(&choices, ALL[3]), [closed(8, 64)]);
        for who in [ALL[5], ALL[6]] {
            assert_eq!(of(&choices, who), [1, 8, 32].map(|each| closed(each, 64)), "{who:?}");
        }
        // Compared loads are neighbours.
        assert_eq!((choices[0].who, choices[1].who), (Who::Bare, ALL[1]));
        assert_eq!(choices[0].connections, choices[1].connections);
    }

    #[test]
    fn quick_is_what_targets_need() {
        let choices = Selection { quick: true, ..Selection::default() }.choices(&ALL);
        let connections = |who| of(&choices, who).iter().map(|each| each.0).collect::<Vec<_>>();
        assert_eq!(connections(Who::Bare), [1, 32]);
        assert_eq!(connections(ALL[1]), [1, 32]);
        assert_eq!(connections(ALL[2]), [32]);
        assert_eq!(connections(ALL[3]), [8]);
        assert_eq!(connections(Who::Peer(0)), [1, 32]);
        assert_eq!((connections(ALL[5]), connections(ALL[6])), (vec![32], vec![32]));
        assert_eq!(Selection::default().fixed_clients(), [8]);
        assert_eq!(Selection::default().health_calls(), [32]);
    }

    #[test]
    fn a_choice_by_hand_is_taken_whole() {
        let selection = Selection {
            connections: Some(vec![2, 4]),
            bodies: Some(vec![0, 9]),
            rates: Some(vec![50]),
            quick: true,
        };
        let closed = |connections, body| (connections, body, Pace::Closed);
        let open = |body| (4, body, Pace::Open(50));
        let all = [closed(2, 0), closed(2, 9), closed(4, 0), closed(4, 9), open(0), open(9)];
        for who in &ALL[..5] {
            assert_eq!(of(&selection.choices(&ALL), *who), all, "{who:?}");
        }
        assert_eq!(of(&selection.choices(&ALL), ALL[5]), all[..4], "CoAP has no open loop");
        assert_eq!(of(&selection.choices(&ALL), ALL[6]), all);
        assert_eq!((selection.fixed_clients(), selection.health_calls()), (vec![2, 4], vec![2, 4]));
        let large = Selection { bodies: Some(vec![20_000_000]), ..selection };
        assert_eq!(of(&large.choices(&ALL), ALL[5]), [], "nor bodies in blocks");
        assert_eq!(of(&large.choices(&ALL), ALL[6]), [], "nor has gRPC messages of any size");
        let open_only = Selection {
            connections: Some(Vec::new()),
            rates: Some(vec![50]),
            ..Selection::default()
        };
        assert_eq!(of(&open_only.choices(&ALL), Who::Bare), [(32, 64, Pace::Open(50))]);
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(connections("1, 8,32,8"), Ok(vec![1, 8, 32]));
        assert_eq!(connections("none"), Ok(vec![]));
        assert_eq!(bodies("0,64,1k,1M"), Ok(vec![0, 64, 1000, 1_000_000]));
        assert_eq!(rates("1000"), Ok(vec![1000]));
        for wrong in ["", "0", "1,", "many", "-1", "1025"] {
            connections(wrong).expect_err(wrong);
        }
        for wrong in ["", "none", "1m", "65M", "k", "1kk"] {
            bodies(wrong).expect_err(wrong);
        }
        for wrong in ["", "0", "1000001", "fast"] {
            rates(wrong).expect_err(wrong);
        }
    }
}
