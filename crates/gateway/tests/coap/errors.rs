//! Calls that no function answers.

use std::time::Duration;

use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{InvokeError, Reply};

use crate::support::*;

async fn check(server: &Server, ask: Ask, told: &str, sentence: &str) {
    let answer = server.ask(ask).await;
    assert_eq!((answer.told().as_str(), answer.text()), (told, sentence));
}

#[tokio::test]
async fn what_names_no_function_is_not_found() {
    let server = Server::with(echo());
    let sentence = "there is no function \"other\"; list shows those that there are";
    check(&server, get("/other/f"), "4.04", sentence).await;
    let sentence = "no function can have that name: the function's name holds ' '; use only ASCII \
                    letters, digits, '-' and '_'";
    check(&server, get("/a b"), "4.04", sentence).await;
    let unknown = || server.gateway.status().load().unknown_functions;
    assert_eq!(unknown(), 2);
    let nothing = "the path names no function; GET /.well-known/core lists those that there are";
    for url in ["", "/", "//f"] {
        check(&server, get(url), "4.04", nothing).await;
    }
    let nothing = "nothing is served there; GET /.well-known/core lists what is";
    for url in ["/.well-known", "/.well-known/core/x", "/.well-known/other", "/.f", "/.tinyfaas"] {
        check(&server, get(url), "4.04", nothing).await;
    }
    assert_eq!(unknown(), 2);
    let sentence =
        "a segment of the path is . or .., which must not be sent (RFC 7252 section 5.10.1)";
    check(&server, get("/f/../g"), "4.00", sentence).await;
}

#[tokio::test]
async fn what_went_wrong_is_told() {
    for (error, told) in [
        (InvokeError::Crashed { how: "signal 9".into() }, "5.00"),
        (InvokeError::ReplyBroken { how: "no head".into() }, "5.02"),
        (InvokeError::Stopping, "5.03 14=1"),
        (
            InvokeError::Unavailable {
                reason: "it dies".into(),
                retry_after: Duration::from_secs(9),
            },
            "5.03 14=9",
        ),
    ] {
        let sentence = error.to_string();
        let server = Server::with(answers(move || failed(error.clone())));
        check(&server, get("/f"), told, &sentence).await;
    }
    let failing = answers(|| Ok(Reply { failed: true, ..Reply::from_bytes("it raised an error") }));
    check(&Server::with(failing), post("/f", "x"), "5.00", "it raised an error").await;
}

#[tokio::test]
async fn a_call_past_its_deadline_is_a_timeout() {
    let mut server = Server::start(GatewayConfig::default());
    let deadline = Duration::from_millis(50);
    let silent = handler(|_, _place| std::future::pending());
    server.deploy(Function { deadline, ..Function::default() }, silent);
    // One whose reply begins, and does not end.
    let endless = handler(|_, _place| async {
        let (sender, body) = streamed();
        sender.send(Ok("begun".into())).unwrap();
        std::mem::forget(sender);
        Ok(Reply { body, ..Reply::from_bytes("") })
    });
    server.deploy(Function { name: "endless", deadline, ..Function::default() }, endless);
    let sentence = "the call took longer than the 50ms it may take";
    check(&server, get("/f"), "5.04", sentence).await;
    check(&server, get("/endless"), "5.04", sentence).await;
}

#[tokio::test]
async fn a_full_function_says_when_to_try_again() {
    let mut server = Server::start(GatewayConfig::default());
    let never = handler(|_, _place| std::future::pending());
    let handlers =
        server.deploy(Function { places: 0, waiting_max: 0, ..Function::default() }, never);
    let sentence = "function f is busy: 0 calls are waiting already; try again later";
    check(&server, get("/f"), "5.03 14=1", sentence).await;
    drop(handlers);
}

#[tokio::test]
async fn a_reply_longer_than_is_sent_is_refused() {
    let mut config = GatewayConfig::default();
    config.coap.blocks.reply_bytes_max = 2000;
    let mut server = Server::start(config);
    server.deploy(Function::default(), echo());
    assert_eq!(server.ask(post("/f", vec![b'x'; 2000])).await.code, Code::CONTENT);
    let sentence = "the function's reply is longer than the 2000 bytes that are sent over CoAP";
    check(&server, post("/f", vec![b'x'; 2001]), "5.00", sentence).await;
}

#[tokio::test]
async fn another_format_than_is_accepted_is_an_error() {
    let server = Server::with(answers(|| {
        let mut reply = Reply::from_bytes("<x/>");
        reply.headers.insert("content-type", "application/xml".parse().unwrap());
        Ok(reply)
    }));
    let sentence = "the function replied in content format 41, and only 50 is accepted";
    check(&server, get("/f").with(OptionNumber::ACCEPT, b"\x32"), "4.06", sentence).await;
    check(&server, get("/f").with(OptionNumber::ACCEPT, b"\x29"), "2.05 12=41", "<x/>").await;
}

/// The calls of all clients run in one task: a panic in one must not end it.
#[tokio::test]
async fn a_panic_costs_its_call_alone() {
    let server = Server::with(handler(|call, _place| async move {
        assert!(call.target.path() != "/panic", "asked for");
        Ok(Reply::from_bytes("sound"))
    }));
    let sentence = "a mistake of the server's own ended the call; its log says where";
    check(&server, get("/f/panic"), "5.00", sentence).await;
    check(&server, get("/f/else"), "2.05 12=0", "sound").await;
}
