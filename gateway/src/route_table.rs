//! The routes in use, and the file that they come from: read at the start and again on SIGHUP.
//!
//! A call takes the routes that hold when it begins. A file that cannot be used changes nothing.

use std::{
    fs::File,
    io::{self, Read as _},
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::routes::{Mistakes, Routes};

/// Largest routes file: 10,000 routes of a few lines have about two.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// The routes in use, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct RouteTable(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    file: Option<PathBuf>,
    current: RwLock<Arc<Routes>>,
}

/// Why a routes file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// It is larger than any that is needed.
    #[error("is larger than 16 MiB")]
    TooLarge,
    /// It is not text.
    #[error("is not text in UTF-8")]
    NotText,
    /// It says what cannot be done.
    #[error("{0}")]
    Mistakes(#[source] Mistakes),
}

impl Unusable {
    /// What is wrong, one mistake a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Self::Mistakes(Mistakes { told, untold }) = self else { return vec![self.to_string()] };
        let more = (*untold > 0).then(|| format!("and {untold} more mistakes"));
        told.iter().map(ToString::to_string).chain(more).collect()
    }
}

impl RouteTable {
    /// The routes of `file`; later reloads read it again.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(file: PathBuf) -> Result<Self, Unusable> {
        let current = RwLock::new(Arc::new(read(&file)?));
        Ok(Self(Arc::new(Shared { file: Some(file), current })))
    }

    /// The routes for a call that begins now.
    pub fn current(&self) -> Arc<Routes> {
        // Nothing under the lock panics.
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again, for calls that begin from now on, and logs what came of it. True when the file's routes
    /// are in use; a file that cannot be used leaves those that were.
    pub fn reload(&self) -> bool {
        let Some(file) = &self.0.file else { return false };
        match read(file) {
            Ok(routes) => {
                tracing::info!(file = %file.display(), routes = routes.len(), "routes reloaded");
                *self.0.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(routes);
                true
            }
            Err(unusable) => {
                for mistake in unusable.lines() {
                    tracing::warn!(file = %file.display(), mistake, "the routes file cannot be used");
                }
                tracing::error!(file = %file.display(), "the routes file was refused; the old routes stay");
                false
            }
        }
    }

    /// Reloads on every SIGHUP from now on. Without a file, SIGHUP keeps its meaning: the terminal is gone.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn reload_on_hangup(&self) -> io::Result<()> {
        if self.0.file.is_none() {
            return Ok(());
        }
        let (mut hangup, table) = (signal(SignalKind::hangup())?, self.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let table = table.clone();
                // A large file takes a while to read, and this thread takes the connections.
                if tokio::task::spawn_blocking(move || table.reload()).await.is_err() {
                    tracing::error!("reading the routes file failed; the old routes stay");
                }
            }
        });
        Ok(())
    }
}

fn read(file: &PathBuf) -> Result<Routes, Unusable> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(Unusable::Unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Unusable::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| Unusable::NotText)?;
    Routes::parse(&text).map_err(Unusable::Mistakes)
}
