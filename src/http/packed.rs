//! Long texts of ours, which are in the program compressed, since its size is limited.
//!
//! Pure. The compiler runs [`pack`], so that neither a generated file nor a build script is needed, and
//! that is why it is code of our own: the compiler can run no crate's. [`unpack`] is its inverse, for the
//! first use. The method is the simplest of its kind (Lempel and Ziv, 1977): what was there before is
//! replaced by where it was. That makes a fifth of a JSON document; nothing from outside is read here.
//!
//! The packed text is a sequence of parts, each with a first byte. Below [`LITERALS_MAX`] it is one less
//! than the number of bytes that follow and are the text itself. Otherwise it is that much more than the
//! length of a copy beyond [`COPY_MIN`], and two bytes follow: how far back the copied text began.

/// Text that was not there before is in parts of at most so many bytes.
const LITERALS_MAX: usize = 128;

/// A copy has at least so many bytes; it takes three.
const COPY_MIN: usize = 4;

/// A copy has at most so many bytes.
const COPY_MAX: usize = COPY_MIN + u8::MAX as usize - LITERALS_MAX;

/// A copy begins at most so many bytes back.
const DISTANCE_MAX: usize = u16::MAX as usize;

/// So many earlier places are compared, the last ones first. More of them take the compiler longer, and
/// win a hundredth each.
const PLACES_MAX: usize = 8;

/// Lists of places; a power of two.
const LISTS: usize = 1 << 13;

/// No place.
const NONE: usize = usize::MAX;

/// The text compressed, and the length of that. What does not get shorter than `N` does not compile.
#[must_use]
pub(super) const fn pack<const N: usize>(text: &[u8]) -> ([u8; N], usize) {
    let mut packed = Packed {
        bytes: [0; N],
        length: 0,
    };
    let mut places = Places {
        last: [NONE; LISTS],
        before: [NONE; N],
    };
    let (mut at, mut literals) = (0, 0);
    while at < text.len() {
        let (length, distance) = places.longest(text, at);
        let until = if length >= COPY_MIN {
            packed.literals(text, at - literals, at);
            packed.copy(length, distance);
            literals = 0;
            at + length
        } else {
            literals += 1;
            at + 1
        };
        while at < until {
            places.add(text, at);
            at += 1;
        }
        if literals == LITERALS_MAX {
            packed.literals(text, at - literals, at);
            literals = 0;
        }
    }
    packed.literals(text, at - literals, at);
    (packed.bytes, packed.length)
}

/// The text that [`pack`] made this of.
#[must_use]
pub(super) fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut left = packed.iter().copied();
    while let Some(first) = left.next() {
        let first = usize::from(first);
        if first < LITERALS_MAX {
            text.extend(left.by_ref().take(first + 1));
        } else if let (Some(high), Some(low)) = (left.next(), left.next()) {
            let distance = usize::from(u16::from_be_bytes([high, low]));
            // It may go on into what it appends.
            for _ in 0..first - LITERALS_MAX + COPY_MIN {
                text.extend(text.iter().nth_back(distance - 1).copied());
            }
        }
    }
    text.shrink_to_fit();
    text
}

struct Packed<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Packed<N> {
    const fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    const fn literals(&mut self, text: &[u8], mut at: usize, until: usize) {
        if at < until {
            self.push((until - at - 1) as u8);
        }
        while at < until {
            self.push(text[at]);
            at += 1;
        }
    }

    const fn copy(&mut self, length: usize, distance: usize) {
        self.push((LITERALS_MAX + length - COPY_MIN) as u8);
        let [high, low] = (distance as u16).to_be_bytes();
        self.push(high);
        self.push(low);
    }
}

/// Where text begins that may be repeated, in lists by its first bytes.
struct Places<const N: usize> {
    last: [usize; LISTS],
    /// Before each place the one before it in its list.
    before: [usize; N],
}

impl<const N: usize> Places<N> {
    /// The list for a place; none near the end, where no copy fits.
    const fn list(text: &[u8], at: usize) -> Option<usize> {
        if at + COPY_MIN > text.len() {
            return None;
        }
        let first = u32::from_be_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]);
        Some((first.wrapping_mul(0x9E37_79B1) >> 19) as usize % LISTS)
    }

    const fn add(&mut self, text: &[u8], at: usize) {
        if let Some(list) = Self::list(text, at) {
            self.before[at] = self.last[list];
            self.last[list] = at;
        }
    }

    /// The length of the longest text that is there from `at` on and was there before, and how far back.
    const fn longest(&self, text: &[u8], at: usize) -> (usize, usize) {
        let mut best = (0, 0);
        let Some(list) = Self::list(text, at) else {
            return best;
        };
        let (mut place, mut tries) = (self.last[list], 0);
        while place != NONE && at - place <= DISTANCE_MAX && tries < PLACES_MAX {
            let mut length = 0;
            while length < COPY_MAX
                && at + length < text.len()
                && text[place + length] == text[at + length]
            {
                length += 1;
            }
            if length > best.0 {
                best = (length, at - place);
            }
            place = self.before[place];
            tries += 1;
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packed and unpacked it is the same; the length between.
    fn through(text: &[u8]) -> usize {
        let (bytes, length) = pack::<80_000>(text);
        assert_eq!(unpack(&bytes[..length]), text);
        length
    }

    #[test]
    fn each_length_of_literals_and_copies_comes_back() {
        let new: Vec<u8> = (0..=255).collect();
        for literals in [0, 1, LITERALS_MAX, LITERALS_MAX + 1, 2 * LITERALS_MAX] {
            let parts = literals.div_ceil(LITERALS_MAX);
            assert_eq!(through(&new[..literals]), literals + parts);
        }
        for (copied, expected) in [
            (3, 3 + 1),
            (COPY_MIN, 3),
            (COPY_MAX, 3),
            (COPY_MAX + 1, 3 + 2),
        ] {
            let text = [&new[..], &new[..copied]].concat();
            // Three bytes more are literals of their own.
            assert_eq!(through(&text), 256 + 2 + expected, "{copied}");
        }
        // A copy of itself.
        assert_eq!(through(&[b'a'; 1 + COPY_MAX]), 2 + 3);
    }

    #[test]
    fn a_copy_reaches_back_so_far_and_no_further() {
        let far = |distance: usize| {
            let between = vec![b'-'; distance - 8];
            through(&[b"12345678", &between[..], b"12345678"].concat())
        };
        assert_eq!(far(DISTANCE_MAX) + 9 - 3, far(DISTANCE_MAX + 1));
    }

    #[test]
    fn texts_of_few_letters_come_back() {
        let mut state = 1_u32;
        for letters in [2, 3, 7, 40, 256] {
            let mut letter = |_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                ((state >> 16) % letters) as u8
            };
            let text: Vec<u8> = (0..20_000).map(&mut letter).collect();
            through(&text);
        }
    }
}
