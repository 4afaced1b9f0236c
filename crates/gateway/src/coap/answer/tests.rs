use std::future::ready;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use bytes::Bytes;
use proptest::prelude::*;
use tinyfaas_coap::message::{Kind, MessageId, Token};
use tinyfaas_model::{
    BoxFuture, CoapAttributes, FunctionSpec, Handler, HandlerError, HandlerId, HandlerSet, Limits,
    Place, Routes, RoutesWriter, Runtime,
};
use tokio::runtime::Builder;

use super::*;
use crate::{Gateway, GatewayConfig};

/// Answers every call with this.
struct Says {
    id: HandlerId,
    status: Option<StatusCode>,
    headers: HeaderMap,
    payload: Bytes,
}

impl Handler for Says {
    fn id(&self) -> &HandlerId {
        &self.id
    }

    fn invoke(
        self: Arc<Self>,
        _: Invocation,
        _: Place,
    ) -> BoxFuture<'static, Result<tinyfaas_model::Reply, HandlerError>> {
        Box::pin(ready(Ok(tinyfaas_model::Reply {
            status: self.status,
            failed: false,
            headers: self.headers.clone(),
            body: Body::from_bytes(self.payload.clone()),
        })))
    }
}

/// A server with the observable function `f`.
fn server(says: Says) -> (Arc<Coap>, Routes) {
    let (mut writer, routes) = RoutesWriter::new();
    let gateway = Gateway::new(GatewayConfig::default(), routes.clone());
    let handlers = HandlerSet::new(1);
    handlers.add(Arc::new(says), 1);
    let limits = Limits {
        call_deadline: Duration::from_secs(300),
        start_timeout: Duration::from_secs(60),
        calls_per_handler: 1,
        waiting_max: 1,
        build_timeout: Duration::from_secs(600),
    };
    let function = FunctionSpec {
        name: FunctionName::parse("f").expect("it follows the rules"),
        description: None,
        runtime: Runtime::Binary,
        threads: 1,
        envs: Vec::new(),
        limits,
        cgi: false,
        coap: CoapAttributes { observable: true, ..CoapAttributes::default() },
    };
    let function = Arc::new(function);
    writer.put(Arc::new(Route { function, handlers, counters: Arc::default() }));
    (Arc::clone(&gateway.coap), routes)
}

fn message(code: Code, options: &[(u16, Vec<u8>)]) -> Message {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push(OptionNumber(*number), value).expect("it is short");
    }
    Message {
        kind: Kind::Confirmable,
        code,
        id: MessageId(1),
        token: Token::EMPTY,
        options: builder.build(),
        payload: Bytes::from_static(b"x"),
    }
}

/// What is answered in the end.
fn ask(coap: &Arc<Coap>, message: Message) -> Reply {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    runtime.block_on(async {
        match answer(coap, message) {
            Answer::Now(reply) => reply,
            Answer::Later(later) => later.await,
        }
    })
}

fn any_option() -> impl Strategy<Value = (u16, Vec<u8>)> {
    let known = prop::sample::select(vec![1, 3, 4, 5, 6, 7, 11, 12, 14, 15, 17, 60, 252, 258, 292]);
    (known, prop::collection::vec(any::<u8>(), 0..10))
}

fn any_path() -> impl Strategy<Value = Vec<&'static str>> {
    let known = ["f", ".well-known", "core", ".tinyfaas", "calls", "", "g", "..", "a b"];
    prop::collection::vec(prop::sample::select(known.to_vec()), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever is asked, and whatever the function says, there is an answer that a
    /// transport can send, and a call of the function is counted once.
    #[test]
    fn any_request_is_answered(
        path in any_path(),
        options in prop::collection::vec(any_option(), 0..6),
        method in 0_u8..32,
        status in prop::option::of(100_u16..1000),
        headers in prop::collection::vec(("[a-z-]{1,9}|etag|location", "[ -~]{0,20}"), 0..4),
    ) {
        let mut said = HeaderMap::new();
        for (name, value) in &headers {
            let name = HeaderName::try_from(name);
            if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
                said.append(name, value);
            }
        }
        let says = Says {
            id: HandlerId::new("f-0"),
            status: status.map(|status| StatusCode::from_u16(status).expect("a status")),
            headers: said,
            payload: Bytes::from_static(b"said"),
        };
        let (coap, routes) = server(says);
        let path = path.into_iter().map(|segment| (11, segment.as_bytes().to_vec()));
        let all: Vec<_> = path.chain(options).collect();
        let reply = ask(&coap, message(Code::new(0, method), &all));
        let Response { code, options, .. } = reply.response;
        prop_assert!(code.is_response() && code != Code::CONTINUE, "{code}");
        for (number, value) in options.iter() {
            let known = match number {
                OptionNumber::ETAG => (1..=8).contains(&value.len()),
                OptionNumber::LOCATION_PATH | OptionNumber::LOCATION_QUERY => value.len() < 256,
                OptionNumber::CONTENT_FORMAT => value.len() <= 2,
                OptionNumber::MAX_AGE => value.len() <= 4,
                _ => false,
            };
            prop_assert!(known, "{number} {value:?}");
        }
        let called = all.iter().find(|(number, _)| *number == 11).is_some_and(|(_, name)| name == b"f");
        let calls = &routes.find("f").expect("it is there").counters.calls;
        let counted: u64 = CallOutcome::ALL.into_iter().map(|outcome| calls.count(outcome)).sum();
        prop_assert!(counted == 1 || !called || !code.is_success());
        prop_assert!(counted <= u64::from(called));
    }
}

fn says(status: u16) -> Says {
    Says {
        id: HandlerId::new("f-0"),
        status: StatusCode::from_u16(status).ok(),
        headers: HeaderMap::new(),
        payload: Bytes::from_static(b"said"),
    }
}

fn check(code: Code, observe: Option<u8>, status: u16, expected: bool) {
    let (coap, _routes) = server(says(status));
    let mut options = vec![(11, b"f".to_vec())];
    options.extend(observe.map(|value| (6, vec![value])));
    let reply = ask(&coap, Message { payload: Bytes::new(), ..message(code, &options) });
    assert_eq!(reply.watch.is_some(), expected, "{code} {observe:?} {status}");
}

#[test]
fn only_what_succeeds_can_be_observed() {
    check(Code::GET, Some(0), 200, true);
    check(Code::GET, Some(1), 200, false);
    check(Code::PUT, Some(0), 200, false);
    check(Code::GET, None, 200, false);
    check(Code::GET, Some(0), 404, false);
}

/// The transport may take its time: until it has the reply, what the reply takes
/// is counted.
#[test]
fn a_reply_is_held_until_a_transport_has_taken_it() {
    let (coap, _routes) = server(says(200));
    let reply = ask(&coap, message(Code::POST, &[(11, b"f".to_vec())]));
    assert_eq!(coap.held.taken(), "x".len() + "said".len());
    drop(reply);
    assert_eq!(coap.held.taken(), 0);
}

#[test]
fn a_call_that_is_dropped_is_counted_as_cancelled() {
    let (coap, routes) = server(says(200));
    let Answer::Later(later) = answer(&coap, message(Code::GET, &[(11, b"f".to_vec())])) else {
        panic!("a function answers later");
    };
    drop(later);
    let calls = &routes.find("f").expect("it is there").counters.calls;
    assert_eq!(calls.count(CallOutcome::Cancelled), 1);
    assert_eq!(coap.held.taken(), 0);
}
