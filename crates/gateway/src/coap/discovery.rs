//! `/.well-known/core`: which functions there are (RFC 6690).
//!
//! Owns the links of functions and the last answer, which stands until a function
//! comes or goes. Must not know how links are written.

use parking_lot::Mutex;
use tinyfaas_coap::exchange::Response;
use tinyfaas_coap::formats;
use tinyfaas_coap::link::{self, Filter, Link, Value};
use tinyfaas_coap::message::{Code, Message, OptionNumber, OptionsBuilder};
use tinyfaas_model::{FunctionSpec, Routes};

use super::Coap;
use super::error::{CallError, Refused};

/// What was answered last: asking again costs next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Discovery(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    /// That of the routes that the links were made of.
    revision: Option<u64>,
    links: Vec<Link>,
    /// The query that was asked, and what was answered.
    answer: Option<(Vec<Vec<u8>>, Response)>,
}

/// Answers a request for `/.well-known/core`.
///
/// # Errors
/// Where it asks for anything else than links.
pub(super) fn answer(coap: &Coap, message: &Message) -> Result<Response, CallError> {
    if message.code != Code::GET {
        return Err(Refused::MethodNotAllowed("GET").into());
    }
    let accept = message.options.uint(OptionNumber::ACCEPT);
    if accept.is_some_and(|wanted| wanted != u32::from(formats::LINKS)) {
        return Err(Refused::NotAcceptable(formats::LINKS).into());
    }
    Ok(coap.discovery.answer(coap.dispatch.routes(), message))
}

impl Discovery {
    fn answer(&self, routes: &Routes, message: &Message) -> Response {
        let query = || message.options.all(OptionNumber::URI_QUERY);
        let revision = routes.revision();
        let mut last = self.0.lock();
        if last.revision == Some(revision)
            && let Some((asked, response)) = &last.answer
            && asked.iter().map(Vec::as_slice).eq(query())
        {
            return response.clone();
        }
        if last.revision != Some(revision) {
            last.links = routes.all().iter().map(|route| link(&route.function)).collect();
            last.revision = Some(revision);
        }
        let response = respond(&last.links, query());
        last.answer = Some((query().map(<[u8]>::to_vec).collect(), response.clone()));
        response
    }
}

fn respond<'q>(links: &[Link], query: impl Iterator<Item = &'q [u8]>) -> Response {
    let query: Vec<_> = query.map(String::from_utf8_lossy).collect();
    let parts = query.iter().filter(|part| !part.is_empty());
    let filters: Vec<_> = parts.map(|part| Filter::read(part)).collect();
    let mut options = OptionsBuilder::new();
    options.push_uint(OptionNumber::CONTENT_FORMAT, u32::from(formats::LINKS));
    let payload = link::write(links, &filters).into();
    Response { code: Code::CONTENT, options: options.build(), payload }
}

fn link(function: &FunctionSpec) -> Link {
    let said = &function.coap;
    let text = |name, text: &Option<String>| text.clone().map(|text| (name, Value::Text(text)));
    let formats = match said.ct[..] {
        [] => None,
        [one] => Some(Value::Number(one.into())),
        // RFC 7252 section 7.2.1.
        _ => {
            let numbers: Vec<_> = said.ct.iter().map(u16::to_string).collect();
            Some(Value::Text(numbers.join(" ")))
        }
    };
    let attributes = [
        text("rt", &said.rt),
        text("if", &said.interface),
        formats.map(|formats| ("ct", formats)),
        said.sz.map(|bytes| ("sz", Value::Number(bytes))),
        said.observable.then_some(("obs", Value::Flag)),
        text("title", &said.title),
    ];
    let path = format!("/{}", function.name);
    Link { path, attributes: attributes.into_iter().flatten().collect() }
}
