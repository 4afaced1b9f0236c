//! How a change of what is deployed can fail.
//!
//! Owns one error for each operation. Must not know how they are told.

use tinyfaas_model::{BuildError, DeployError};

use crate::archive::UnpackError;
use crate::download::DownloadError;
use crate::settings::SettingsError;

/// Why a function was not deployed. What was there before is untouched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The archive could not be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// The archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The folder's settings make no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The folder could not be made ready to run.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Its handlers could not be started.
    #[error(transparent)]
    Start(#[from] DeployError),
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
    /// A fault in the server.
    #[error("the server has a fault: {0}; its log says more")]
    Fault(String),
}

/// Why a function was not deleted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DeleteError {
    /// There is none of that name.
    #[error("there is no function {name:?}; list shows those that there are")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// A fault in the server.
    #[error("the server has a fault: {0}; its log says more")]
    Fault(String),
}
