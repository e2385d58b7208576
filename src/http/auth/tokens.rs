//! The tokens of `AUTH=token`: parses their file, and finds the caller of a presented token.
//!
//! Pure. A line of the file is `TOKEN [NAME [TYPE,TYPE… [RIGHT,RIGHT…]]]`, separated by blanks; empty lines
//! and lines that start with `#` are ignored. The name `-` means none; without types, or with `*`, all are
//! permitted. The rights are `logs` and `owner`. A name may have several lines, so that an old token and its successor are both valid during a
//! rotation.
//!
//! # Comparison in constant time
//! Tokens are not compared as text but by their SHA-256 digests. A guesser cannot control how long
//! a prefix of a wrong digest equals a valid one; that would be finding preimages. So even a
//! comparison with an early exit would reveal nothing about a token. In addition, [`Tokens::find`]
//! compares all bytes of *all* digests with `subtle` and keeps the index of a match without a
//! branch. Its time depends only on the number of tokens. The time of hashing depends on the length
//! of the presented token, which the caller knows.

use super::{Caller, Rights, Types, is_token};
use crate::app::review::Bearer;
use crate::model::names::AppType;
use std::sync::Arc;
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

/// Shorter tokens could be guessed.
pub const TOKEN_CHARS_MIN: usize = 16;

/// The longest name.
pub const NAME_CHARS_MAX: usize = 63;

/// Bounds the time of a comparison: each presented token is compared with all.
pub const TOKENS_MAX: usize = 1000;

/// The valid tokens with their callers.
#[derive(Clone, Debug, Default)]
pub struct Tokens {
    digests: Vec<[u8; 32]>,
    /// The callers of `digests`, in the same order.
    callers: Vec<Caller>,
}

impl Tokens {
    /// Parses the content of a tokens file.
    ///
    /// # Errors
    /// All errors with their lines, none with text of the file, which may be a token. A file
    /// without a token is an error, since no caller could authenticate.
    pub fn parse(text: &[u8]) -> Result<Self, Vec<String>> {
        let mut tokens = Self::default();
        let mut problems = Vec::new();
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let added = std::str::from_utf8(line)
                .map_err(|_| "the line is not UTF-8")
                .and_then(|line| tokens.add(line));
            if let Err(problem) = added {
                problems.push(format!("line {}: {problem}", index + 1));
            }
        }
        if tokens.digests.len() > TOKENS_MAX {
            problems.push("the file has more than 1000 tokens; remove some".to_owned());
        } else if tokens.digests.is_empty() && problems.is_empty() {
            let problem = "the file has no token, so no caller could authenticate; add one";
            problems.push(problem.to_owned());
        }
        if problems.is_empty() {
            Ok(tokens)
        } else {
            Err(problems)
        }
    }

    /// The number of tokens.
    #[must_use]
    pub fn count(&self) -> usize {
        self.digests.len()
    }

    /// The caller of this token, found in a time that depends only on the number of tokens.
    #[must_use]
    pub fn find(&self, presented: &Bearer) -> Option<&Caller> {
        let mut found = Choice::from(0);
        let mut at = 0_u64;
        for (index, digest) in (0_u64..).zip(&self.digests) {
            let same = digest.ct_eq(presented.digest());
            at.conditional_assign(&index, same);
            found |= same;
        }
        // The caller learns only whether there is one.
        let at = usize::try_from(at).ok()?;
        bool::from(found).then(|| self.callers.get(at))?
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let mut fields = line.split_whitespace();
        let token = match fields.next() {
            Some(token) if !token.starts_with('#') => token,
            _ => return Ok(()),
        };
        let name = fields.next().filter(|name| *name != "-");
        let types = fields.next();
        let rights = fields.next();
        if fields.next().is_some() {
            return Err(
                "the line has more than a token, a name, types and rights; separate types by commas without blanks",
            );
        }
        if !is_token(token) {
            return Err("the token has invalid characters; use letters, digits and - . _ ~ + /");
        }
        if token.len() < TOKEN_CHARS_MIN {
            return Err("the token has fewer than 16 characters; use a longer one");
        }
        let bearer = Bearer::new(token);
        if self.digests.contains(bearer.digest()) {
            return Err("the token is already on an earlier line; remove one");
        }
        let caller = Caller {
            name: name.map(check_name).transpose()?,
            types: types.map_or(Ok(Types::All), parse_types)?,
            rights: rights.map(parse_rights).transpose()?.unwrap_or_default(),
        };
        self.digests.push(*bearer.digest());
        self.callers.push(caller);
        Ok(())
    }
}

/// Names appear in the log and in annotations, so they are printable ASCII.
fn check_name(name: &str) -> Result<Arc<str>, &'static str> {
    if name.len() <= NAME_CHARS_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(name.into())
    } else {
        Err("the name is invalid; use at most 63 printable ASCII characters")
    }
}

fn parse_rights(list: &str) -> Result<Rights, &'static str> {
    Rights::parse(list.split(',')).ok_or(
        "a right is invalid; there are 'logs' and 'owner', in the fourth place, after types or *",
    )
}

fn parse_types(list: &str) -> Result<Types, &'static str> {
    if list == "*" {
        return Ok(Types::All);
    }
    let types: Result<Arc<[AppType]>, _> = list.split(',').map(AppType::new).collect();
    types
        .map(Types::Only)
        .map_err(|_| "an app type is invalid; separate types by commas without blanks")
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
            Some(Caller {
                name,
                types,
                rights: Rights::default(),
            })
        };
        assert_eq!(tokens.count(), 3);
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

    #[test]
    fn the_fourth_field_has_rights() {
        let text = format!("{ANN} portal * logs\n{BOB} - hello,slow owner,logs\n{ANN}2 portal *");
        let tokens = Tokens::parse(text.as_bytes()).unwrap();
        let find = |token: &str| {
            let caller = tokens.find(&Bearer::new(token)).unwrap();
            (
                caller.types.clone(),
                caller.rights.logs,
                caller.rights.owner,
            )
        };
        assert_eq!(find(ANN), (Types::All, true, false));
        assert_eq!(find(BOB), (only(&["hello", "slow"]), true, true));
        assert_eq!(find(&format!("{ANN}2")), (Types::All, false, false));
    }

    #[track_caller]
    fn check_problems(text: &[u8], expected: &[(Option<usize>, &str)]) {
        let problems = Tokens::parse(text).unwrap_err();
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (line, words)) in problems.iter().zip(expected) {
            let begin = line.map(|line| format!("line {line}: "));
            assert!(problem.starts_with(&begin.unwrap_or_default()), "{problem}");
            assert_eq!(problem.starts_with("line"), line.is_some(), "{problem}");
            assert!(problem.contains(words), "{problem}");
            assert!(!problem.contains("0123456789"), "{problem}");
        }
    }

    #[test]
    fn all_errors_name_their_line_and_show_none_of_its_text() {
        let text = format!(
            "short\n{ANN} a b c d\n{ANN} n\n\n{ANN} again\nä{BOB}\n{BOB} näme\n{BOB} n a,,b\n{BOB} {}\n{BOB} n * log\n",
            "n".repeat(64)
        );
        let mut text = text.into_bytes();
        text.extend_from_slice(b"\xff0123456789");
        let expected = [
            (Some(1), "fewer than 16"),
            (Some(2), "more than a token"),
            (Some(5), "earlier line"),
            (Some(6), "invalid characters"),
            (Some(7), "name is invalid"),
            (Some(8), "app type is invalid"),
            (Some(9), "name is invalid"),
            (Some(10), "a right is invalid"),
            (Some(11), "UTF-8"),
        ];
        check_problems(&text, &expected);
    }

    #[test]
    fn a_file_without_tokens_or_with_too_many_is_an_error() {
        check_problems(b"", &[(None, "no token")]);
        check_problems(b"# nobody\n\n", &[(None, "no token")]);
        let line = |number: usize| format!("token-{number:020}\n");
        let many: String = (0..=TOKENS_MAX).map(line).collect();
        check_problems(many.as_bytes(), &[(None, "more than 1000")]);
        let most: String = (0..TOKENS_MAX).map(line).collect();
        assert_eq!(Tokens::parse(most.as_bytes()).unwrap().count(), TOKENS_MAX);
    }

    #[test]
    fn debug_output_shows_no_token() {
        let tokens = Tokens::parse(ANN.as_bytes()).unwrap();
        assert!(!format!("{tokens:?}").contains(ANN));
        assert!(!format!("{:?}", Bearer::new(ANN)).contains("ann"));
    }
}
