//! The syntax error of a text that is not JSON, with the message and position of 2.7.1's parser
//! (Python's `json`), since clients may show them.
//!
//! Pure. It reads only what another parser has refused, and keeps nothing of it.

/// How deep values may nest, as for the parser that has refused the text.
const DEPTH_MAX: usize = 128;

const VALUE: &str = "Expecting value";
const COMMA: &str = "Expecting ',' delimiter";
const COLON: &str = "Expecting ':' delimiter";
const KEY: &str = "Expecting property name enclosed in double quotes";
const EXTRA: &str = "Extra data";
const UNTERMINATED: &str = "Unterminated string starting at";
const CONTROL: &str = "Invalid control character at";
const ESCAPE: &str = "Invalid \\escape";
const UNICODE: &str = "Invalid \\uXXXX escape";

// What Python takes, and we cannot.
pub(super) const TOO_LARGE: &str = "Number too large; send it as a string";
const SURROGATE: &str = "Unpaired surrogate escape; send the character itself";

/// The position of the error, in characters from 0, and its message; `None` if there is none.
pub(super) fn of(text: &str) -> Option<(usize, &'static str)> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
        ours: None,
    };
    let Fault(at, message) = reader.document().err()?;
    Some((text.get(..at)?.chars().count(), message))
}

/// The position in bytes, and the message.
struct Fault(usize, &'static str);

type Read = Result<(), Fault>;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The first of those that Python does not find.
    ours: Option<Fault>,
}

impl Reader<'_> {
    fn document(&mut self) -> Read {
        self.blanks();
        self.value(0)?;
        self.blanks();
        match self.peek() {
            None => self.ours.take().map_or(Ok(()), Err),
            Some(_) => Err(Fault(self.at, EXTRA)),
        }
    }

    fn is_ours(&mut self, at: usize, message: &'static str) {
        self.ours.get_or_insert(Fault(at, message));
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// Reads the next byte if it is this one; whether it was.
    fn takes(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn value(&mut self, depth: usize) -> Read {
        let begin = self.at;
        if depth == DEPTH_MAX {
            return Err(Fault(begin, VALUE));
        }
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            _ => {
                let message: [&[u8]; 3] = [b"null", b"true", b"false"];
                let rest = &self.bytes[begin..];
                match message.iter().find(|word| rest.starts_with(word)) {
                    Some(word) => self.at += word.len(),
                    None => self.number()?,
                }
                Ok(())
            }
        }
    }

    fn object(&mut self, depth: usize) -> Read {
        self.at += 1;
        self.blanks();
        if self.takes(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Fault(self.at, KEY));
            }
            self.string()?;
            self.blanks();
            if !self.takes(b':') {
                return Err(Fault(self.at, COLON));
            }
            self.blanks();
            self.value(depth + 1)?;
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Read {
        self.at += 1;
        self.blanks();
        if self.takes(b']') {
            return Ok(());
        }
        loop {
            self.value(depth + 1)?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// Whether a list of values or pairs ends here; otherwise another element follows.
    fn ends(&mut self, close: u8) -> Result<bool, Fault> {
        self.blanks();
        if self.takes(close) {
            return Ok(true);
        }
        if !self.takes(b',') {
            return Err(Fault(self.at, COMMA));
        }
        self.blanks();
        Ok(false)
    }

    fn string(&mut self) -> Read {
        let begin = self.at;
        self.at += 1;
        let mut half = None;
        loop {
            let at = self.at;
            self.at += 1;
            let byte = self.bytes.get(at);
            let unit = match byte {
                None => return Err(Fault(begin, UNTERMINATED)),
                Some(b'\\') => self.escape(begin)?,
                Some(..=0x1f) => return Err(Fault(at, CONTROL)),
                Some(_) => None,
            };
            half = self.pair(half, at, unit);
            if byte == Some(&b'"') {
                return Ok(());
            }
        }
    }

    /// Checks the halves of a surrogate pair. `half` is where the first one is, if it was the last
    /// character, and `unit` the next one at `at`, if it is an escaped unit of UTF-16. Returns where
    /// that is if it is a first half.
    fn pair(&mut self, half: Option<usize>, at: usize, unit: Option<u16>) -> Option<usize> {
        let is_second = matches!(unit, Some(0xdc00..=0xdfff));
        match half {
            Some(_) if is_second => return None,
            Some(half) => self.is_ours(half, SURROGATE),
            None if is_second => self.is_ours(at, SURROGATE),
            None => {}
        }
        matches!(unit, Some(0xd800..=0xdbff)).then_some(at)
    }

    /// What follows a backslash; the unit of UTF-16, if it is one.
    fn escape(&mut self, string: usize) -> Result<Option<u16>, Fault> {
        let at = self.at;
        self.at += 1;
        match self.bytes.get(at) {
            None => Err(Fault(string, UNTERMINATED)),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(None),
            Some(b'u') => {
                self.at += 4;
                let digits = self.bytes.get(at + 1..self.at);
                let digits = digits.filter(|four| four.iter().all(u8::is_ascii_hexdigit));
                let digits = digits.and_then(|four| std::str::from_utf8(four).ok());
                // A string cannot end right behind them without a quote.
                let digits = digits.filter(|_| self.at < self.bytes.len());
                match digits.and_then(|four| u16::from_str_radix(four, 16).ok()) {
                    Some(unit) => Ok(Some(unit)),
                    None => Err(Fault(at, UNICODE)),
                }
            }
            Some(_) => Err(Fault(at - 1, ESCAPE)),
        }
    }

    /// Reads as much of a number as there is; what follows it is reported by the caller.
    fn number(&mut self) -> Read {
        let begin = self.at;
        self.takes(b'-');
        if !self.takes(b'0') && self.digits() == 0 {
            return Err(Fault(begin, VALUE));
        }
        let whole = self.at;
        if self.takes(b'.') && self.digits() == 0 {
            self.at = whole;
        }
        let mantissa = self.at;
        if self.takes(b'e') || self.takes(b'E') {
            let _ = self.takes(b'+') || self.takes(b'-');
            if self.digits() == 0 {
                self.at = mantissa;
            }
        }
        let text = std::str::from_utf8(&self.bytes[begin..self.at]).unwrap_or_default();
        if text.parse().is_ok_and(f64::is_infinite) {
            self.is_ours(begin, TOO_LARGE);
        }
        Ok(())
    }

    /// Reads digits; returns how many.
    fn digits(&mut self) -> usize {
        let begin = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        self.at - begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    /// Each text with what Python 3.11's `json.loads` reports.
    const EXPECTED: &[(&str, usize, &str)] = &[
        ("{a}", 1, KEY),
        ("{", 1, KEY),
        ("{\"a\"}", 4, COLON),
        ("{\"a\":1 2}", 7, COMMA),
        ("{\"a\":x}", 5, VALUE),
        ("{} {}", 3, EXTRA),
        ("{\"a\":\"\\q\"}", 6, ESCAPE),
        ("{\"a\":\"\n\"}", 6, CONTROL),
        ("{\"a\":\"b", 5, UNTERMINATED),
        ("{\"a\":", 5, VALUE),
        ("{\"a\"", 4, COLON),
        ("[", 1, VALUE),
        ("[1", 2, COMMA),
        ("[1,", 3, VALUE),
        ("[1 2]", 3, COMMA),
        ("[1,]", 3, VALUE),
        ("{\"a\":1,}", 7, KEY),
        ("nul", 0, VALUE),
        ("tru", 0, VALUE),
        ("x", 0, VALUE),
        ("-", 0, VALUE),
        ("{\"a\":-}", 5, VALUE),
        ("{\"a\":01}", 6, COMMA),
        ("{\"a\":1.}", 6, COMMA),
        ("{\"a\":1e}", 6, COMMA),
        ("{\"a\":.5}", 5, VALUE),
        ("{\"a\":+1}", 5, VALUE),
        ("{\"a\":\"\\u12\"}", 7, UNICODE),
        ("{\"a\":\"\\u12G4\"}", 7, UNICODE),
        ("{'a':1}", 1, KEY),
        ("{\"a\":1}}", 7, EXTRA),
        ("{\"a\":1},", 7, EXTRA),
        ("{\"a\":1;\"b\":2}", 6, COMMA),
        ("{\"a\"=1}", 4, COLON),
        ("{,}", 1, KEY),
        ("{\"a\":,}", 5, VALUE),
        ("{\"a\":[}", 6, VALUE),
        ("{\"a\":{}", 7, COMMA),
        ("{\"a\":{\"b\"}}", 9, COLON),
        ("\"abc", 0, UNTERMINATED),
        ("\"a\tb\"", 2, CONTROL),
        ("\n\n{\n\"a\": x}", 9, VALUE),
        ("  ", 2, VALUE),
        ("{1:2}", 1, KEY),
        ("{\"a\":tru}", 5, VALUE),
        ("{\"a\":\"b\"  \"c\":1}", 10, COMMA),
        ("{\"a\":\"é\", x}", 10, KEY),
        ("{\"é\":x}", 5, VALUE),
        ("{\"a\":\"\\", 5, UNTERMINATED),
        ("{\"a\":\"\\u", 7, UNICODE),
        ("[[1,2]", 6, COMMA),
        ("// c\n{}", 0, VALUE),
        ("{\"a\":1 /*x*/}", 7, COMMA),
        ("{\"a\":\"b\",", 9, KEY),
        ("{\"a\":\"b\", ", 10, KEY),
        ("{ ", 2, KEY),
        ("{\"a\" ", 5, COLON),
        ("{\"a\": ", 6, VALUE),
        ("{\"a\":\"b\\uD8\"}", 8, UNICODE),
        ("[1.5e+]", 4, COMMA),
        ("[-1]x", 4, EXTRA),
        ("{\"a\":\"\\u00e4", 7, UNICODE),
        ("[tru", 1, VALUE),
        ("[{\"a\":1},{\"b\"}]", 13, COLON),
        ("{\"ä\":\"ö\"ü}", 8, COMMA),
    ];

    #[test]
    fn faults_are_those_that_python_finds() {
        for (text, at, message) in EXPECTED {
            assert_eq!(of(text), Some((*at, *message)), "{text:?}");
        }
    }

    #[test]
    fn what_python_takes_and_we_cannot_is_a_fault_behind_its_own() {
        for (text, at, message) in [
            ("{\"a\":1e999}", 5, TOO_LARGE),
            ("{\"a\": -1E+999, \"b\": 2}", 6, TOO_LARGE),
            ("[0, 1e308, 2e308]", 11, TOO_LARGE),
            ("\"\\ud800\"", 1, SURROGATE),
            ("{\"é\":\"\\udc00\\ud800\"}", 6, SURROGATE),
            ("{\"\\uD83D\\u0041\":1}", 2, SURROGATE),
            ("{\"a\":\"\\ud83d\\ud83d\\ude00\"}", 6, SURROGATE),
            ("{\"a\":\"\\ud83d\\n\",\"b\":1e999}", 6, SURROGATE),
            ("{\"a\":1e999,}", 11, KEY),
            ("{\"a\":\"\\ud800\\q\"}", 12, ESCAPE),
        ] {
            assert_eq!(of(text), Some((at, message)), "{text:?}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err());
        }
    }

    /// The texts are pieces of JSON in a random order.
    #[test]
    fn the_other_parser_refuses_what_has_a_fault_and_nothing_else() {
        const PIECES: [&str; 24] = [
            "{", "}", "[", "]", ",", ":", "\"", "\"a\"", "\"\\", "u00", "1", "-", ".5", "e9",
            "e999", "0", "true", "null", " ", "\\ud83d", "\\ude00", "é", "\n", "\"b\":",
        ];
        let mut random = Random::new(5);
        let mut faults = 0;
        for _ in 0..200_000 {
            let pieces = 1 + random.below(9);
            let text: String = (0..pieces).map(|_| random.pick(&PIECES)).collect();
            let is_refused = serde_json::from_str::<serde_json::Value>(&text).is_err();
            assert_eq!(of(&text).is_some(), is_refused, "{text:?}");
            faults += usize::from(is_refused);
        }
        assert!(faults < 199_000, "hardly any text is JSON");
    }

    #[test]
    fn json_has_no_fault() {
        for text in [
            "{}",
            " [1, -0.5e+7, \"a\\u00e4\\n\", {\"b\": [null, true, false, [], {}]}]\n",
            "0",
        ] {
            assert_eq!(of(text), None, "{text:?}");
            assert!(serde_json::from_str::<serde_json::Value>(text).is_ok());
        }
        // Nesting too deep for the other parser is reported, too, and is not read further.
        for depth in [DEPTH_MAX, 100_000] {
            assert_eq!(of(&"[".repeat(depth)), Some((DEPTH_MAX, VALUE)));
        }
    }
}
