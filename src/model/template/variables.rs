//! Template variables: names and values from the query string of a request.
//!
//! Decodes the query string within bounds. Values are data; nothing here interprets them.

use std::fmt;

/// Maximum length of a query string, in bytes.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;

/// Maximum number of different variables in a query string.
pub const VARIABLES_MAX: usize = 256;

/// Names and values, ordered by the first occurrence of each name; the last value of a name wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    pairs: Vec<(String, String)>,
}

/// Why a query string is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariablesError {
    /// It is longer than [`QUERY_BYTES_MAX`].
    TooLong,
    /// It has more than [`VARIABLES_MAX`] names.
    TooMany,
}

impl Variables {
    /// Decodes a query string as an HTML form: pairs separated by `&`, `+` is a space, `%41` is
    /// `A`. A pair without `=` has an empty value, and empty pairs are skipped. Bytes that are not
    /// UTF-8 become U+FFFD; a `%` without two hexadecimal digits stands for itself.
    ///
    /// # Errors
    /// If a bound is exceeded.
    pub fn from_query(query: &str) -> Result<Self, VariablesError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(VariablesError::TooLong);
        }
        Self::from_pairs(query_pairs(query))
    }

    /// These names and values.
    ///
    /// # Errors
    /// If there are too many.
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, VariablesError> {
        let mut variables = Self::default();
        for (name, value) in pairs {
            variables.set(name, value);
            if variables.pairs.len() > VARIABLES_MAX {
                return Err(VariablesError::TooMany);
            }
        }
        Ok(variables)
    }

    fn set(&mut self, name: String, value: String) {
        match self.pairs.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.pairs.push((name, value)),
        }
    }

    /// The value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// All names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// The decoded pairs of a query string, as [`Variables::from_query`] reads them, without its bounds.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    let text = text.replace('+', " ");
    let decoded = percent_encoding::percent_decode_str(&text);
    decoded.decode_utf8_lossy().into_owned()
}

impl fmt::Display for VariablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(
                f,
                "the query string has more than {QUERY_BYTES_MAX} bytes; use shorter values"
            ),
            Self::TooMany => write!(
                f,
                "the query string has more than {VARIABLES_MAX} variables; use fewer"
            ),
        }
    }
}

impl std::error::Error for VariablesError {}

#[cfg(test)]
mod tests {
    use super::*;

    impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Variables {
        fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
            let mut variables = Self::default();
            for (name, value) in pairs {
                variables.set(name.into(), value.into());
            }
            variables
        }
    }

    #[track_caller]
    fn check(query: &str, expected: &[(&str, &str)]) {
        let variables = Variables::from_query(query).unwrap();
        assert_eq!(variables.iter().collect::<Vec<_>>(), expected, "{query}");
    }

    #[test]
    fn a_query_is_decoded_as_a_form() {
        check("", &[]);
        check("&", &[]);
        check("utcOffset=120&", &[("utcOffset", "120")]);
        check(
            "utcOffset=120&X=a&X=b&E=",
            &[("utcOffset", "120"), ("X", "b"), ("E", "")],
        );
        check("a=1&b=2&a=3", &[("a", "3"), ("b", "2")]);
        check("a+b=c+d%2B", &[("a b", "c d+")]);
        check("a", &[("a", "")]);
        check("=x", &[("", "x")]);
        check("a=b=c", &[("a", "b=c")]);
        check("a=%C3%A4%26&%3d=%0A%00", &[("a", "ä&"), ("=", "\n\0")]);
        check("a=%", &[("a", "%")]);
        check(
            "a=%4&b=%zz&c=%+1",
            &[("a", "%4"), ("b", "%zz"), ("c", "% 1")],
        );
        check("a=%FFx%C3", &[("a", "\u{fffd}x\u{fffd}")]);
        check("a=ä;b=c", &[("a", "ä;b=c")]);
    }

    #[test]
    fn a_query_is_bounded() {
        let at_bound = format!("a={}", "x".repeat(QUERY_BYTES_MAX - 2));
        assert!(Variables::from_query(&at_bound).is_ok());
        let beyond = at_bound + "x";
        assert_eq!(Variables::from_query(&beyond), Err(VariablesError::TooLong));
        let names = |count: usize| {
            let pairs: Vec<String> = (0..count).map(|number| format!("v{number}=")).collect();
            pairs.join("&")
        };
        assert!(Variables::from_query(&names(VARIABLES_MAX)).is_ok());
        assert_eq!(
            Variables::from_query(&names(VARIABLES_MAX + 1)),
            Err(VariablesError::TooMany)
        );
    }
}
