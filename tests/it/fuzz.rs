//! Mutated input for everything that reads bytes from outside: `tests/fuzz/targets.rs` over the
//! corpora beside it. No fuzzer is needed, and the runs are the same on every machine.
//!
//! `FUZZ_RUNS` is the number of mutations for each target, `FUZZ_SEED` selects them.

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fmt::Write as _;
use std::panic::catch_unwind;

use crate::harness::repository;

/// Longest input that is made, in bytes.
const INPUT_BYTES_MAX: usize = 16 * 1024;

/// What readers of numbers, lines and texts may stumble over.
const ODDITIES: &[&[u8]] = &[
    b"0",
    b"-1",
    b"00",
    b"1e400",
    b"0x7fffffff",
    b"4294967296",
    b"9223372036854775808",
    b"18446744073709551615",
    b"18446744073709551616",
    b"ffffffffffffffff",
    b"9999999999999999999999999999",
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"\xf0\x9f\x98\x80",
    b"null",
    b"{}",
    b"[]",
    b"\"",
    b"'",
    b"\\",
    b"\\u0000",
    b"%00",
    b"%",
    b"&",
    b"=",
    b"*a",
    b"&a ",
    b"<<: ",
    b"${",
    b"% if ",
];

/// Marsaglia's xorshift: small, and the same everywhere for the same seed.
struct Random(u64);

impl Random {
    /// Of its own for each run, so that one run can be tried again by itself.
    fn new(seed: u64, run: u64) -> Self {
        let mixed = (seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_add(1);
        let mut random = Self(mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).expect("it is below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    /// A piece of `bytes`, mostly a short one.
    fn piece<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let start = self.below(bytes.len() + 1);
        let longest = if self.below(4) == 0 { bytes.len() } else { 24 };
        let end = (start + self.below(longest + 1)).min(bytes.len());
        &bytes[start..end]
    }
}

/// One to six changes of an entry of the corpus.
fn mutate(corpus: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(8) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.byte();
                }
            }
            2 => bytes.insert(at, random.byte()),
            3 => {
                let end = at + random.piece(&bytes[at..]).len();
                bytes.drain(at..end);
            }
            4 => {
                let own = random.piece(&bytes).to_vec();
                bytes.splice(at..at, own);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let end = at + random.piece(&bytes[at..]).len();
                bytes.splice(at..end, random.piece(other).iter().copied());
            }
            6 => {
                let oddity = ODDITIES[random.below(ODDITIES.len())];
                bytes.splice(at..at, oddity.iter().copied());
            }
            _ => replace_number(&mut bytes, at, random),
        }
        bytes.truncate(INPUT_BYTES_MAX);
    }
    bytes
}

/// Puts another number in the place of the first one from `at` on.
fn replace_number(bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
    let found = bytes[at..].iter().position(u8::is_ascii_digit);
    let Some(start) = found.map(|found| at + found) else {
        return;
    };
    let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit());
    let end = start + digits.count();
    let number = match random.below(3) {
        0 => random.below(300).to_string(),
        1 => random.next().to_string(),
        _ => (1_u64 << random.below(64)).wrapping_sub(1).to_string(),
    };
    bytes.splice(start..end, number.into_bytes());
}

/// The entries of a corpus, in the order of their names.
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = repository().join("tests/fuzz/corpus").join(target);
    let entries = std::fs::read_dir(folder).expect("there is a corpus");
    let mut paths: Vec<_> = entries
        .map(|entry| entry.expect("an entry of a folder").path())
        .collect();
    paths.sort();
    let read = |path| std::fs::read(path).expect("an entry of a corpus");
    paths.into_iter().map(read).collect()
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Runs one target over its corpus, then over mutations of it.
fn check(name: &str, target: fn(&[u8]) -> bool, runs: u64) {
    let (seed, runs) = (setting("FUZZ_SEED", 42), setting("FUZZ_RUNS", runs));
    let corpus = corpus(name);
    let try_one = |bytes: &[u8], run: &str| -> bool {
        catch_unwind(|| target(bytes)).unwrap_or_else(|_| {
            let mut hex = String::with_capacity(2 * bytes.len());
            for byte in bytes {
                let _ = write!(hex, "{byte:02x}");
            }
            panic!("target {name}, FUZZ_SEED={seed}, {run}, input as hex: {hex}");
        })
    };
    let taken = corpus.iter().filter(|entry| try_one(entry, "as committed"));
    let taken = taken.count();
    assert!(corpus.len() >= 12, "the corpus of {name} is there");
    assert!(2 * taken >= corpus.len(), "most of {name} is understood");
    let mut understood = 0;
    for run in 0..runs {
        let bytes = mutate(&corpus, &mut Random::new(seed, run));
        understood += u64::from(try_one(&bytes, &format!("run {run}")));
    }
    assert!(
        understood >= runs / 20,
        "{name}: {understood} of {runs} were understood, so little is tried"
    );
}

#[test]
fn connections() {
    check("connection", targets::connection, 20_000);
}

#[test]
fn queries() {
    check("query", targets::query, 20_000);
}

#[test]
fn templates() {
    check("template", targets::template, 10_000);
}

#[test]
fn watches() {
    check("watch", targets::watch, 10_000);
}

#[test]
fn kubeconfigs() {
    check("kubeconfig", targets::kubeconfig, 10_000);
}
