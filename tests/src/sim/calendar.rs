//! Pure: dates as Twilio writes them (RFC 2822 in the REST API, ISO 8601 in stream events) and reads them.

use std::{ops::Range, time::Duration};

const DAY: u64 = 86_400;
const DAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Time since 1970 as `2026-11-21T08:51:38.123Z`.
pub(super) fn iso8601(since: Duration) -> String {
    let (year, month, day) = civil(since.as_secs() / DAY);
    let (hour, minute, second) = clock(since);
    let millis = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Time since 1970 as `Sat, 21 Nov 2026 08:51:38 +0000`.
pub(super) fn rfc2822(since: Duration) -> String {
    let days = since.as_secs() / DAY;
    let (year, month, day) = civil(days);
    let (hour, minute, second) = clock(since);
    // 1 January 1970 was a Thursday. `month` is 1 to 12.
    let (weekday, name) = (DAYS[((days + 4) % 7) as usize], MONTHS[(month - 1) as usize]);
    format!("{weekday}, {day:02} {name} {year:04} {hour:02}:{minute:02}:{second:02} +0000")
}

/// The seconds since 1970 that `2026-11-21` (a day) or `2026-11-21T08:51:38Z` (a second) names.
pub(super) fn read(text: &str) -> Option<Range<u64>> {
    let (date, time) = match text.split_once('T') {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let [year, month, day] = numbers(date, '-')?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let start = days_since_1970(year, month, day) * DAY;
    let Some(time) = time else {
        return Some(start..start + DAY);
    };
    let time = time.strip_suffix('Z').or_else(|| time.strip_suffix("+00:00"))?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let at = start + hour * 3600 + minute * 60 + second;
    Some(at..at + 1)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let numbers: Vec<u64> = text.split(separator).map(|part| part.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

fn clock(since: Duration) -> (u64, u64, u64) {
    let rest = since.as_secs() % DAY;
    (rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day, with years that begin in March (Howard Hinnant, "date algorithms").
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// The way back, from the same source; 1970 at the earliest.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_are_iso8601() {
        assert_eq!(iso8601(Duration::ZERO), "1970-01-01T00:00:00.000Z");
        assert_eq!(iso8601(Duration::from_millis(1_709_210_096_789)), "2024-02-29T12:34:56.789Z");
        assert_eq!(iso8601(Duration::from_secs(1_767_225_600)), "2026-01-01T00:00:00.000Z");
    }

    #[test]
    fn dates_are_rfc2822() {
        assert_eq!(rfc2822(Duration::ZERO), "Thu, 01 Jan 1970 00:00:00 +0000");
        // An example of Twilio's own.
        assert_eq!(rfc2822(Duration::from_secs(1_283_286_988)), "Tue, 31 Aug 2010 20:36:28 +0000");
    }

    #[test]
    fn what_is_no_date_is_not_read() {
        for text in ["", "today", "2026-11", "2026-13-01", "2026-11-21T8", "2026-11-21T25:00:00Z", "1800-01-01"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(read("1970-01-02"), Some(86_400..172_800));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0u64..200_000_000_000) {
            let text = iso8601(Duration::from_secs(seconds));
            prop_assert_eq!(read(&text), Some(seconds..seconds + 1));
            let day = read(&text[..10]).unwrap();
            prop_assert!(day.contains(&seconds));
        }
    }
}
