//! Which functions there are.

use tinyfaas_coap::message::{Code, OptionNumber};
use tinyfaas_gateway::GatewayConfig;
use tinyfaas_model::{CoapAttributes, FunctionName};

use crate::support::*;

const CORE: &str = "/.well-known/core";

async fn check(server: &Server, query: &str, expected: &str) {
    // The second one is remembered.
    for _ in 0..2 {
        let answer = server.ask(get(&format!("{CORE}{query}"))).await;
        assert_eq!((answer.told().as_str(), answer.text()), ("2.05 12=40", expected), "{query}");
    }
}

#[tokio::test]
async fn functions_are_listed_with_what_they_say_of_themselves() {
    let mut server = Server::start(GatewayConfig::default());
    check(&server, "", "").await;
    server.deploy(Function { name: "plain", ..Function::default() }, echo());
    check(&server, "", "</plain>").await;
    let coap = CoapAttributes {
        observable: true,
        rt: Some("temperature-c sensor".into()),
        interface: Some("core.s".into()),
        ct: vec![0, 50],
        sz: Some(64),
        title: Some("how \"warm\" it is".into()),
    };
    server.deploy(Function { name: "heat", coap, ..Function::default() }, echo());
    let one = CoapAttributes { ct: vec![60], ..CoapAttributes::default() };
    server.deploy(Function { name: "one", coap: one, ..Function::default() }, echo());
    let heat = "</heat>;rt=\"temperature-c sensor\";if=\"core.s\";ct=\"0 50\";sz=64;obs;\
                title=\"how \\\"warm\\\" it is\"";
    check(&server, "", &format!("{heat},</one>;ct=60,</plain>")).await;
    check(&server, "?rt=sensor", heat).await;
    check(&server, "?rt=temp*", heat).await;
    check(&server, "?obs", heat).await;
    check(&server, "?ct=60", "</one>;ct=60").await;
    check(&server, "?href=/p*", "</plain>").await;
    check(&server, "?rt=sensor&ct=60", "").await;
    check(&server, "?rt=sensor&ct=50", heat).await;
    server.writer.remove(&FunctionName::parse("heat").unwrap());
    check(&server, "", "</one>;ct=60,</plain>").await;
    check(&server, "?rt=sensor", "").await;
}

#[tokio::test]
async fn a_long_list_comes_in_blocks() {
    let mut server = Server::start(GatewayConfig::default());
    let names: Vec<&'static str> =
        (100..300).map(|number| &*format!("function-{number}").leak()).collect();
    for name in &names {
        server.deploy(Function { name, ..Function::default() }, echo());
    }
    let expected: Vec<_> = names.iter().map(|name| format!("</{name}>")).collect();
    let answer = server.ask(get(CORE)).await;
    assert_eq!(answer.text(), expected.join(","));
}

#[tokio::test]
async fn only_links_are_served_there() {
    let server = Server::with(echo());
    for code in [Code::POST, Code::PUT, Code::DELETE, Code::FETCH] {
        let answer = server.ask(ask(code, CORE)).await;
        let sentence = "that method means nothing here; use one of: GET";
        assert_eq!((answer.told().as_str(), answer.text()), ("4.05", sentence));
    }
    let links = server.ask(get(CORE).with(OptionNumber::ACCEPT, b"\x28")).await;
    assert_eq!(links.told(), "2.05 12=40");
    let other = server.ask(get(CORE).with(OptionNumber::ACCEPT, b"\x32")).await;
    assert_eq!(
        (other.told().as_str(), other.text()),
        ("4.06", "that is to be had in content format 40 only")
    );
}
