//! The inputs of `parser`, in families. `NEXT` in a text stands for a whole request: where a
//! second response comes back for an input that must be refused, it was smuggled.

use super::Must::{self, Refuse, Serve};

/// One input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input {
    pub(super) name: &'static str,
    pub(super) must: Must,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Everything, as it is.
    Raw(&'static str),
    /// Header lines of a POST, and what follows its head.
    Post(&'static str, &'static str),
    /// The body of a POST in chunks.
    Chunks(&'static str),
    /// Header lines of a GET.
    Get(&'static str),
}

impl Input {
    /// What goes over the connection.
    pub(super) fn bytes(&self) -> Vec<u8> {
        const POST: &str = "POST /app HTTP/1.1\r\nHost: a\r\n";
        const NEXT: &str = "GET /app HTTP/1.1\r\nHost: a\r\n\r\n";
        let text = match self.what {
            What::Raw(all) => all.to_owned(),
            What::Post(lines, rest) => format!("{POST}{lines}\r\n{rest}"),
            What::Chunks(rest) => format!("{POST}Transfer-Encoding: chunked\r\n\r\n{rest}"),
            What::Get(lines) => format!("GET /app HTTP/1.1\r\nHost: a\r\n{lines}\r\n"),
        };
        text.replace("NEXT", NEXT).into_bytes()
    }
}

const fn raw(name: &'static str, must: Must, all: &'static str) -> Input {
    let what = What::Raw(all);
    Input { name, must, what }
}

const fn post(name: &'static str, must: Must, lines: &'static str, rest: &'static str) -> Input {
    let what = What::Post(lines, rest);
    Input { name, must, what }
}

const fn chunks(name: &'static str, must: Must, rest: &'static str) -> Input {
    let what = What::Chunks(rest);
    Input { name, must, what }
}

const fn get(name: &'static str, must: Must, lines: &'static str) -> Input {
    let what = What::Get(lines);
    Input { name, must, what }
}

pub(super) const INPUTS: &[Input] = &[
    // Content-Length: digits, once.
    post("length 5", Serve(1), "Content-Length: 5\r\n", "hello"),
    post(
        "length and a request behind it",
        Serve(2),
        "Content-Length: 5\r\n",
        "helloNEXT",
    ),
    post(
        "two lengths, the same",
        Refuse,
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "helloNEXT",
    ),
    post(
        "two lengths",
        Refuse,
        "Content-Length: 5\r\nContent-Length: 0\r\n",
        "NEXT",
    ),
    post("length `5, 5`", Refuse, "Content-Length: 5, 5\r\n", "NEXT"),
    post("length `+5`", Refuse, "Content-Length: +5\r\n", "helloNEXT"),
    post("length `-5`", Refuse, "Content-Length: -5\r\n", "NEXT"),
    post("length `0x5`", Refuse, "Content-Length: 0x5\r\n", "NEXT"),
    post("length `abc`", Refuse, "Content-Length: abc\r\n", "NEXT"),
    post("length `5 5`", Refuse, "Content-Length: 5 5\r\n", "NEXT"),
    post("length empty", Refuse, "Content-Length:\r\n", "NEXT"),
    post(
        "length over 2^64",
        Refuse,
        "Content-Length: 18446744073709551616\r\n",
        "NEXT",
    ),
    post(
        "length over the bound",
        Refuse,
        "Content-Length: 1048577\r\n",
        "",
    ),
    // Transfer-Encoding: chunked, once, alone.
    post(
        "both length and chunked",
        Refuse,
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "both chunked and length",
        Refuse,
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding `xchunked`",
        Refuse,
        "Transfer-Encoding: xchunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding `identity`",
        Refuse,
        "Transfer-Encoding: identity\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding `chunked, identity`",
        Refuse,
        "Transfer-Encoding: chunked, identity\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding `gzip, chunked`",
        Refuse,
        "Transfer-Encoding: gzip, chunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding `\"chunked\"`",
        Refuse,
        "Transfer-Encoding: \"chunked\"\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "coding VT `chunked`",
        Refuse,
        "Transfer-Encoding: \x0bchunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "two codings, the same",
        Refuse,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "two codings",
        Refuse,
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
        "0\r\n\r\nNEXT",
    ),
    post(
        "space before the colon",
        Refuse,
        "Transfer-Encoding : chunked\r\n",
        "0\r\n\r\nNEXT",
    ),
    raw(
        "chunked in HTTP/1.0",
        Refuse,
        "POST /app HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nNEXT",
    ),
    // Chunks.
    chunks("chunks", Serve(1), "5\r\nhello\r\n0\r\n\r\n"),
    chunks(
        "chunks and a request behind them",
        Serve(2),
        "5\r\nhello\r\n0\r\n\r\nNEXT",
    ),
    chunks(
        "chunks with an extension and a trailer",
        Serve(1),
        "5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
    ),
    chunks("chunk size `+5`", Refuse, "+5\r\nhello\r\n0\r\n\r\nNEXT"),
    chunks("chunk size `0x5`", Refuse, "0x5\r\nhello\r\n0\r\n\r\nNEXT"),
    chunks("chunk size ` 5`", Refuse, " 5\r\nhello\r\n0\r\n\r\nNEXT"),
    chunks("chunk size `g`", Refuse, "g\r\nNEXT"),
    chunks("chunk size empty", Refuse, "\r\nhello\r\n0\r\n\r\nNEXT"),
    chunks(
        "chunk size of 17 digits",
        Refuse,
        "00000000000000005\r\nhello\r\n0\r\n\r\nNEXT",
    ),
    chunks("chunk size 2^64-1", Refuse, "ffffffffffffffff\r\nNEXT"),
    chunks(
        "chunk longer than its size",
        Refuse,
        "5\r\nhello!\r\n0\r\n\r\nNEXT",
    ),
    chunks(
        "chunk without its line end",
        Refuse,
        "5\r\nhello0\r\n\r\nNEXT",
    ),
    chunks(
        "chunk size line ends with LF",
        Refuse,
        "5\nhello\r\n0\r\n\r\nNEXT",
    ),
    chunks(
        "bare CR in an extension",
        Refuse,
        "5;a\rb\r\nhello\r\n0\r\n\r\nNEXT",
    ),
    chunks(
        "NUL in an extension",
        Refuse,
        "5;\0\r\nhello\r\n0\r\n\r\nNEXT",
    ),
    chunks("trailer without a colon", Refuse, "0\r\nX\r\n\r\nNEXT"),
    // Header lines.
    get("folded line", Refuse, "X: a\r\n folded\r\n"),
    get(
        "folded line that looks like a length",
        Refuse,
        "X: a\r\n Content-Length: 5\r\n",
    ),
    get("first header line begins with a space", Refuse, " X: a\r\n"),
    get("bare CR in a value", Refuse, "X: a\rY: b\r\n"),
    get("bare LF in a value", Refuse, "X: a\nY: b\r\n"),
    get("NUL in a value", Refuse, "X: a\0b\r\n"),
    get("empty name", Refuse, ": a\r\n"),
    get("no colon", Refuse, "X\r\n"),
    get("space in a name", Refuse, "X Y: a\r\n"),
    get("name that is not ASCII", Refuse, "\u{e4}: a\r\n"),
    get("value that is not ASCII", Serve(1), "X: \u{e4}\r\n"),
    get("two hosts", Refuse, "Host: b\r\n"),
    raw("no host", Refuse, "GET /app HTTP/1.1\r\n\r\n"),
    raw(
        "host with a slash",
        Refuse,
        "GET /app HTTP/1.1\r\nHost: a/b\r\n\r\n",
    ),
    // Request lines.
    raw(
        "lines that end with LF",
        Refuse,
        "GET /app HTTP/1.1\nHost: a\n\n",
    ),
    raw(
        "two spaces",
        Refuse,
        "GET  /app HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw(
        "tab for a space",
        Refuse,
        "GET\t/app HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw("no version", Refuse, "GET /app\r\nHost: a\r\n\r\n"),
    raw(
        "version `http/1.1`",
        Refuse,
        "GET /app http/1.1\r\nHost: a\r\n\r\n",
    ),
    raw(
        "version 2.0",
        Refuse,
        "GET /app HTTP/2.0\r\nHost: a\r\n\r\n",
    ),
    raw(
        "preface of HTTP/2",
        Refuse,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ),
    raw(
        "control character in the target",
        Refuse,
        "GET /a\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw(
        "target without a slash",
        Refuse,
        "GET app HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw("TLS on a plain port", Refuse, "\x16\x03\x01\x02"),
    raw(
        "absolute target",
        Serve(1),
        "GET http://a/app HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw(
        "an empty line before",
        Serve(1),
        "\r\nGET /app HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    raw("three requests at once", Serve(3), "NEXTNEXTNEXT"),
    raw(
        "HTTP/1.0, keep-alive",
        Serve(1),
        "GET /app HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    ),
    // Expectations.
    post(
        "Expect: 100-continue",
        Serve(1),
        "Expect: 100-continue\r\nContent-Length: 5\r\n",
        "hello",
    ),
    post(
        "another expectation",
        Refuse,
        "Expect: 200-ok\r\nContent-Length: 5\r\n",
        "hello",
    ),
];
