//! Errors of YAML, each with a message that includes the fix.
//!
//! Maps errors of the event parser to messages; bounds and rules are checked in [`super`].

use super::DEPTH_MAX;
use granit_parser::ErrorKind as Scan;
use std::fmt;

/// An error of a YAML text and its line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The line, from 1.
    pub line: u32,
    /// The problem on that line.
    pub kind: ErrorKind,
}

/// An error of a YAML text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text is longer than this many bytes.
    TooLong(usize),
    /// Collections are nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// More than this many values with aliases expanded.
    TooManyNodes(usize),
    /// More than this many bytes of text with aliases expanded.
    TooMuchText(usize),
    /// More than one document.
    SecondDocument,
    /// A tab in the indentation.
    Tab,
    /// An alias of an anchor that is not defined before it.
    UnknownAlias,
    /// An alias inside the value of its own anchor.
    AliasOfItself,
    /// A list, a map, null or a number of more than 64 bits as a key.
    BadKey,
    /// `<<` with something that is not a map or a list of maps.
    BadMerge,
    /// A value that does not fit its tag.
    BadTag(String),
    /// `!!binary` with something that is not base64.
    BadBinary,
    /// `.inf` or `.nan`, which JSON lacks.
    NotFinite,
    /// A number of more than 64 bits.
    NumberTooLarge,
    /// Invalid syntax; holds the message with the fix.
    Syntax(&'static str),
}

impl Error {
    pub(super) fn new(line: u32, kind: ErrorKind) -> Self {
        Self { line, kind }
    }

    pub(super) fn from_scan(error: &granit_parser::ScanError) -> Self {
        Self::new(super::line_of(error.marker()), kind_of(error.kind()))
    }
}

impl ErrorKind {
    /// Whether it may be YAML that is read elsewhere: only a bound of ours is exceeded, or JSON lacks the number.
    #[must_use]
    pub const fn is_bound(&self) -> bool {
        matches!(
            self,
            Self::TooLong(_)
                | Self::TooDeep
                | Self::TooManyNodes(_)
                | Self::TooMuchText(_)
                | Self::NotFinite
                | Self::NumberTooLarge
        )
    }
}

fn kind_of(scan: &Scan) -> ErrorKind {
    match scan {
        Scan::TabNotAllowed
        | Scan::TabInBlockIndentation
        | Scan::TabInIndentation
        | Scan::TabInPlainScalar
        | Scan::TabAtBlockScalarStart => ErrorKind::Tab,
        Scan::RecursionLimitExceeded => ErrorKind::TooDeep,
        Scan::UnknownAnchor => ErrorKind::UnknownAlias,
        other => ErrorKind::Syntax(message_of(other)),
    }
}

fn message_of(scan: &Scan) -> &'static str {
    match scan {
        Scan::UnexpectedEofFlowSequence
        | Scan::UnexpectedEofFlowMapping
        | Scan::UnexpectedEofImplicitFlowMapping
        | Scan::UnclosedFlowCollection { .. }
        | Scan::ExpectedFlowMappingSeparator
        | Scan::ExpectedFlowSequenceSeparator
        | Scan::MisplacedFlowCollectionEnd
        | Scan::MismatchedFlowCollectionEnd { .. } => {
            "the brackets do not match; close each `[` and `{`, and put commas between the values"
        }
        Scan::UnclosedQuotedScalar
        | Scan::DocumentIndicatorInQuotedScalar
        | Scan::UnexpectedEof => "a quote is not closed; add the missing quote",
        Scan::InvalidTrailingSingleQuotedScalar | Scan::InvalidTrailingDoubleQuotedScalar => {
            "text follows a closing quote; put quotes around the whole value"
        }
        Scan::UnknownQuotedScalarEscape
        | Scan::InvalidQuotedScalarHexEscape
        | Scan::InvalidUnicodeEscape => {
            "an unknown escape in double quotes; write two backslashes, or use single quotes"
        }
        Scan::MappingValueNotAllowed | Scan::InvalidColonPlacement => {
            "a second `: ` in one line; quote the value, or begin a new line"
        }
        Scan::SimpleKeyExpected | Scan::InvalidSimpleKey => {
            "a line without `: ` among the keys of a map; add the colon, or indent the line"
        }
        Scan::ExpectedBlockMappingKey
        | Scan::ExpectedBlockSequenceEntry
        | Scan::InvalidIndentation
        | Scan::InvalidQuotedScalarIndent
        | Scan::InvalidFlowScalarIndent
        | Scan::InvalidBlockScalarIndent => {
            "the indentation does not match the lines above; indent the keys of a map equally"
        }
        Scan::BlockSequenceEntryNotAllowed | Scan::BlockEntryInFlowCollection => {
            "a list cannot start here; put `- ` on a line of its own"
        }
        Scan::UnexpectedCharacter { .. } | Scan::BomInsideDocument => {
            "a character that is not allowed here; put quotes around the value"
        }
        Scan::UndeclaredTagHandle => "a tag with an unknown prefix; remove the tag",
        _ => "this is not valid YAML; check indentation, colons and quotes",
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(most) => {
                write!(f, "the text has more than {most} bytes; shorten it")
            }
            Self::TooDeep => write!(
                f,
                "lists and maps are nested more than {DEPTH_MAX} levels deep; reduce the nesting"
            ),
            Self::TooManyNodes(most) => write!(
                f,
                "more than {most} values once aliases are expanded; use fewer"
            ),
            Self::TooMuchText(most) => write!(
                f,
                "more than {most} bytes once aliases are expanded; use fewer aliases"
            ),
            Self::SecondDocument => f.write_str(
                "a second document starts here, but only one is allowed; remove it",
            ),
            Self::Tab => f.write_str("a tab in the indentation; use spaces"),
            Self::UnknownAlias => {
                f.write_str("an alias (`*name`) without its anchor; define `&name` above it")
            }
            Self::AliasOfItself => f.write_str(
                "an alias (`*name`) inside the value of its own anchor (`&name`); remove it",
            ),
            Self::BadKey => f.write_str(
                "a list, a map, null or a number of more than 64 bits cannot be a key; put quotes around it",
            ),
            Self::BadMerge => {
                f.write_str("`<<` requires a map or a list of maps; provide one, or quote the key")
            }
            Self::BadTag(tag) => write!(f, "the value is not a `!!{tag}`; fix it, or remove the tag"),
            Self::BadBinary => f.write_str("`!!binary` requires base64; encode the value"),
            Self::NotFinite => f.write_str(
                "JSON has no `.inf` and `.nan`; put quotes around it if it is text",
            ),
            Self::NumberTooLarge => {
                f.write_str("the number has more than 64 bits; put quotes around it if it is text")
            }
            Self::Syntax(message) => f.write_str(message),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.kind)
    }
}

impl std::error::Error for Error {}
