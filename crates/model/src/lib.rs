//! The nouns that all rooms share, and the seams between them.
//!
//! This crate owns what a function, a call and a route *are*, and the traits by
//! which management, gateway and handlers meet. It must not know any of them,
//! and it does no input or output.

pub mod body;
pub mod calls;
pub mod counters;
pub mod function;
pub mod handler_set;
pub mod health;
pub mod invocation;
pub mod load;
pub mod notation;
pub mod random;
pub mod routes;
pub mod seams;

pub use body::{Body, BodyError};
pub use calls::{
    CallPage, CallQuery, CallRecord, CallRegistry, CallResult, CallState, Cancelling, Moment,
};
pub use counters::{
    BuildCounters, CallCounters, CallOutcome, FunctionCounters, HandlerCounters, Histogram,
    HistogramSnapshot,
};
pub use function::{
    CoapAttributes, EnvVar, FunctionName, FunctionSpec, Limits, NAME_CHARS_MAX, NameError, Runtime,
};
pub use handler_set::{Admission, HandlerSet, Patience, Place, Refusal, Suspension, WaitingRoom};
pub use health::{Condition, Health, Trouble, Usage};
pub use invocation::{CallId, CallTarget, Invocation, InvokeError, Reply};
pub use load::{CoapLoad, GatewayLoad, GatewayStatus, Share};
pub use notation::{DurationError, parse_duration};
pub use routes::{Route, Routes, RoutesWriter};
pub use seams::{
    Artifact, Backend, BoxFuture, BuildError, DeployError, Deployment, Handler, HandlerError,
    HandlerId, LogSink, RuntimeStatus,
};
