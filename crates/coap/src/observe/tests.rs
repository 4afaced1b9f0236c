use super::*;
use crate::block::{BlockLimits, Blocks, Carrier, Step};
use crate::message::{Kind, Message, MessageId, OptionsBuilder};
use proptest::prelude::*;

const ONE: ResourceId = ResourceId(1);
const TWO: ResourceId = ResourceId(2);

fn peer(ip: u8, port: u16) -> Peer {
    Peer::at(([192, 0, 2, ip], port).into())
}

fn token(value: u8) -> Token {
    Token::new(&[value]).unwrap()
}

fn transfer(peer: Peer, code: Code, options: &[(OptionNumber, &[u8])]) -> Transfer {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push(*number, value).unwrap();
    }
    let message = Message {
        code,
        options: builder.build(),
        ..Message::empty(Kind::Confirmable, MessageId(1))
    };
    let mut blocks = Blocks::new(BlockLimits::default(), 1);
    match blocks.request(Instant::now(), peer, message, Carrier::Datagram { proven: true }) {
        Step::Run(_, transfer) => transfer,
        Step::Answer(response) => panic!("{response:?}"),
    }
}

/// A GET of this path.
fn get(peer: Peer, path: &str) -> Transfer {
    transfer(peer, Code::GET, &[(OptionNumber::URI_PATH, path.as_bytes())])
}

struct Played {
    table: Observers,
    now: Instant,
}

impl Played {
    fn new(limits: ObserverLimits) -> Played {
        let now = Instant::now();
        Played { table: Observers::new(limits, 3, now), now }
    }

    fn enter(&mut self, of: &Transfer, value: u8, resource: ResourceId) -> Option<ObserverId> {
        self.table.observe(self.now, of, (token(value), false), resource, true)
    }

    fn changes(&mut self) -> Vec<Change> {
        std::iter::from_fn(|| self.table.poll()).collect()
    }
}

#[test]
fn an_entry_is_renewed_by_its_token_or_its_request() {
    let mut played = Played::new(ObserverLimits::default());
    let first = played.enter(&get(peer(1, 1), "a"), 1, ONE).unwrap();
    let again = played.enter(&get(peer(1, 1), "a"), 1, ONE).unwrap();
    assert_eq!((played.changes(), played.table.len()), (vec![Change::Displaced(first)], 1));
    // The same request by another token.
    let other = played.enter(&get(peer(1, 1), "a"), 2, ONE).unwrap();
    assert_eq!((played.changes(), played.table.len()), (vec![Change::Displaced(again)], 1));
    assert_eq!(played.table.find(&peer(1, 1), token(1)), None);
    // The same token for another request.
    let moved = played.enter(&get(peer(1, 1), "b"), 2, TWO).unwrap();
    assert_eq!(played.changes(), [Change::Unobserved(ONE), Change::Displaced(other)]);
    assert_eq!(played.table.of(TWO), [moved]);
    // Both at once: two old ones for one new.
    played.enter(&get(peer(1, 1), "a"), 1, ONE).unwrap();
    played.enter(&get(peer(1, 1), "a"), 2, ONE).unwrap();
    assert_eq!((played.table.len(), played.table.count(TWO)), (1, 0));
    // Another's are its own.
    played.enter(&get(peer(1, 2), "a"), 2, ONE).unwrap();
    assert_eq!((played.table.len(), played.table.count(ONE)), (2, 2));
    played.changes();
    assert_eq!(played.table.forget(&peer(1, 1)).len(), 1);
    assert_eq!(played.changes(), []);
    assert_eq!(played.table.forget(&peer(1, 2)).len(), 1);
    assert_eq!(played.changes(), [Change::Unobserved(ONE)]);
    assert!(played.table.is_empty());
}

#[test]
fn only_a_short_get_observes() {
    let mut played = Played::new(ObserverLimits { request_bytes_max: 20, ..Default::default() });
    assert_eq!(played.enter(&transfer(peer(1, 1), Code::FETCH, &[]), 1, ONE), None);
    assert_eq!(played.enter(&get(peer(1, 1), &"a".repeat(20)), 1, ONE), None);
    // What is not kept does not count.
    let long = transfer(peer(1, 1), Code::GET, &[(OptionNumber(2048), &[7; 500])]);
    let id = played.enter(&long, 1, ONE).unwrap();
    assert!(played.table.get(id).unwrap().transfer().options().is_empty());
}

#[test]
fn there_are_only_so_many() {
    let limits =
        ObserverLimits { observers_max: 3, observers_per_source_max: 2, ..Default::default() };
    let mut played = Played::new(limits);
    let now = played.now;
    let doubtful = get(peer(1, 1), "a");
    let first = played.table.observe(now, &doubtful, (token(1), false), ONE, false).unwrap();
    let second = get(peer(1, 2), "a");
    let second = played.table.observe(now, &second, (token(1), false), TWO, false).unwrap();
    assert_eq!(played.enter(&get(peer(1, 3), "a"), 1, ONE), None);
    // Who is renewed needs no more room.
    assert!(played.table.observe(now, &doubtful, (token(1), false), ONE, false).is_some());
    assert_eq!(played.changes(), [Change::Displaced(first)]);
    played.table.acknowledged(played.table.find(&peer(1, 1), token(1)).unwrap());
    assert!(played.enter(&get(peer(2, 1), "a"), 1, ONE).is_some());
    // Who was never proven gives way, others do not.
    assert!(played.enter(&get(peer(3, 1), "a"), 1, ONE).is_some());
    assert_eq!(played.changes(), [Change::Unobserved(TWO), Change::Displaced(second)]);
    assert_eq!(played.enter(&get(peer(4, 1), "a"), 1, ONE), None);
    assert_eq!(played.table.len(), 3);
}

#[test]
fn now_and_then_one_is_confirmable() {
    let mut played = Played::new(ObserverLimits { non_confirmable_max: 2, ..Default::default() });
    let id = played.enter(&get(peer(1, 1), "a"), 1, ONE).unwrap();
    let asked: Vec<_> = (0..6).map(|_| played.table.next_is_confirmable(played.now, id)).collect();
    assert_eq!(asked, [false, false, true, false, false, true]);
    played.now += Duration::from_secs(3600);
    assert!(played.table.next_is_confirmable(played.now, id));
    let asks = get(peer(1, 2), "a");
    let id = played.table.observe(played.now, &asks, (token(1), true), ONE, true).unwrap();
    assert!(played.table.next_is_confirmable(played.now, id));
    assert!(played.table.next_is_confirmable(played.now, id));
}

/// Whether a client takes the second for newer (RFC 7641 section 3.4).
fn is_newer(v1: u32, t1: Instant, v2: u32, t2: Instant) -> bool {
    (v1 < v2 && v2 - v1 < 1 << 23)
        || (v1 > v2 && v1 - v2 > 1 << 23)
        || t2 > t1 + Duration::from_secs(128)
}

proptest! {
    /// Whenever it is told or renewed, what comes later is newer.
    #[test]
    fn numbers_tell_the_order(
        start: u32,
        waits in prop::collection::vec(prop_oneof![1u64..5, 1u64..40_000_000], 1..60),
    ) {
        let mut played =
            Played::new(ObserverLimits { sequence_start: start, ..Default::default() });
        let asks = get(peer(1, 1), "a");
        let mut id = played.enter(&asks, 1, ONE).unwrap();
        let mut last: Option<(u32, Instant)> = None;
        for wait in waits {
            played.now += Duration::from_millis(wait);
            if wait % 5 == 3 {
                id = played.enter(&asks, 1, ONE).unwrap();
            } else if wait % 5 == 4 {
                // Gone, and back later.
                played.table.remove(id);
                id = played.enter(&asks, 1, ONE).unwrap();
            }
            let next = played.table.next_sequence(played.now, id).unwrap();
            prop_assert!(next < 1 << 24);
            if let Some((number, at)) = last {
                prop_assert!(is_newer(number, at, next, played.now), "{number} {next}");
            }
            last = Some((next, played.now));
        }
    }

    /// The indexes agree with one another and with a plain list.
    #[test]
    fn as_a_plain_list_would(steps in prop::collection::vec(
        (0u8..6, 0u8..3, 1u16..3, 0u8..3, 0u64..3), 0..120),
    ) {
        let limits =
            ObserverLimits { observers_max: 6, observers_per_source_max: 3, ..Default::default() };
        let mut played = Played::new(limits);
        let mut list: Vec<(Peer, u8, u8, u64)> = Vec::new();
        for (what, ip, port, value, path) in steps {
            let peer = peer(ip, port);
            match what {
                0..=3 => {
                    let asks = get(peer, ["a", "b", "c"][path as usize]);
                    list.retain(|(p, t, _, r)| *p != peer || (*t != value && *r != path));
                    let mine = list.iter().filter(|(p, ..)| p.remote.ip() == peer.remote.ip());
                    let has_room = mine.count() < 3 && list.len() < 6;
                    let id = played.enter(&asks, value, ResourceId(path));
                    prop_assert_eq!(id.is_some(), has_room);
                    if has_room {
                        list.push((peer, value, 0, path));
                    }
                }
                4 => {
                    if let Some(id) = played.table.find(&peer, token(value)) {
                        played.table.remove(id);
                    }
                    list.retain(|(p, t, ..)| *p != peer || *t != value);
                }
                _ => {
                    played.table.forget(&peer);
                    list.retain(|(p, ..)| *p != peer);
                }
            }
            prop_assert_eq!(played.table.len(), list.len());
            for path in 0..3 {
                let of = played.table.of(ResourceId(path));
                let found: Vec<_> = of
                    .iter()
                    .map(|id| played.table.get(*id).unwrap())
                    .map(|o| (*o.peer(), o.token(), o.resource()))
                    .collect();
                let mine = list.iter().filter(|(.., r)| *r == path);
                let expected: Vec<_> =
                    mine.map(|(p, t, _, r)| (*p, token(*t), ResourceId(*r))).collect();
                prop_assert_eq!(found, expected);
            }
            for change in played.changes() {
                if let Change::Unobserved(resource) = change {
                    prop_assert_eq!(played.table.count(resource), 0);
                }
            }
        }
        for id in (0..3).flat_map(|path| played.table.of(ResourceId(path))).collect::<Vec<_>>() {
            played.table.remove(id);
        }
        let table = &played.table;
        let left = [table.by_token.len(), table.by_request.len(), table.by_resource.len()];
        prop_assert_eq!((left, table.doubtful.len()), ([0; 3], 0));
    }
}

#[test]
fn many_in_a_millisecond_keep_their_order() {
    let mut played =
        Played::new(ObserverLimits { sequence_start: 0xff_fffe, ..Default::default() });
    let id = played.enter(&get(peer(1, 1), "a"), 1, ONE).unwrap();
    let told: Vec<_> = (0..4).map(|_| played.table.next_sequence(played.now, id)).collect();
    assert_eq!(told, [Some(0xff_fffe), Some(0xff_ffff), Some(0), Some(1)]);
}

#[test]
fn what_is_kept_has_memory_of_its_own() {
    let mut played = Played::new(ObserverLimits::default());
    let asks = get(peer(1, 1), "a");
    let id = played.enter(&asks, 1, ONE).unwrap();
    let kept = played.table.get(id).unwrap().transfer().options().as_encoded().as_ptr();
    assert_ne!(kept, asks.options().as_encoded().as_ptr());
}
