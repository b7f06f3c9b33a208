//! A file of the operator's that is in use: read at the start and again on SIGHUP.
//!
//! Whatever begins takes the content that holds then. A file that cannot be used changes nothing.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::mistakes::Mistakes;

/// Largest file.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// A file in use; clones are the same.
pub struct LiveFile<T>(Arc<Shared<T>>);

/// What a file's text becomes.
type Parse<T> = dyn Fn(&str) -> Result<T, Mistakes> + Send + Sync;

struct Shared<T> {
    /// What it is called in the log, such as `routes`.
    name: &'static str,
    file: PathBuf,
    parse: Box<Parse<T>>,
    current: RwLock<Arc<T>>,
}

/// Why a file cannot be used.
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
    pub fn lines(&self) -> Vec<String> {
        match self {
            Self::Mistakes(mistakes) => mistakes.lines(),
            Self::Unreadable(_) | Self::TooLarge | Self::NotText => vec![self.to_string()],
        }
    }
}

impl<T: Send + Sync + 'static> LiveFile<T> {
    /// Reads `file`, which the log calls `name`; later reloads read it again.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn open(
        name: &'static str,
        file: PathBuf,
        parse: impl Fn(&str) -> Result<T, Mistakes> + Send + Sync + 'static,
    ) -> Result<Self, Unusable> {
        let current = RwLock::new(Arc::new(read(&file, &parse)?));
        Ok(Self(Arc::new(Shared { name, file, parse: Box::new(parse), current })))
    }

    /// The content for what begins now.
    pub fn current(&self) -> Arc<T> {
        // Nothing under the lock panics.
        Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again and logs what came of it. True when its content is in use; a file that cannot be used leaves
    /// the content that was.
    pub fn reload(&self) -> bool {
        let Shared { name, file, parse, current } = &*self.0;
        let shown = file.display();
        match read(file, parse) {
            Ok(content) => {
                *current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(content);
                tracing::info!(file = %shown, "{name} reloaded");
                true
            }
            Err(unusable) => {
                for mistake in unusable.lines() {
                    tracing::warn!(file = %shown, mistake, "the {name} file cannot be used");
                }
                tracing::error!(file = %shown, "the {name} file was refused; the old {name} stay");
                false
            }
        }
    }

    /// Reloads on every SIGHUP from now on; `then` is told what is in use after each one that changed it.
    ///
    /// # Errors
    /// When the handler cannot be installed.
    pub fn reload_on_hangup(&self, then: impl Fn(Arc<T>) + Clone + Send + 'static) -> io::Result<()> {
        let (mut hangup, live) = (signal(SignalKind::hangup())?, self.clone());
        tokio::spawn(async move {
            while hangup.recv().await.is_some() {
                let (live, then, name) = (live.clone(), then.clone(), live.0.name);
                // A large file takes a while to read, and this thread takes the connections.
                let reloading = tokio::task::spawn_blocking(move || {
                    if live.reload() {
                        then(live.current());
                    }
                });
                if reloading.await.is_err() {
                    tracing::error!("reading the {name} file failed; the old {name} stay");
                }
            }
        });
        Ok(())
    }
}

fn read<T>(file: &Path, parse: impl Fn(&str) -> Result<T, Mistakes>) -> Result<T, Unusable> {
    let mut bytes = Vec::new();
    let opened = File::open(file).map_err(Unusable::Unreadable)?;
    opened.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(Unusable::Unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Unusable::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| Unusable::NotText)?;
    parse(&text).map_err(Unusable::Mistakes)
}

impl<T> Clone for LiveFile<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for LiveFile<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveFile").field("name", &self.0.name).field("file", &self.0.file).finish_non_exhaustive()
    }
}
