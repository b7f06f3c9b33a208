//! Settings: flags over environment over a `.env` file, read once, every mistake reported together.
//!
//! A service describes its settings in a table of [`Setting`]s. [`command_line`] turns the table into flags and
//! `--help`, gathers the values and says what to do; a [`Reader`] then turns text into meaning.

use std::{collections::HashMap, fmt, str::FromStr, sync::Arc, time::Duration};

use clap::{Arg, ArgAction, Command};

use crate::{Sensitive, log::Format, shards, traces};

/// Exit code for settings that cannot be used (sysexits.h, EX_USAGE).
pub const BAD_SETTINGS: u8 = 64;

/// One setting, as the operator sees it.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// Name of the environment variable; the flag is derived from it (`SERVER_PORT` is `--server-port`).
    pub name: &'static str,
    /// Value when nothing is given, in the same text form.
    pub default: Option<&'static str>,
    /// One line for `--help`.
    pub help: &'static str,
}

/// How long live calls may go on after SIGTERM.
pub const DRAIN_SECONDS: Setting =
    Setting { name: "DRAIN_SECONDS", default: Some("30"), help: "How long live calls may go on after SIGTERM" };
/// Threads that carry calls.
pub const SHARDS: Setting =
    Setting { name: "SHARDS", default: None, help: "Threads that carry calls; one a core when not given" };
/// Form of the log.
pub const LOG_FORMAT: Setting = Setting { name: "LOG_FORMAT", default: Some("text"), help: "text or json" };
/// Levels of the log.
pub const RUST_LOG: Setting = Setting { name: "RUST_LOG", default: Some("info"), help: "Log levels by target" };

/// What both services are told about themselves as processes.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Time for live calls after SIGTERM.
    pub drain: Duration,
    /// Threads that carry calls.
    pub shards: usize,
    /// Form of the log.
    pub log_format: Format,
    /// Log levels by target.
    pub log_filter: String,
    /// Where traces go; nowhere when `None`.
    pub traces: Option<traces::Plan>,
}

/// What the process was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Run the service.
    Serve,
    /// Read the settings, say whether they are good, and end.
    CheckConfig,
    /// Ask the running service whether it is ready, and end.
    Healthcheck,
    /// One of the service's own.
    Own {
        /// Name of the [`Subcommand`].
        name: &'static str,
        /// The answer is for machines.
        json: bool,
    },
}

/// A task that only one service has: it looks at something, answers on its standard output and ends.
#[derive(Debug, Clone, Copy)]
pub struct Subcommand {
    /// As typed.
    pub name: &'static str,
    /// One line for `--help`.
    pub help: &'static str,
}

/// The text of every setting that was given or has a default. Values do not print: some are secrets.
#[derive(Debug, Clone, Default)]
pub struct Values {
    known: HashMap<&'static str, Sensitive<String>>,
    variables: Variables,
}

/// Variables that no table has: an operator's file may name them, for instance for keys. Clones are the same.
#[derive(Clone)]
pub struct Variables(Arc<Lookup>);

type Lookup = dyn Fn(&str) -> Option<Sensitive<String>> + Send + Sync;

impl Variables {
    /// Those that `lookup` finds.
    pub fn new(lookup: impl Fn(&str) -> Option<Sensitive<String>> + Send + Sync + 'static) -> Self {
        Self(Arc::new(lookup))
    }

    /// The value of `name`; the empty string counts as none.
    pub fn get(&self, name: &str) -> Option<Sensitive<String>> {
        (self.0)(name).filter(|value| !value.expose().trim().is_empty())
    }
}

impl Default for Variables {
    fn default() -> Self {
        Self::new(|_| None)
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Variables")
    }
}

impl Values {
    /// Takes the values of `table` from `lookup`; the empty string counts as not given.
    pub fn from_lookup(table: &[Setting], lookup: impl Fn(&str) -> Option<String>) -> Self {
        let given = |setting: &Setting| {
            lookup(setting.name).filter(|text| !text.is_empty()).or_else(|| setting.default.map(ToOwned::to_owned))
        };
        let known = table.iter().filter_map(|s| given(s).map(|text| (s.name, Sensitive::new(text)))).collect();
        Self { known, variables: Variables::default() }
    }

    /// With variables that no table has.
    #[must_use]
    pub fn with_variables(self, variables: Variables) -> Self {
        Self { variables, ..self }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.known.get(name).map(|text| text.expose().as_str())
    }
}

/// Reads the command line, the environment and, where there is one, the file `.env` of the working directory.
///
/// Answers `--help` and `--version` itself and ends the process then, as it does on an unknown flag.
pub fn command_line(
    service: &'static str,
    version: &'static str,
    about: &'static str,
    table: &[Setting],
    own: &[Subcommand],
) -> (Task, Values) {
    let mut command = Command::new(service)
        .version(version)
        .about(about)
        .subcommand(
            Command::new("healthcheck").about("Asks the running service whether it is ready; exit code 0 if it is"),
        )
        .arg(
            Arg::new("check-config")
                .long("check-config")
                .action(ArgAction::SetTrue)
                .help("Reads the settings, reports every mistake, and ends"),
        );
    for Subcommand { name, help } in own {
        let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Answers in JSON");
        command = command.subcommand(Command::new(*name).about(*help).arg(json));
    }
    for setting in table {
        let default = setting.default.map(|d| format!(", default {d}")).unwrap_or_default();
        command = command.arg(
            Arg::new(setting.name)
                .long(setting.name.to_ascii_lowercase().replace('_', "-"))
                .value_name(setting.name)
                .global(true)
                .help(format!("{} [env {}{default}]", setting.help, setting.name)),
        );
    }
    let matches = command.get_matches();
    let task = match matches.subcommand() {
        Some((name, given)) => own
            .iter()
            .find(|own| own.name == name)
            .map_or(Task::Healthcheck, |own| Task::Own { name: own.name, json: given.get_flag("json") }),
        None if matches.get_flag("check-config") => Task::CheckConfig,
        None => Task::Serve,
    };
    let dotenv: HashMap<String, String> =
        dotenvy::from_filename_iter(".env").map(|lines| lines.flatten().collect()).unwrap_or_default();
    let values = Values::from_lookup(table, |name| {
        matches.get_one::<String>(name).cloned().or_else(|| environment(name)).or_else(|| dotenv.get(name).cloned())
    });
    let variables =
        Variables::new(move |name| environment(name).or_else(|| dotenv.get(name).cloned()).map(Sensitive::new));
    (task, values.with_variables(variables))
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// One mistake in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// The variable.
    pub name: &'static str,
    /// What is wrong and what to do.
    pub what: String,
}

/// Every mistake in the settings, one a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings cannot be used:")?;
        for Mistake { name, what } in &self.0 {
            write!(f, "\n  {name}: {what}")?;
        }
        Ok(())
    }
}

/// Turns text into meaning and remembers what went wrong.
#[derive(Debug)]
pub struct Reader<'a> {
    values: &'a Values,
    mistakes: Vec<Mistake>,
}

impl<'a> Reader<'a> {
    /// Begins to read `values`.
    pub fn new(values: &'a Values) -> Self {
        Self { values, mistakes: Vec::new() }
    }

    /// The text as it is.
    pub fn text(&self, name: &'static str) -> Option<&'a str> {
        self.values.get(name).map(str::trim).filter(|text| !text.is_empty())
    }

    /// Variables that the settings do not know by name.
    pub fn variables(&self) -> Variables {
        self.values.variables.clone()
    }

    /// A secret, as it is.
    pub fn secret(&self, name: &'static str) -> Option<Sensitive<String>> {
        self.text(name).map(|text| Sensitive::new(text.to_owned()))
    }

    /// A value with a textual form; `None` when it is absent or wrong. The mistake shows the error, not the value.
    pub fn parsed<T: FromStr<Err: fmt::Display>>(&mut self, name: &'static str) -> Option<T> {
        match self.text(name)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistake(name, error.to_string());
                None
            }
        }
    }

    /// A whole number in `range`; the low end of the range when it is absent or wrong.
    pub fn number(&mut self, name: &'static str, range: std::ops::RangeInclusive<u64>) -> u64 {
        match self.text(name).map(str::parse) {
            Some(Ok(number)) if range.contains(&number) => number,
            _ => {
                self.mistake(name, format!("must be a whole number from {} to {}", range.start(), range.end()));
                *range.start()
            }
        }
    }

    /// The settings [`DRAIN_SECONDS`], [`SHARDS`], [`LOG_FORMAT`] and [`RUST_LOG`], and those of [`traces`].
    pub fn process(&mut self) -> Process {
        let drain = Duration::from_secs(self.number(DRAIN_SECONDS.name, 0..=86_400));
        let shards = match self.text(SHARDS.name) {
            Some(_) => usize::try_from(self.number(SHARDS.name, 1..=256)).unwrap_or(1),
            None => shards::per_core(),
        };
        let log_format = self.parsed(LOG_FORMAT.name).unwrap_or(Format::Text);
        let log_filter = self.text(RUST_LOG.name).unwrap_or("info").to_owned();
        let traces = traces::Plan::read(self);
        Process { drain, shards, log_format, log_filter, traces }
    }

    /// A switch: 1, true, yes, on against 0, false, no, off; absent is off.
    pub fn switch(&mut self, name: &'static str) -> bool {
        match self.text(name).unwrap_or("0").to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => true,
            "0" | "false" | "no" | "off" => false,
            _ => {
                self.mistake(name, "must be 1 or 0 (true, yes, on or false, no, off)");
                false
            }
        }
    }

    /// Records a mistake that only the caller can see.
    pub fn mistake(&mut self, name: &'static str, what: impl Into<String>) {
        self.mistakes.push(Mistake { name, what: what.into() });
    }

    /// `value` if nothing went wrong.
    ///
    /// # Errors
    /// Every mistake recorded so far.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Mistakes> {
        match value {
            Some(value) if self.mistakes.is_empty() => Ok(value),
            _ => Err(Mistakes(self.mistakes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Reader, Setting, Values};

    const TABLE: [Setting; 3] = [
        Setting { name: "PORT", default: Some("8000"), help: "" },
        Setting { name: "ADDRESS", default: None, help: "" },
        Setting { name: "DEBUG", default: None, help: "" },
    ];

    fn values(pairs: &[(&str, &str)]) -> Values {
        Values::from_lookup(&TABLE, |name| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
    }

    #[test]
    fn defaults_hold_where_nothing_or_nothing_but_the_empty_string_is_given() {
        for given in [vec![], vec![("PORT", "")]] {
            let values = values(&given);
            let mut reader = Reader::new(&values);
            assert_eq!(reader.number("PORT", 1..=65535), 8000);
            assert!(!reader.switch("DEBUG"));
            assert_eq!(reader.text("ADDRESS"), None);
            reader.finish(Some(())).unwrap();
        }
    }

    #[test]
    fn every_mistake_is_reported_with_its_name_and_without_its_value() {
        let values = values(&[("PORT", "99999"), ("ADDRESS", "s3cret"), ("DEBUG", "perhaps")]);
        let mut reader = Reader::new(&values);
        reader.number("PORT", 1..=65535);
        reader.parsed::<std::net::SocketAddr>("ADDRESS");
        reader.switch("DEBUG");
        let text = reader.finish(Some(())).unwrap_err().to_string();
        for name in ["PORT", "ADDRESS", "DEBUG"] {
            assert!(text.contains(name), "{text}");
        }
        assert!(!text.contains("s3cret") && !format!("{values:?}").contains("s3cret"));
    }
}
