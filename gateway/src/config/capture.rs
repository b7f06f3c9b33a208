//! Settings of captures: where they go, what is in them, how much may lie there and for how long.

use std::{
    fs::{self, OpenOptions},
    path::{Path, PathBuf},
    time::Duration,
};

use telemetry::settings::{Reader, Setting};

/// The settings that are read here.
pub(super) const SETTINGS: &[Setting] = &[
    Setting {
        name: "CAPTURE",
        default: None,
        help: "Directory to which each call's messages are captured, masked, for replays",
    },
    Setting { name: "CAPTURE_AUDIO", default: Some("0"), help: "1: captures hold the sound and the keys of the call" },
    Setting {
        name: "CAPTURE_MAX_MB",
        default: Some("1000"),
        help: "Size of all captures; the oldest are deleted. One takes at most a quarter",
    },
    Setting { name: "CAPTURE_DAYS", default: Some("7"), help: "Older captures are deleted" },
];

/// Where captures go, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture {
    /// An existing directory that can be written.
    pub directory: PathBuf,
    /// Sound and keys are kept.
    pub audio: bool,
    /// Bytes of all captures.
    pub max_bytes: u64,
    /// Age at which a capture is deleted.
    pub max_age: Duration,
}

impl Capture {
    /// Reads the settings and tries the directory; `None` when nothing is to be captured.
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let audio = reader.switch("CAPTURE_AUDIO");
        let max_bytes = reader.number("CAPTURE_MAX_MB", 1..=1_000_000) << 20;
        let max_age = Duration::from_secs(reader.number("CAPTURE_DAYS", 1..=3650) * 24 * 3600);
        let directory = PathBuf::from(reader.text("CAPTURE")?);
        if let Err(what) = try_directory(&directory) {
            reader.mistake("CAPTURE", what);
        }
        Some(Self { directory, audio, max_bytes, max_age })
    }
}

/// Writes and removes a file, since permissions alone do not tell (a read-only file system, a full disk).
fn try_directory(directory: &Path) -> Result<(), String> {
    let shown = directory.display();
    match fs::metadata(directory) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(format!("{shown} is not a directory")),
        Err(error) => return Err(format!("{shown} must be an existing directory: {error}")),
    }
    let probe = directory.join(format!(".capture-probe-{}", std::process::id()));
    let tried = OpenOptions::new().write(true).create(true).truncate(true).open(&probe);
    tried.and_then(|_| fs::remove_file(&probe)).map_err(|error| format!("{shown} cannot be written: {error}"))
}

#[cfg(test)]
mod tests {
    use telemetry::settings::Values;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Capture>, telemetry::settings::Mistakes> {
        let values = Values::from_lookup(SETTINGS, |name| {
            pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        });
        let mut reader = Reader::new(&values);
        let capture = Capture::read(&mut reader);
        reader.finish(Some(capture))
    }

    #[test]
    fn nothing_is_captured_unless_a_directory_is_named() {
        assert_eq!(read(&[]).unwrap(), None);
        let here = std::env::temp_dir();
        let capture = read(&[("CAPTURE", here.to_str().unwrap()), ("CAPTURE_MAX_MB", "2")]).unwrap().unwrap();
        assert_eq!((capture.directory, capture.audio), (here, false));
        assert_eq!((capture.max_bytes, capture.max_age.as_secs()), (2 << 20, 7 * 86_400));
    }

    #[test]
    fn a_directory_that_cannot_be_used_is_a_mistake_with_a_reason() {
        for (place, reason) in [("/nowhere/at/all", "existing directory"), ("/dev/null", "not a directory")] {
            let mistakes = read(&[("CAPTURE", place)]).unwrap_err();
            assert_eq!(mistakes.0[0].name, "CAPTURE");
            assert!(mistakes.to_string().contains(reason), "{mistakes}");
        }
    }
}
