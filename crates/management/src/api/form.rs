//! A deploy's form on its way in: texts to one side, the archive to the other.
//!
//! Owns which fields there are, and the bound on those that are text.

use std::path::PathBuf;

use crate::config::ManagementConfig;
use crate::form_body::{FormError, Piece};
use crate::shown::{nearest, shown};
use crate::spool::{SpoolFile, Spooled};

use super::body::BodyReadError;

/// The field that holds the archive.
const ARCHIVE: &str = "archive";
/// The field that holds settings as JSON.
pub(super) const SETTINGS: &str = "settings";
/// All fields.
const FIELDS: [&str; 7] = [ARCHIVE, SETTINGS, "env", "threads", "envs", "url", "subfolder_path"];

/// A form, read to its end.
pub(super) struct Form {
    /// The fields that are text, in their order.
    pub(super) texts: Vec<(&'static str, String)>,
    /// The archive, where there is one.
    pub(super) archive: Option<Spooled>,
}

/// A form of which a part has come.
pub(super) struct FormReader {
    spool_dir: PathBuf,
    archive_bytes_max: u64,
    text_bytes_max: usize,
    at: Option<&'static str>,
    texts: Vec<(&'static str, Vec<u8>)>,
    text_bytes: usize,
    archive: Option<SpoolFile>,
}

impl FormReader {
    pub(super) fn new(config: &ManagementConfig) -> Self {
        Self {
            spool_dir: config.spool_dir.clone(),
            archive_bytes_max: config.archive.packed_bytes_max,
            text_bytes_max: config.request_bytes_max,
            at: None,
            texts: Vec::new(),
            text_bytes: 0,
            archive: None,
        }
    }

    /// Takes what comes next.
    pub(super) async fn take(&mut self, piece: Piece) -> Result<(), BodyReadError> {
        match piece {
            Piece::Part(name) => {
                let field = field(&name)?;
                self.at = Some(field);
                if field == ARCHIVE {
                    self.begin_archive().await?;
                } else {
                    self.texts.push((field, Vec::new()));
                }
            }
            Piece::Content(content) if self.at == Some(ARCHIVE) => {
                if let Some(archive) = &mut self.archive {
                    archive.write(&content).await?;
                }
            }
            Piece::Content(content) => {
                self.text_bytes += content.len();
                let limit_bytes = self.text_bytes_max;
                if self.text_bytes > limit_bytes {
                    return Err(BodyReadError::TooLarge { limit_bytes });
                }
                if let Some((_, text)) = self.texts.last_mut() {
                    text.extend_from_slice(&content);
                }
            }
        }
        Ok(())
    }

    /// Ends the form.
    pub(super) async fn finish(self) -> Result<Form, BodyReadError> {
        let mut texts = Vec::with_capacity(self.texts.len());
        for (name, text) in self.texts {
            let text = String::from_utf8(text).map_err(|_| FormError::NotUtf8(name.to_owned()))?;
            texts.push((name, text));
        }
        let archive = match self.archive {
            Some(archive) => Some(archive.finish().await?),
            None => None,
        };
        Ok(Form { texts, archive })
    }

    async fn begin_archive(&mut self) -> Result<(), BodyReadError> {
        if self.archive.is_some() {
            return Err(FormError::ArchiveTwice.into());
        }
        self.archive = Some(SpoolFile::create(&self.spool_dir, self.archive_bytes_max).await?);
        Ok(())
    }
}

fn field(name: &str) -> Result<&'static str, FormError> {
    FIELDS.into_iter().find(|field| *field == name).ok_or_else(|| {
        let instead = match nearest(name, FIELDS).first() {
            Some(near) => format!("is {near} meant?"),
            None => format!("there are {}", FIELDS.join(", ")),
        };
        FormError::UnknownField { name: shown(name.as_bytes()), instead }
    })
}
