//! The resources that somebody observes (RFC 7641): one for each path, query and
//! format, whoever observes it by whichever transport.
//!
//! Owns their states and how long each is watched: as long as somebody holds a
//! [`Watch`]. Must not know transports, nor what makes a state (`follow.rs`).

mod config;
mod follow;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::message::{OptionNumber, Options};
use tinyfaas_coap::observe::ResourceId;
use tokio::sync::watch;

pub use self::config::WatchConfig;
pub(super) use self::follow::Source;
use super::Coap;
use super::answer::Reply;
use super::observing::Resource;
use crate::dispatch::now;
use crate::held::{HeldBytes, Share};

/// How long a response is fresh that does not say so (RFC 7252 section 5.10.5).
const MAX_AGE_DEFAULT: Duration = Duration::from_secs(60);

/// The least that is taken for Max-Age: what is watched runs no more often by itself.
const MAX_AGE_MIN: Duration = Duration::from_secs(1);

/// All watched resources.
pub(crate) struct Watches {
    config: WatchConfig,
    /// The budget for their states.
    states: Arc<HeldBytes>,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    watched: HashMap<Resource, Arc<Watched>>,
    ids: u64,
}

/// One resource.
struct Watched {
    id: ResourceId,
    /// None until the first is there.
    states: watch::Sender<Option<Arc<State>>>,
}

/// How a resource is.
pub(super) struct State {
    response: Response,
    until: Instant,
    /// When it was last told to who observes it.
    told: Instant,
    /// Counts what is to be told.
    version: u64,
    /// How many changes of its place were made before it was asked for.
    changes: u64,
    /// Whether nothing comes after it.
    last: bool,
    _held: Option<Share>,
}

/// The interest in a resource; it is watched until the last one is dropped.
pub(super) struct Watch {
    id: ResourceId,
    states: watch::Receiver<Option<Arc<State>>>,
    /// The version that is known.
    known: Option<u64>,
    /// How many changes of its place there were when this watch began: a state from
    /// before them is no answer to who began it.
    changes: u64,
}

impl Watches {
    pub(crate) fn new(config: &WatchConfig) -> Self {
        Self {
            states: HeldBytes::new(config.states_bytes_max),
            config: config.clone(),
            table: Mutex::default(),
        }
    }

    /// The watch of a resource, which is watched from now on. None where as many are
    /// as may be.
    pub(super) fn watch(&self, coap: &Arc<Coap>, of: Resource, source: Source) -> Option<Watch> {
        let mut table = self.table.lock();
        if let Some(watched) = table.watched.get(&of) {
            return Some(Watch::of(watched, source.changes(coap)));
        }
        if table.watched.len() >= self.config.resources_max {
            return None;
        }
        let id = ResourceId(table.ids);
        table.ids += 1;
        let watched = Arc::new(Watched { id, states: watch::Sender::new(None) });
        let watch = Watch::of(&watched, 0);
        table.watched.insert(of.clone(), Arc::clone(&watched));
        tokio::spawn(follow::watch(Arc::clone(coap), of, watched, source));
        Some(watch)
    }

    /// Takes a resource off the table if nobody has a watch of it any more.
    fn leave(&self, resource: &Resource, watched: &Watched) -> bool {
        let mut table = self.table.lock();
        let gone = watched.states.receiver_count() == 0;
        if gone {
            table.remove(resource, watched.id);
        }
        gone
    }

    /// Takes a resource off the table: who comes next begins anew.
    fn end(&self, resource: &Resource, id: ResourceId) {
        self.table.lock().remove(resource, id);
    }
}

impl Table {
    fn remove(&mut self, resource: &Resource, id: ResourceId) {
        if self.watched.get(resource).is_some_and(|watched| watched.id == id) {
            self.watched.remove(resource);
        }
    }
}

impl Watched {
    /// How it is from now on, asked for after so many changes. Told if it differs from
    /// before, or if nothing was told for so long.
    fn put(
        &self,
        response: Response,
        held: Option<Share>,
        changes: u64,
        fresh_for: Duration,
        retell: Duration,
    ) {
        let now = now();
        self.states.send_modify(|state| {
            let (version, told) = match state {
                Some(before) => {
                    let same = is_same(&before.response, &response);
                    if same && now < before.told + retell {
                        (before.version, before.told)
                    } else {
                        (before.version + 1, now)
                    }
                }
                None => (0, now),
            };
            let until = now + fresh_for;
            let last = false;
            let next = State { response, until, told, version, changes, last, _held: held };
            *state = Some(Arc::new(next));
        });
    }

    /// How it is at last.
    fn put_last(&self, response: Response) {
        let now = now();
        self.states.send_modify(|state| {
            let version = state.as_ref().map_or(0, |state| state.version + 1);
            let (until, told, changes, last) = (now, now, 0, true);
            let next = State { response, until, told, version, changes, last, _held: None };
            *state = Some(Arc::new(next));
        });
    }
}

/// Whether who was told the one need not be told the other.
fn is_same(one: &Response, other: &Response) -> bool {
    let option = |number| one.options.get(number) == other.options.get(number);
    one.code == other.code
        && option(OptionNumber::ETAG)
        && option(OptionNumber::CONTENT_FORMAT)
        && one.payload == other.payload
}

/// How long a response is fresh.
fn fresh_for(options: &Options) -> Duration {
    let said =
        options.uint(OptionNumber::MAX_AGE).map(|seconds| Duration::from_secs(seconds.into()));
    said.unwrap_or(MAX_AGE_DEFAULT).max(MAX_AGE_MIN)
}

impl State {
    /// Whether nothing comes after it.
    pub(super) fn is_last(&self) -> bool {
        self.last
    }

    /// It as a response of now: what has passed of its Max-Age is taken off
    /// (RFC 7252 section 5.10.5).
    pub(super) fn response(&self) -> Response {
        let mut response = self.response.clone();
        let left = self.until.saturating_duration_since(now()).as_millis().div_ceil(1000);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let said = response.options.uint(OptionNumber::MAX_AGE);
        if !self.last && left < said.unwrap_or(MAX_AGE_DEFAULT.as_secs() as u32) {
            let mut options = response.options.edit();
            options.remove(OptionNumber::MAX_AGE).push_uint(OptionNumber::MAX_AGE, left);
            response.options = options.build();
        }
        response
    }
}

impl Watch {
    fn of(watched: &Watched, changes: u64) -> Self {
        Self { id: watched.id, states: watched.states.subscribe(), known: None, changes }
    }

    /// The resource, by a number that no other one has.
    pub(super) fn id(&self) -> ResourceId {
        self.id
    }

    /// Waits for a fresh state, which knows of all that changed before: the reply to
    /// who asked to observe it.
    pub(super) async fn first(mut self) -> Reply {
        loop {
            let state = self.states.borrow_and_update().clone();
            if let Some(state) = state.filter(|state| state.last || self.is_served_by(state)) {
                let watch = (!state.last).then_some(self);
                return Reply { watch, ..Reply::new(state.response()) };
            }
            if self.states.changed().await.is_err() {
                return Reply::new(Response::unavailable(1));
            }
        }
    }

    fn is_served_by(&self, state: &State) -> bool {
        now() < state.until && state.changes >= self.changes
    }

    /// How the resource is now, which is known from now on.
    pub(super) fn latest(&mut self) -> Option<Arc<State>> {
        let state = self.states.borrow_and_update().clone()?;
        self.known = Some(state.version);
        Some(state)
    }

    /// Waits for a state that is to be told. None where none comes any more.
    pub(super) async fn next(&mut self) -> Option<Arc<State>> {
        loop {
            self.states.changed().await.ok()?;
            let state = self.states.borrow_and_update().clone()?;
            if self.known != Some(state.version) {
                self.known = Some(state.version);
                return Some(state);
            }
        }
    }
}

#[cfg(test)]
mod tests;
