//! Where the content of one response goes, as it comes.

use std::fs::{self, File};
use std::io::{self, Stdout, Write as _};
use std::path::PathBuf;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::order::InOrder;
use super::outputs::Target;

/// The SHA-256 of a body.
pub(super) type Sum = [u8; 32];

/// Where the content of one response goes.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard output, in the order asked.
    Stdout { part: usize },
    /// A file, made when the response begins: a failed request leaves no empty file behind.
    File { path: PathBuf, create_dirs: bool, file: Option<File> },
    /// Nowhere; compared with what it should be.
    Check { expected: Sum, hasher: Sha256 },
}

/// Content that is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongBody;

impl Sink {
    pub(super) fn new(part: usize, target: &Target, create_dirs: bool) -> Self {
        match target {
            Target::Stdout => Self::Stdout { part },
            Target::File(path) => Self::File { path: path.clone(), create_dirs, file: None },
            Target::Check(expected) => Self::Check { expected: *expected, hasher: Sha256::new() },
        }
    }

    /// What to call it in an error.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stdout { .. } => "standard output".to_owned(),
            Self::File { path, .. } => format!("the output file {}", path.display()),
            Self::Check { .. } => "the check".to_owned(),
        }
    }

    /// The file, as the report names it.
    pub(super) fn file(&self) -> Option<String> {
        match self {
            Self::File { path, file: Some(_), .. } => Some(path.display().to_string()),
            _ => None,
        }
    }

    /// The response begins: whatever came of an earlier try is gone.
    pub(super) fn begin(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout { .. } => Ok(()),
            Self::File { path, create_dirs, file } => {
                if let (true, Some(parent)) = (*create_dirs, path.parent()) {
                    fs::create_dir_all(parent)?;
                }
                *file = Some(File::create(path)?);
                Ok(())
            }
            Self::Check { hasher, .. } => {
                hasher.reset();
                Ok(())
            }
        }
    }

    /// Takes more. A file is written on this thread: it is as fast as handing the piece to another.
    pub(super) async fn write(&mut self, order: &InOrder<Stdout>, piece: Bytes) -> io::Result<()> {
        match self {
            Self::Stdout { part } => order.write(*part, piece).await,
            Self::File { file, .. } => file.as_mut().map_or(Ok(()), |file| file.write_all(&piece)),
            Self::Check { hasher, .. } => {
                hasher.update(&piece);
                Ok(())
            }
        }
    }

    /// All of it has come.
    pub(super) fn check(&mut self) -> Result<(), WrongBody> {
        match self {
            Self::Check { expected, hasher } => {
                if <Sum>::from(hasher.finalize_reset()) == *expected {
                    Ok(())
                } else {
                    Err(WrongBody)
                }
            }
            Self::Stdout { .. } | Self::File { .. } => Ok(()),
        }
    }
}
