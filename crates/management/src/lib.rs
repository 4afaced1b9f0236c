//! ROOM 1: functions come and go.
//!
//! Owns the management service: its HTTP API, the one place that changes what is
//! deployed, and the functions' logs. Must not know how a function is built, run
//! or called: that is behind [`tinyfaas_model::Backend`] and
//! [`tinyfaas_model::Routes`].

mod api;
mod archive;
mod config;
mod download;
#[cfg(test)]
mod fake;
mod form_body;
#[cfg(fuzzing)]
pub mod fuzzing;
mod logs;
mod manager;
mod metrics;
mod request;
mod settings;
mod shown;
mod spool;
mod upload_body;

pub use api::{Endpoints, Entrance, Surroundings, serve};
pub use config::{ArchiveLimits, ManagementConfig};
pub use manager::Manager;
