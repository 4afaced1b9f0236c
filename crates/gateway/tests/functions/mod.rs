//! Fake functions, and a gateway's routes to them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body::Frame;
use http_body_util::BodyExt;
use tinyfaas_model::{
    Body, BodyError, BoxFuture, CoapAttributes, FunctionName, FunctionSpec, Handler, HandlerError,
    HandlerId, HandlerSet, Invocation, InvokeError, Limits, Place, Reply, Route, RoutesWriter,
    Runtime,
};
use tokio::sync::mpsc;

pub(crate) type Outcome = Result<Reply, HandlerError>;

struct Fake<F> {
    id: HandlerId,
    run: F,
}

impl<F> Handler for Fake<F>
where
    F: Fn(Invocation, Place) -> BoxFuture<'static, Outcome> + Send + Sync + 'static,
{
    fn id(&self) -> &HandlerId {
        &self.id
    }

    fn invoke(self: Arc<Self>, call: Invocation, place: Place) -> BoxFuture<'static, Outcome> {
        (self.run)(call, place)
    }
}

/// A handler that runs this for every call.
pub(crate) fn handler<F, R>(run: F) -> Arc<dyn Handler>
where
    F: Fn(Invocation, Place) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    let id = HandlerId::new("fake-0");
    Arc::new(Fake { id, run: move |call, place| -> BoxFuture<_> { Box::pin(run(call, place)) } })
}

/// A handler that answers every call with this.
pub(crate) fn answers(reply: impl Fn() -> Outcome + Send + Sync + 'static) -> Arc<dyn Handler> {
    handler(move |_, _place| std::future::ready(reply()))
}

/// A handler that answers with what it was asked.
pub(crate) fn echo() -> Arc<dyn Handler> {
    handler(|call, _place| async move { Ok(Reply::from_bytes(whole(call.body).await?)) })
}

/// A handler that describes the call: a line each for method, path, query and
/// header (the trace apart, which is another each time), then the body.
pub(crate) fn mirror() -> Arc<dyn Handler> {
    handler(|call, _place| async move {
        let mut text = format!("{} {} {}\n", call.method, call.target.path(), call.target.query());
        for (name, value) in call.headers.iter().filter(|(name, _)| *name != "traceparent") {
            text += &format!("{name}: {}\n", value.to_str().unwrap());
        }
        text += &format!("\n{}", String::from_utf8_lossy(&whole(call.body).await?));
        Ok(Reply::from_bytes(text))
    })
}

pub(crate) async fn whole(body: Body) -> Result<Bytes, HandlerError> {
    let read = body.collect().await;
    read.map(http_body_util::Collected::to_bytes).map_err(|e| HandlerError::Failed(e.into()))
}

/// A body whose parts the test sends one by one.
pub(crate) fn streamed() -> (mpsc::UnboundedSender<Result<Bytes, BodyError>>, Body) {
    let (sender, mut parts) = mpsc::unbounded_channel::<Result<Bytes, BodyError>>();
    let body =
        poll_body(move |cx| parts.poll_recv(cx).map(|part| part.map(|part| part.map(Frame::data))));
    (sender, body)
}

type Poll = std::task::Poll<Option<Result<Frame<Bytes>, BodyError>>>;

pub(crate) fn poll_body(
    poll: impl FnMut(&mut std::task::Context<'_>) -> Poll + Send + Unpin + 'static,
) -> Body {
    struct Polled<F>(F);
    impl<F: FnMut(&mut std::task::Context<'_>) -> Poll + Unpin> http_body::Body for Polled<F> {
        type Data = Bytes;
        type Error = BodyError;
        fn poll_frame(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll {
            (self.0)(cx)
        }
    }
    Body::Stream(Box::pin(Polled(poll)))
}

pub(crate) fn failed(error: InvokeError) -> Outcome {
    Err(HandlerError::Failed(error))
}

/// What a test function may differ in.
pub(crate) struct Function {
    pub(crate) name: &'static str,
    pub(crate) places: usize,
    pub(crate) waiting_max: usize,
    pub(crate) deadline: Duration,
    pub(crate) coap: CoapAttributes,
}

impl Default for Function {
    fn default() -> Self {
        Self {
            name: "f",
            places: 64,
            waiting_max: 256,
            deadline: Duration::from_secs(300),
            coap: CoapAttributes::default(),
        }
    }
}

/// Routes the function's name to this handler.
pub(crate) fn deploy(
    writer: &mut RoutesWriter,
    function: Function,
    handler: Arc<dyn Handler>,
) -> Arc<HandlerSet> {
    let handlers = HandlerSet::new(function.waiting_max);
    handlers.add(handler, function.places);
    let spec = FunctionSpec {
        name: FunctionName::parse(function.name).unwrap(),
        description: None,
        runtime: Runtime::Binary,
        threads: 1,
        envs: Vec::new(),
        limits: Limits {
            call_deadline: function.deadline,
            start_timeout: Duration::from_secs(60),
            calls_per_handler: function.places,
            waiting_max: function.waiting_max,
            build_timeout: Duration::from_secs(600),
        },
        cgi: false,
        coap: function.coap,
    };
    let route = Route {
        function: Arc::new(spec),
        handlers: Arc::clone(&handlers),
        counters: Arc::default(),
    };
    writer.put(Arc::new(route));
    handlers
}

/// Waits until it is so.
pub(crate) async fn until(so: impl Fn() -> bool) {
    while !so() {
        tokio::task::yield_now().await;
    }
}
