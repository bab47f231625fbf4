//! Checkpoints in files that the user names.

use std::io;
use std::path::Path;

use metaxy_core::Checkpoint;

use crate::failure::{Failure, Result};
use crate::files::replace;

/// Returns the checkpoint in a file; `None` if there is no such file.
pub fn read(file: &Path) -> Result<Option<Checkpoint>> {
    let bytes = match std::fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::io(format!("read {}", file.display()), error)),
    };
    let checkpoint = Checkpoint::from_bytes(&bytes);
    checkpoint.map(Some).map_err(|error| Failure::file(file, format!("{error}; or name another file")))
}

/// Writes a checkpoint to a file.
pub fn write(file: &Path, checkpoint: &Checkpoint) -> Result<()> {
    replace(file, &checkpoint.to_bytes()?)
}
