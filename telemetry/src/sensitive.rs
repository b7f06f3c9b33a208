//! Values that must never reach a log: secrets, phone numbers, what people said.

use std::fmt;

/// Wraps a value so that neither `Debug` nor `Display` shows it.
///
/// The value comes out only through [`Sensitive::expose`], which is easy to search for.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// Wraps `value`.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself, for the one place that needs it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::Sensitive;

    #[test]
    fn neither_debug_nor_display_shows_the_value() {
        let number = Sensitive::new("+15550100".to_owned());
        assert_eq!(format!("{number} {number:?} {:?}", Some(&number)), "[redacted] [redacted] Some([redacted])");
        assert_eq!(number.expose(), "+15550100");
    }
}
