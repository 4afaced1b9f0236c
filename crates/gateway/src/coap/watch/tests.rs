use futures_util::FutureExt;
use tinyfaas_coap::message::{Code, OptionsBuilder};

use super::*;

fn response(code: Code, options: &[(OptionNumber, u32)], payload: &'static str) -> Response {
    let mut builder = OptionsBuilder::new();
    for (number, value) in options {
        builder.push_uint(*number, *value);
    }
    Response { code, options: builder.build(), payload: payload.into() }
}

#[test]
fn what_differs_is_told() {
    let plain = response(Code::CONTENT, &[], "x");
    let check = |other: Response, expected| {
        assert_eq!(is_same(&plain, &other), expected, "{other:?}");
    };
    check(plain.clone(), true);
    check(response(Code::CONTENT, &[(OptionNumber::MAX_AGE, 9)], "x"), true);
    check(response(Code::CONTENT, &[], "y"), false);
    check(response(Code::CREATED, &[], "x"), false);
    check(response(Code::CONTENT, &[(OptionNumber::ETAG, 1)], "x"), false);
    check(response(Code::CONTENT, &[(OptionNumber::CONTENT_FORMAT, 0)], "x"), false);
}

#[test]
fn max_age_has_a_default_and_a_least() {
    let check = |options: &[(OptionNumber, u32)], seconds| {
        let response = response(Code::CONTENT, options, "");
        assert_eq!(fresh_for(&response.options), Duration::from_secs(seconds));
    };
    check(&[], 60);
    check(&[(OptionNumber::MAX_AGE, 0)], 1);
    check(&[(OptionNumber::MAX_AGE, 7)], 7);
}

fn watched() -> Watched {
    Watched { id: ResourceId(0), states: watch::Sender::new(None) }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_state_is_told_again_only_after_long() {
    let watched = watched();
    let mut watch = Watch::of(&watched, 0);
    let mut put = |text| {
        let retell = Duration::from_secs(100);
        watched.put(response(Code::CONTENT, &[], text), None, 0, Duration::from_secs(60), retell);
        watch.latest().expect("it is there").version
    };
    let pause = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
    assert_eq!((put("a"), put("a"), put("b")), (0, 0, 1));
    pause(99).await;
    assert_eq!(put("b"), 1);
    pause(1).await;
    assert_eq!((put("b"), put("b")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_has_passed_of_max_age_is_taken_off() {
    let watched = watched();
    let mut watch = Watch::of(&watched, 0);
    let mut check = |max_age: &[(OptionNumber, u32)], expected: [Option<u32>; 2]| {
        let reply = response(Code::CONTENT, max_age, "x");
        let fresh_for = fresh_for(&reply.options);
        watched.put(reply, None, 0, fresh_for, Duration::from_secs(600));
        let state = watch.latest().expect("it is there");
        async move {
            let left = || state.response().options.uint(OptionNumber::MAX_AGE);
            let at_once = left();
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert_eq!([at_once, left()], expected);
        }
    };
    check(&[], [None, Some(58)]).await;
    check(&[(OptionNumber::MAX_AGE, 100)], [Some(100), Some(98)]).await;
    check(&[(OptionNumber::MAX_AGE, 1)], [Some(1), Some(0)]).await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_while_a_state_is_old_waits_for_the_next() {
    let watched = watched();
    let put = |text| {
        let (fresh, retell) = (Duration::from_secs(1), Duration::from_secs(600));
        watched.put(response(Code::CONTENT, &[], text), None, 0, fresh, retell);
    };
    put("old");
    tokio::time::sleep(Duration::from_secs(2)).await;
    let first = Watch::of(&watched, 0).first();
    tokio::pin!(first);
    assert!(first.as_mut().now_or_never().is_none());
    put("new");
    let reply = first.await;
    assert_eq!((&reply.response.payload[..], reply.watch.is_some()), (&b"new"[..], true));
    watched.put_last(Response::new(Code::NOT_FOUND));
    let reply = Watch::of(&watched, 0).first().await;
    assert_eq!((reply.response.code, reply.watch.is_some()), (Code::NOT_FOUND, false));
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_change_waits_for_a_state_that_knows_it() {
    let watched = watched();
    let put = |text, changes| {
        let (fresh, retell) = (Duration::from_secs(60), Duration::from_secs(600));
        watched.put(response(Code::CONTENT, &[], text), None, changes, fresh, retell);
    };
    put("before", 1);
    let first = Watch::of(&watched, 2).first();
    tokio::pin!(first);
    assert!(first.as_mut().now_or_never().is_none());
    put("after", 2);
    assert_eq!(&first.await.response.payload[..], b"after");
}
