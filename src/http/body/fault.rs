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

/// The position of the error, in characters from 0, and its message; `None` if there is none.
pub(super) fn of(text: &str) -> Option<(usize, &'static str)> {
    let mut reader = Reader {
        bytes: text.as_bytes(),
        at: 0,
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
}

impl Reader<'_> {
    fn document(&mut self) -> Read {
        self.blanks();
        self.value(0)?;
        self.blanks();
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(Fault(self.at, EXTRA)),
        }
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
        loop {
            let at = self.at;
            self.at += 1;
            match self.bytes.get(at) {
                None => return Err(Fault(begin, UNTERMINATED)),
                Some(b'"') => return Ok(()),
                Some(b'\\') => self.escape(begin)?,
                Some(..=0x1f) => return Err(Fault(at, CONTROL)),
                Some(_) => {}
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, string: usize) -> Read {
        let at = self.at;
        self.at += 1;
        match self.bytes.get(at) {
            None => Err(Fault(string, UNTERMINATED)),
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                self.at += 4;
                let digits = self.bytes.get(at + 1..self.at);
                // A string cannot end right behind them without a quote.
                let good = digits.is_some_and(|four| four.iter().all(u8::is_ascii_hexdigit));
                if good && self.at < self.bytes.len() {
                    Ok(())
                } else {
                    Err(Fault(at, UNICODE))
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
