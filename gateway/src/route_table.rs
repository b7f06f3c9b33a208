//! The routes in use: those of a file, or none. A call takes the routes that hold when it begins.

use std::{io, path::PathBuf, sync::Arc};

use telemetry::live_file::{LiveFile, Unusable};

use crate::routes::Routes;

/// The routes in use, shared by all shards.
#[derive(Debug, Clone, Default)]
pub struct RouteTable(Option<LiveFile<Routes>>);

impl RouteTable {
    /// The routes of `file`; later reloads read it again.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(file: PathBuf) -> Result<Self, Unusable> {
        LiveFile::open("routes", file, Routes::parse).map(|file| Self(Some(file)))
    }

    /// The routes for a call that begins now.
    pub fn current(&self) -> Arc<Routes> {
        self.0.as_ref().map(LiveFile::current).unwrap_or_default()
    }

    /// Reads the file again, for calls that begin from now on. True when the file's routes are in use.
    pub fn reload(&self) -> bool {
        self.0.as_ref().is_some_and(LiveFile::reload)
    }

    /// Reloads on every SIGHUP from now on. Without a file, SIGHUP keeps its meaning: the terminal is gone.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn reload_on_hangup(&self) -> io::Result<()> {
        self.0.as_ref().map_or(Ok(()), |file| file.reload_on_hangup(|_| {}))
    }
}
