//! Rendezvous hashing: which of several replicas does what one of them has to do, without asking the others.
//!
//! Pure. Whoever knows the same replicas chooses the same one, in every version of the program. When a replica
//! leaves, only what it would have done moves to others. Which replicas there are is not known here.

use sha2::{Digest as _, Sha256};

/// The replica that `subject` falls to; `None` where there is none.
pub fn chosen<'a>(subject: &str, among: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    among
        .into_iter()
        .max_by_key(|replica| (weight(subject, replica), *replica))
}

fn weight(subject: &str, replica: &str) -> [u8; 32] {
    let parts = [subject.as_bytes(), &[0], replica.as_bytes()];
    let hash = parts.into_iter().fold(Sha256::new(), Sha256::chain_update);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECTS: usize = 2000;

    fn all(replicas: &[&'static str]) -> Vec<&'static str> {
        let subjects = (0..SUBJECTS).map(|number| format!("uid-{number}"));
        subjects
            .map(|subject| chosen(&subject, replicas.iter().copied()).unwrap())
            .collect()
    }

    fn count(chosen: &[&str], replica: &str) -> usize {
        chosen.iter().filter(|one| **one == replica).count()
    }

    #[test]
    fn each_falls_to_one_of_them_whatever_their_order() {
        assert_eq!(chosen("uid", []), None);
        assert_eq!(chosen("uid", ["a"]), Some("a"));
        let chosen = all(&["a", "b", "c", "d"]);
        assert_eq!(chosen, all(&["d", "b", "a", "c"]));
        for replica in ["a", "b", "c", "d"] {
            let share = count(&chosen, replica);
            assert!((400..600).contains(&share), "{replica}: {share}");
        }
    }

    #[test]
    fn only_what_a_replica_had_moves_when_it_leaves_or_comes() {
        let before = all(&["a", "b", "c", "d"]);
        let after = all(&["a", "b", "d"]);
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(one, other)| one != other);
        assert!(moved.clone().all(|(one, _)| *one == "c"));
        assert_eq!(moved.count(), count(&before, "c"));
        let moved: Vec<_> = before
            .iter()
            .zip(&after)
            .filter(|(one, _)| **one == "c")
            .collect();
        for replica in ["a", "b", "d"] {
            let share = moved.iter().filter(|(_, other)| **other == replica).count();
            assert!(share > moved.len() / 5, "{replica}: {share}");
        }
    }

    /// Replicas of two versions choose the same.
    #[test]
    fn the_choice_does_not_depend_on_the_version() {
        let subjects = [
            "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0",
            "u2",
            "u3",
            "u4",
            "u5",
        ];
        let chosen = subjects.map(|subject| chosen(subject, ["cc-0", "cc-1", "cc-2"]).unwrap());
        assert_eq!(chosen, ["cc-1", "cc-0", "cc-2", "cc-2", "cc-1"]);
    }
}
