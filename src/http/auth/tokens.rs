//! The tokens of `AUTH=token`: reading their file, and finding the one that was presented.
//!
//! Pure. A line of the file is `TOKEN [NAME [TYPE,TYPE…]]`, parted by blanks; empty lines
//! and those that begin with `#` do not count. `-` in place of a name means none, no types
//! mean all. A name may stand on several lines, so that an old token and its successor hold
//! side by side while callers change over.
//!
//! # Comparing takes the same time whatever is compared
//! Neither the file's tokens nor the presented one are compared as text: each is known by
//! its SHA-256 digest. Whoever guesses cannot steer how far a wrong digest agrees with a
//! right one (that would be finding preimages), so that even a comparison with an early end
//! would tell nothing of a token's prefix. On top, [`Tokens::find`] goes over *all* digests,
//! compares all bytes of each with `subtle`, and remembers the place of a match without a
//! branch: the work depends on how many tokens there are, and on nothing else. Hashing the
//! presented token takes time by its length, which the caller knows anyway.

use super::{Caller, Types, is_token};
use crate::app::review::Bearer;
use crate::model::names::AppType;
use std::fmt;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Tokens with fewer characters could be guessed.
pub const TOKEN_CHARS_MIN: usize = 16;

/// What a name may have.
pub const NAME_CHARS_MAX: usize = 63;

/// Every one is compared with every token that is presented.
pub const TOKENS_MAX: usize = 1000;

/// One thing that is wrong with the file; never holds what stands there, which may be a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; `None` where it is about the whole file.
    pub line: Option<usize>,
    /// What is wrong, and what to do.
    pub text: &'static str,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "line {line}: {}", self.text),
            None => f.write_str(self.text),
        }
    }
}

/// The tokens of a file.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
    /// As many, in the same order.
    callers: Vec<Caller>,
}

impl Tokens {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// All that is wrong with it. A file without a token is an error, since nobody could call.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<Problem>> {
        let mut tokens = Self::default();
        let mut problems = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let added = std::str::from_utf8(line)
                .map_err(|_| "is no UTF-8 text")
                .and_then(|line| tokens.add(line));
            if let Err(text) = added {
                let line = Some(index + 1);
                problems.push(Problem { line, text });
            }
        }
        let whole = if tokens.digests.len() > TOKENS_MAX {
            Some("there are more than 1000 tokens: give fewer")
        } else if tokens.digests.is_empty() && problems.is_empty() {
            Some("there is no token: nobody could call")
        } else {
            None
        };
        problems.extend(whole.map(|text| Problem { line: None, text }));
        if problems.is_empty() {
            Ok(tokens)
        } else {
            Err(problems)
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.digests.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }

    /// Whose token this is. The time that it takes depends only on how many tokens there are
    /// (see the module's text).
    #[must_use]
    pub fn find(&self, presented: &Bearer) -> Option<&Caller> {
        let mut found = Choice::from(0);
        let mut place = 0_u64;
        for (index, digest) in (0_u64..).zip(&self.digests) {
            let same = digest.ct_eq(presented.digest());
            place.conditional_assign(&index, same);
            found |= same;
        }
        // Whether there is one is what the caller gets to know.
        let place = usize::try_from(place).ok()?;
        bool::from(found).then(|| self.callers.get(place))?
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let mut fields = line.split_whitespace();
        let token = match fields.next() {
            Some(token) if !token.starts_with('#') => token,
            _ => return Ok(()),
        };
        let name = fields.next().filter(|name| *name != "-");
        let types = fields.next();
        if fields.next().is_some() {
            return Err("has more than a token, a name and types: part types by commas alone");
        }
        if !is_token(token) {
            return Err("begins with what is no bearer token: use letters, digits and - . _ ~ + /");
        }
        if token.len() < TOKEN_CHARS_MIN {
            return Err("has a token of fewer than 16 characters: give a longer one");
        }
        let bearer = Bearer::new(token);
        if self.digests.contains(bearer.digest()) {
            return Err("has the token of an earlier line: give each token once");
        }
        let caller = Caller {
            name: name.map(check_name).transpose()?,
            types: types.map_or(Ok(Types::All), parse_types)?,
        };
        self.digests.push(*bearer.digest());
        self.callers.push(caller);
        Ok(())
    }
}

/// A name goes into the log and into annotations: plain characters only.
fn check_name(name: &str) -> Result<Arc<str>, &'static str> {
    if name.len() <= NAME_CHARS_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(name.into())
    } else {
        Err("has a name that is none: use at most 63 letters, digits and marks of ASCII")
    }
}

fn parse_types(list: &str) -> Result<Types, &'static str> {
    let types: Result<Arc<[AppType]>, _> = list.split(',').map(AppType::new).collect();
    types
        .map(Types::Only)
        .map_err(|_| "has an app type that is none: give types parted by commas, without blanks")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "ann-0123456789abcdef";
    const BOB: &str = "bob-0123456789abcdef";

    fn only(types: &[&str]) -> Types {
        Types::Only(
            types
                .iter()
                .map(|name| AppType::new(name).unwrap())
                .collect(),
        )
    }

    #[test]
    fn a_line_is_a_token_a_name_and_types() {
        let text = format!(
            "# who may call\r\n\n{ANN} portal hello,slow\r\n  {BOB}\t-  hello \n\t# end\n{ANN}2 portal"
        );
        let tokens = Tokens::parse(text.as_bytes()).unwrap();
        let find = |token: &str| tokens.find(&Bearer::new(token)).cloned();
        let caller = |name: Option<&str>, types| {
            let name = name.map(Into::into);
            Some(Caller { name, types })
        };
        assert_eq!(tokens.len(), 3);
        assert_eq!(find(ANN), caller(Some("portal"), only(&["hello", "slow"])));
        assert_eq!(find(BOB), caller(None, only(&["hello"])));
        assert_eq!(find(&format!("{ANN}2")), caller(Some("portal"), Types::All));
        for wrong in [
            "",
            "#",
            "portal",
            &ANN[..19],
            &format!("{ANN}3"),
            &BOB.to_uppercase(),
        ] {
            assert_eq!(find(wrong), None, "{wrong}");
        }
        assert_eq!(Tokens::default().find(&Bearer::new(ANN)), None);
    }

    #[track_caller]
    fn check_problems(text: &[u8], expected: &[(Option<usize>, &str)]) {
        let problems = Tokens::parse(text).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.line).collect();
        assert_eq!(
            places,
            expected.iter().map(|(line, _)| *line).collect::<Vec<_>>()
        );
        for (problem, (_, words)) in problems.iter().zip(expected) {
            let shown = problem.to_string();
            assert!(shown.contains(words), "{shown}");
            assert!(!shown.contains("0123456789"), "{shown}");
        }
    }

    #[test]
    fn all_problems_are_told_with_their_line_and_without_what_stands_there() {
        let text = format!(
            "short\n{ANN} a b c\n{ANN} n\n\n{ANN} again\nä{BOB}\n{BOB} näme\n{BOB} n a,,b\n{BOB} {}\n",
            "n".repeat(64)
        );
        let mut text = text.into_bytes();
        text.extend_from_slice(b"\xff0123456789");
        let expected = [
            (Some(1), "fewer than 16"),
            (Some(2), "more than a token"),
            (Some(5), "earlier line"),
            (Some(6), "no bearer token"),
            (Some(7), "a name that is none"),
            (Some(8), "an app type that is none"),
            (Some(9), "a name that is none"),
            (Some(10), "UTF-8"),
        ];
        check_problems(&text, &expected);
    }

    #[test]
    fn a_file_that_lets_nobody_in_or_too_many_is_a_problem() {
        check_problems(b"", &[(None, "no token")]);
        check_problems(b"# nobody\n\n", &[(None, "no token")]);
        let line = |number: usize| format!("token-{number:020}\n");
        let many: String = (0..=TOKENS_MAX).map(line).collect();
        check_problems(many.as_bytes(), &[(None, "more than 1000")]);
        let most: String = (0..TOKENS_MAX).map(line).collect();
        assert_eq!(Tokens::parse(most.as_bytes()).unwrap().len(), TOKENS_MAX);
    }

    #[test]
    fn debug_output_shows_no_token() {
        let tokens = Tokens::parse(ANN.as_bytes()).unwrap();
        assert!(!format!("{tokens:?}").contains(ANN));
        assert!(!format!("{:?}", Bearer::new(ANN)).contains("ann"));
    }
}
