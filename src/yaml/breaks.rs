//! The line breaks that YAML 1.1 has beyond those of our parser: U+0085, U+2028 and U+2029.
//!
//! kubectl's reader ends lines and comments there, so the texts that it reads otherwise would differ. Here
//! they become line feeds. Inside a value, U+2028 and U+2029 stay in its text: marks keep their
//! places while the parser folds lines. Types and structure are not decided here.

use super::at_most_u32;
use granit_parser::{Event, Parser, ScalarStyle};
use std::borrow::Cow;

const NEXT_LINE: char = '\u{85}';
/// Those that stay in a text.
const SEPARATORS: [char; 2] = ['\u{2028}', '\u{2029}'];

/// A text without such line breaks.
pub(super) struct Lines<'a> {
    pub(super) text: Cow<'a, str>,
    /// The lines that begin after such a break, from 1: an editor does not count them.
    added: Vec<u32>,
    pub(super) marks: Option<Marks>,
}

/// For each of [`SEPARATORS`] a character that the text does not have. It stands before the line feed that
/// replaces a separator in a value.
#[derive(Clone, Copy)]
pub(super) struct Marks([char; 2]);

impl Marks {
    /// From a private-use area. There are more than a text has characters.
    fn not_in(text: &str) -> Self {
        let mut free = ('\u{100000}'..='\u{10fffd}').filter(|c| !text.contains(*c));
        Self(std::array::from_fn(|_| free.next().unwrap_or('\u{fffd}')))
    }
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        if !text.contains(is_break) {
            return Self {
                text: Cow::Borrowed(text),
                added: Vec::new(),
                marks: None,
            };
        }
        let marks = Marks::not_in(text);
        let inside = separators_inside(text, &text.replace(is_break, "\n"));
        let mut inside = inside.into_iter().peekable();
        let mut marked = String::with_capacity(text.len());
        let (mut added, mut line) = (Vec::new(), 1);
        for (place, c) in text.chars().enumerate() {
            line += u32::from(c == '\n' || is_break(c));
            if !is_break(c) {
                marked.push(c);
                continue;
            }
            added.push(line);
            if inside.next_if_eq(&place).is_some() {
                marked.push(marks.0[usize::from(c == SEPARATORS[1])]);
            }
            marked.push('\n');
        }
        Self {
            text: Cow::Owned(marked),
            added,
            marks: Some(marks),
        }
    }

    /// The line as an editor counts it.
    pub(super) fn original(&self, line: u32) -> u32 {
        let before = self.added.partition_point(|added| *added <= line);
        line - at_most_u32(before)
    }
}

/// The places of separators inside of values, in characters. `plain` is the text with line feeds instead.
fn separators_inside(text: &str, plain: &str) -> Vec<usize> {
    let chars: Vec<char> = text.chars().collect();
    let mut inside = Vec::new();
    // Where the parser fails, it will fail again.
    for (event, span) in Parser::new_from_str(plain).map_while(Result::ok) {
        let Event::Scalar(value, style, ..) = event else {
            continue;
        };
        // An empty block scalar has its header in its span.
        if is_block(style) && value.trim().is_empty() {
            continue;
        }
        // A mark on a line of its own would need its indentation; such a line is a line feed.
        let stays = |place: usize| {
            let before = chars[..place].iter().rev();
            let before = before.copied().find(|c| ![' ', '\t'].contains(c));
            let is_escaped = style == ScalarStyle::DoubleQuoted && before == Some('\\');
            !is_escaped && before.is_some_and(|c| c != '\n' && !is_break(c))
        };
        let places = span.start.index()..span.end.index().min(chars.len());
        inside.extend(places.filter(|place| SEPARATORS.contains(&chars[*place]) && stays(*place)));
    }
    inside
}

fn is_break(c: char) -> bool {
    c == NEXT_LINE || SEPARATORS.contains(&c)
}

fn is_block(style: ScalarStyle) -> bool {
    matches!(style, ScalarStyle::Literal | ScalarStyle::Folded)
}

/// The text of a scalar with its separators instead of their marks.
pub(super) fn restore(text: Cow<'_, str>, style: ScalarStyle, marks: Marks) -> Cow<'_, str> {
    if !text.contains(marks.0) {
        return text;
    }
    let mut restored = String::with_capacity(text.len());
    let mut rest = text.as_ref();
    while let Some(place) = rest.find(marks.0) {
        let (before, from) = rest.split_at(place);
        restored.push_str(match is_block(style) {
            true => before,
            false => before.trim_end_matches([' ', '\t']),
        });
        let separator = SEPARATORS[usize::from(from.starts_with(marks.0[1]))];
        let mut after = from.chars();
        after.next();
        rest = after.as_str();
        // What the line feed after the mark has become; nothing where it was cut off.
        let folded = rest.strip_prefix(' ').or_else(|| match is_block(style) {
            true => rest.strip_prefix('\n'),
            false => rest.starts_with('\n').then_some(rest),
        });
        if let Some(folded) = folded {
            restored.push(separator);
            rest = folded;
        }
    }
    restored.push_str(rest);
    Cow::Owned(restored)
}
