//! The known name that a misspelt one probably meant.

/// Longer names are not compared, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// The known name that was probably meant: with at most two letters that differ, a third of it at most.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > NAME_BYTES_MAX {
        return None;
    }
    let near = known.filter(|known| known.len() <= NAME_BYTES_MAX + 2);
    let near = near.map(|known| (distance(known, name), known));
    let near = near.filter(|(distance, known)| *distance <= 2.min(known.len() / 3));
    near.min().map(|(_, known)| known)
}

/// How many letters must be added, removed or replaced; upper and lower case are the same.
fn distance(a: &str, b: &str) -> usize {
    let b = b.as_bytes();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, x) in a.bytes().enumerate() {
        let mut diagonal = line;
        row[0] = line + 1;
        for (column, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(!x.eq_ignore_ascii_case(y));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["resources", "readinessProbe", "tty"];
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (name, expected) in [
            ("recources", Some("resources")),
            ("READINESPROBE", Some("readinessProbe")),
            ("tt", Some("tty")),
            ("tr", None),
            ("ttyy", Some("tty")),
            ("", None),
            (&long, None),
        ] {
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
        let just_long = &long[1..];
        let found = nearest(just_long, [long.as_str()].into_iter());
        assert_eq!(found, Some(long.as_str()));
    }
}
