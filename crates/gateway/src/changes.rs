//! Calls that may have changed what a path below a function's name shows: whoever
//! shows it on and on wants to hear of them.
//!
//! Owns who listens to which path. Must not know who calls, nor by which protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Method;
use parking_lot::Mutex;
use percent_encoding::percent_decode_str;
use tinyfaas_model::{CallTarget, FunctionName};
use tokio::sync::watch;

/// A function's name, and a path below it as it is before URLs encode it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    function: String,
    path: Vec<u8>,
}

impl Place {
    pub(crate) fn new(function: &str, target: &CallTarget) -> Self {
        let path = percent_decode_str(target.path()).collect();
        Self { function: function.to_owned(), path }
    }
}

/// Who listens to changes. A call that nobody listens to takes one look at a number.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    listened: AtomicUsize,
    /// For each place, how often something has changed there since somebody listens.
    places: Mutex<HashMap<Place, watch::Sender<u64>>>,
}

/// Hears of changes, until it is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    changes: Arc<Changes>,
    place: Place,
    heard: watch::Receiver<u64>,
}

impl Changes {
    /// Whether a call by this method is made to change something.
    pub(crate) fn are_made_by(method: &Method) -> bool {
        matches!(*method, Method::POST | Method::PUT | Method::PATCH | Method::DELETE)
            || method.as_str() == "iPATCH"
    }

    /// Listens to what changes there, from now on.
    pub(crate) fn listen(self: &Arc<Self>, place: Place) -> Listener {
        let mut places = self.places.lock();
        let sender = places.entry(place.clone()).or_insert_with(|| watch::Sender::new(0));
        let heard = sender.subscribe();
        self.listened.store(places.len(), Ordering::Relaxed);
        Listener { changes: Arc::clone(self), place, heard }
    }

    /// How many changes there were there, for who compares it with what a listener of
    /// that place has forgotten.
    pub(crate) fn count(&self, place: &Place) -> u64 {
        self.places.lock().get(place).map_or(0, |sender| *sender.borrow())
    }

    /// A call that was made to change something there has succeeded.
    pub(crate) fn note(&self, function: &FunctionName, target: &CallTarget) {
        if self.listened.load(Ordering::Relaxed) == 0 {
            return;
        }
        let place = Place::new(function.as_str(), target);
        if let Some(sender) = self.places.lock().get(&place) {
            sender.send_modify(|changes| *changes += 1);
        }
    }
}

impl Listener {
    /// What has changed by now is known. Returns how many changes those were.
    pub(crate) fn forget(&mut self) -> u64 {
        *self.heard.borrow_and_update()
    }

    /// Waits for a change that is not known.
    pub(crate) async fn changed(&mut self) {
        // Who could tell is kept as long as somebody listens.
        let _ = self.heard.changed().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut places = self.changes.places.lock();
        // The last one is this one.
        if places.get(&self.place).is_some_and(|sender| sender.receiver_count() <= 1) {
            places.remove(&self.place);
        }
        self.changes.listened.store(places.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use http::uri::PathAndQuery;

    use super::*;

    fn place(whole: &'static str) -> (FunctionName, CallTarget) {
        let whole = PathAndQuery::from_static(whole);
        let (name, target) = CallTarget::split(&whole);
        (FunctionName::parse(name).expect("it follows the rules"), target)
    }

    fn check(listens: &'static str, changes: &'static str, expected: bool) {
        let all = Arc::new(Changes::default());
        let (function, target) = place(listens);
        let listener = all.listen(Place::new(function.as_str(), &target));
        let (function, target) = place(changes);
        all.note(&function, &target);
        let heard = listener.heard.has_changed().expect("it listens");
        assert_eq!(heard, expected, "{listens} {changes}");
    }

    #[test]
    fn a_change_is_of_one_path_however_it_is_written() {
        check("/f", "/f", true);
        check("/f/", "/f", true);
        check("/f/a?b=1", "/f/a?c", true);
        check("/f/a%20b", "/f/a%20b", true);
        check("/f/%7Ea", "/f/~a", true);
        check("/f/a", "/f/b", false);
        check("/f/a", "/g/a", false);
        check("/f/a", "/f/a/b", false);
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let all = Arc::new(Changes::default());
        let (function, target) = place("/f");
        let listen = || all.listen(Place::new(function.as_str(), &target));
        let (mut one, other) = (listen(), listen());
        drop(other);
        all.note(&function, &target);
        assert!(one.heard.has_changed().expect("it listens"));
        one.forget();
        assert!(!one.heard.has_changed().expect("it listens"));
        drop(one);
        assert_eq!((all.listened.load(Ordering::Relaxed), all.places.lock().len()), (0, 0));
    }

    #[test]
    fn some_methods_are_made_to_change() {
        let made = |name: &str| Changes::are_made_by(&name.parse().expect("a method"));
        assert!(["POST", "PUT", "PATCH", "iPATCH", "DELETE"].into_iter().all(made));
        assert!(!["GET", "HEAD", "OPTIONS", "FETCH", "TRACE"].into_iter().any(made));
    }
}
