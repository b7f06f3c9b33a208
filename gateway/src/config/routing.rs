//! Settings of routing: where the routes file is.

use telemetry::settings::{Reader, Setting};

use crate::route_table::RouteTable;

pub(super) const SETTINGS: &[Setting] = &[ROUTES_FILE];

/// Where the routes are.
const ROUTES_FILE: Setting = Setting {
    name: "ROUTES_FILE",
    default: None,
    help: "TOML file of routes from numbers to agents; read again on SIGHUP",
};

/// The routes of the file; none when there is no file. Every mistake in it is one of the settings'.
pub(super) fn read(reader: &mut Reader<'_>) -> RouteTable {
    let Some(file) = reader.text(ROUTES_FILE.name) else { return RouteTable::default() };
    match RouteTable::open(file.into()) {
        Ok(table) => table,
        Err(unusable) => {
            for mistake in unusable.lines() {
                reader.mistake(ROUTES_FILE.name, mistake);
            }
            RouteTable::default()
        }
    }
}
