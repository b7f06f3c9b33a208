//! The directory of captures: names, bounds of size and age. The oldest go first.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{call::since_epoch, config::Capture};

/// Only the gateway's user may read what callers said.
const MODE: u32 = 0o600;

/// How much of the directory one capture may take: a quarter.
const SHARE: u64 = 4;

/// What lies in the directory. Other files there are left alone.
pub(super) struct Shelf {
    directory: PathBuf,
    max_bytes: u64,
    max_age: Duration,
    /// Finished captures, the oldest first.
    kept: VecDeque<Slot>,
    /// Bytes of all, those that are being written among them.
    total: u64,
}

/// The place of one capture.
pub(super) struct Slot {
    path: PathBuf,
    bytes: u64,
    /// When it began, since the epoch.
    began: Duration,
}

impl Shelf {
    /// Looks what is there.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub(super) fn open(capture: &Capture) -> io::Result<Self> {
        let mut kept = Vec::new();
        for entry in fs::read_dir(&capture.directory)? {
            let entry = entry?;
            if is_capture(&entry.path()) && entry.metadata()?.is_file() {
                let metadata = entry.metadata()?;
                let began = metadata.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
                kept.push(Slot { path: entry.path(), bytes: metadata.len(), began: began.unwrap_or_default() });
            }
        }
        // The names begin with the time.
        kept.sort_by(|a, b| a.path.cmp(&b.path));
        let total = kept.iter().map(|slot| slot.bytes).sum();
        let mut shelf = Self {
            directory: capture.directory.clone(),
            max_bytes: capture.max_bytes,
            max_age: capture.max_age,
            kept: kept.into(),
            total,
        };
        shelf.drop_old();
        shelf.shrink();
        Ok(shelf)
    }

    /// A new, empty file.
    pub(super) fn add(&mut self, capture: u64, began: Duration) -> io::Result<(Slot, File)> {
        self.drop_old();
        let path = self.directory.join(format!("{}-{capture:016x}.jsonl", stamp(began)));
        let file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path)?;
        Ok((Slot { path, bytes: 0, began }, file))
    }

    /// Makes room for so many bytes more of a capture; false when it or all of them have no right to it.
    pub(super) fn make_room(&mut self, slot: &mut Slot, bytes: usize) -> bool {
        let bytes = bytes as u64;
        if slot.bytes + bytes > self.max_bytes / SHARE {
            return false;
        }
        self.total += bytes;
        slot.bytes += bytes;
        self.shrink();
        self.total <= self.max_bytes
    }

    /// Takes a finished capture.
    pub(super) fn keep(&mut self, slot: Slot) {
        self.kept.push_back(slot);
    }

    /// Deletes what is too old.
    pub(super) fn drop_old(&mut self) {
        let now = since_epoch();
        while let Some(slot) = self.kept.pop_front_if(|slot| now.saturating_sub(slot.began) > self.max_age) {
            self.delete(&slot);
        }
    }

    fn shrink(&mut self) {
        while self.total > self.max_bytes
            && let Some(slot) = self.kept.pop_front()
        {
            self.delete(&slot);
        }
    }

    fn delete(&mut self, slot: &Slot) {
        self.total = self.total.saturating_sub(slot.bytes);
        if let Err(error) = fs::remove_file(&slot.path) {
            tracing::debug!(%error, capture = slot.name(), "an old capture was not deleted");
        }
    }
}

impl Slot {
    /// The file's name, which tells nothing of the call.
    pub(super) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Counts the line that may always be written: the last.
    pub(super) fn grow(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }
}

/// `20261121T140302Z-0123456789abcdef.jsonl`.
fn is_capture(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some((stamp, id)) = name.and_then(|name| name.strip_suffix(".jsonl")?.split_once('-')) else { return false };
    let is_stamp = stamp.len() == 16 && stamp.ends_with('Z') && stamp.as_bytes()[8] == b'T';
    is_stamp && id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// `20261121T140302Z`.
fn stamp(since_epoch: Duration) -> String {
    let (year, month, day, seconds) = civil(since_epoch);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `2026-11-21T14:03:02.125Z` (RFC 3339).
pub(super) fn timestamp(since_epoch: Duration) -> String {
    let (year, month, day, seconds) = civil(since_epoch);
    let (hour, minute, second, ms) = (seconds / 3600, seconds / 60 % 60, seconds % 60, since_epoch.subsec_millis());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month, day and second of the day, UTC: Howard Hinnant's `civil_from_days`, for days after 1970.
fn civil(since_epoch: Duration) -> (u64, u64, u64, u64) {
    let (days, seconds) = (since_epoch.as_secs() / 86_400 + 719_468, since_epoch.as_secs() % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day, seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        let at = |seconds| timestamp(Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(at(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(at(1_709_251_200), "2024-03-01T00:00:00.000Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59.000Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(stamp(Duration::from_millis(1_795_269_782_125)), "20261121T140302Z");
        assert_eq!(timestamp(Duration::from_millis(1_795_269_782_125)), "2026-11-21T14:03:02.125Z");
    }

    #[test]
    fn only_our_own_files_count() {
        assert!(is_capture(Path::new("/x/20261121T140302Z-0123456789abcdef.jsonl")));
        for other in ["notes.jsonl", "20261121T140302Z-0123456789abcdef.json", "20261121T140302Z-oh.jsonl", "a-b.jsonl"]
        {
            assert!(!is_capture(Path::new(other)), "{other}");
        }
    }
}
