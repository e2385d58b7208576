//! A value never changes the structure of a template: made templates and mutated ones.
//!
//! `FUZZ_RUNS` is the number of each, `FUZZ_SEED` selects them. Each run has its own random
//! numbers, so that one run can be repeated alone.

use super::grammar::{self, Maker};
use super::*;
use crate::random::Random;
use serde_json::Value;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A value that a caller may send; rarely one with a NUL in it, or a long one.
pub(super) fn text(random: &mut Random) -> String {
    let text: String = (0..random.below(4)).map(|_| random.pick(VALUES)).collect();
    match random.below(200) {
        0 => text + "\0",
        1 => text.repeat(200),
        _ => text,
    }
}

/// What may be taken for a part of a template, or of YAML.
const VALUES: &[&str] = &[
    "a",
    "8",
    "yes",
    "0644",
    "1e400",
    ".inf",
    "~",
    "null",
    "x\ny: z",
    "\n",
    "\r\n",
    ": ",
    " #",
    "#",
    "##",
    "- a",
    "- ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "'",
    "`",
    "${",
    "${alternatives['x']}",
    "% if True:",
    "\n% endif\n",
    "%",
    "%%",
    "<%",
    "</%text>",
    "\u{f0000}0\u{f0001}",
    "\u{f0000}",
    "<<",
    "*base",
    "&a ",
    "!!str ",
    "!!binary aGk=",
    "|\n",
    ">-",
    "---\n",
    "\n...\n",
    "\\",
    "\\\n",
    "\t",
    " ",
    "\u{1}",
    "\u{1c}",
    "\u{7f}",
    "\u{85}",
    "\u{2028}",
    "\u{feff}",
    "\u{fffd}",
    "\u{ffff}",
    "ä€😀",
    "@",
    "? ",
    "=",
    ",",
    "None",
    "alternatives",
];

/// What mutations put in.
const PIECES: &[&str] = &[
    "${",
    "}",
    "${alternatives['x']}",
    "alternatives",
    "['x']",
    "% if True:\n",
    "% endif\n",
    "% else:\n",
    "% for k, v in alternatives.items():\n",
    "% endfor\n",
    "##",
    "%",
    "\\\n",
    "<%",
    "<%text>",
    "</%text>",
    "\n",
    " ",
    "  ",
    "\t",
    ":",
    ": ",
    "- ",
    "-",
    "?",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "#",
    " #",
    "&a ",
    "*a",
    "!",
    "!!str ",
    "!!binary ",
    "|",
    ">",
    "'",
    "\"",
    "%%",
    "@",
    "`",
    "<<: ",
    "---\n",
    "...\n",
    "~",
    "0",
    "1e400",
    ".inf",
    "yes",
    "\\",
    "\u{feff}",
    "\0",
    "ä",
    "\u{f0000}",
    "\u{f0001}",
    "\r\n",
    "(",
    ")",
    "|",
    "in",
    "not ",
];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("it is a number"))
}

/// Calls `each` with the random numbers of each run; what it counts is printed.
fn runs<const N: usize>(
    name: &str,
    default: u64,
    counted: [&str; N],
    each: impl Fn(&mut Random) -> [bool; N],
) -> (u64, [u64; N]) {
    let (seed, runs) = (setting("FUZZ_SEED", 42), setting("FUZZ_RUNS", default));
    let mut counts = [0; N];
    for run in 0..runs {
        let tried = catch_unwind(AssertUnwindSafe(|| {
            each(&mut Random::new(seed ^ (run << 32)))
        }));
        let seen = tried.unwrap_or_else(|panic| {
            eprintln!("{name}: FUZZ_SEED={seed}, run {run}");
            resume_unwind(panic)
        });
        for (count, seen) in counts.iter_mut().zip(seen) {
            *count += u64::from(seen);
        }
    }
    let summary: Vec<String> = counted
        .iter()
        .zip(counts)
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    println!(
        "{name}: FUZZ_SEED={seed} FUZZ_RUNS={runs}: {}",
        summary.join(", ")
    );
    (runs, counts)
}

#[test]
fn a_generated_template_renders_to_its_meaning() {
    let counted = ["rendered", "refused as they must be", "with control lines"];
    let (runs, [rendered, refused, controlled]) =
        runs("made templates", 2_000, counted, |random| {
            let made = Maker::new(random).make();
            let text = made.written(random);
            let given = grammar::variables(random, "");
            let meant = made.meant(&given);
            let found = Template::parse("t", &text).map_err(RenderError::Invalid);
            let controlled = found.as_ref().is_ok_and(|template| !template.is_fixed);
            let found = found.and_then(|template| {
                let rendered = template.render(&given);
                if let Err(missing) = template.check(&given) {
                    assert!(rendered.is_err(), "{missing}\n{text}\n{given:?}");
                }
                rendered
            });
            match (&meant, &found) {
                (Ok(meant), Ok(found)) => assert_eq!(meant, found, "{text}\n{given:?}"),
                (Err(_), Err(error)) => assert!(may_refuse(error), "{error}\n{text}\n{given:?}"),
                _ => panic!("meant {meant:?}\nfound {found:?}\n{text}\n{given:?}"),
            }
            [meant.is_ok(), meant.is_err(), controlled]
        });
    assert!(rendered > runs / 3 && refused > runs / 50 && controlled > runs / 4);
}

/// Whether the fault is with the values of a template that is good.
fn may_refuse(error: &RenderError) -> bool {
    use yaml::ErrorKind::{NotFinite, NumberTooLarge};
    match error {
        RenderError::VariableMissing { .. }
        | RenderError::ValueWithNul { .. }
        | RenderError::KeyTwice { .. } => true,
        RenderError::Invalid(error) => {
            matches!(error.problem, Problem::Yaml(NotFinite | NumberTooLarge))
        }
        RenderError::TooLarge => false,
    }
}

/// Flow collections, explicit keys, tags and anchors, which made templates do not have.
const FLOW: &str = "b: &b {o: &o !!str ${alternatives['x']}, p: 0644, q: [yes, ${alternatives['x']}, {${alternatives['y']}: *o}]}\nspec:\n  \
    <<: [*b, {z: ~}]\n  containers:\n  - {<<: [*b, {r: 1}], s: *b, \"t ${alternatives['x']}\": '${alternatives.get('y', 'd') | trim}'}\n  \
    - ? t\n    : |\n      ${alternatives.get('x', 'd')}\n    ? &k ${alternatives.get('y')}\n    : *k\n";
/// Each control line.
const CONTROLLED: &str = "## c\n% if 'x' in alternatives:\nmetadata:\n  labels: {a: ${alternatives['x']}}\n\
    % elif alternatives.get('y') == '1':\n%% x\n% else:\nmetadata:\n% endif\nspec:\n  containers:\n  - name: a\n    \
    env:\n% for k, v in alternatives.items():\n    - name: ${k}\n      value: \"${v}\"\n% endfor\n    args: [a \\\n b]\n";

fn mutate(text: &str, random: &mut Random) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..random.below(4) {
        let at = random.below(chars.len() + 1);
        let end = |count: usize| (at + count).min(chars.len());
        match random.below(4) {
            0 => drop(chars.splice(at..at, random.pick(PIECES).chars())),
            1 => drop(chars.drain(at..end(1 + random.below(8)))),
            2 => {
                let copy = chars[at..end(random.below(40))].to_vec();
                let to = random.below(chars.len() + 1);
                drop(chars.splice(to..to, copy));
            }
            _ => drop(chars.splice(at..end(1), random.pick(PIECES).chars())),
        }
    }
    chars.into_iter().collect()
}

/// In the reference, what stands for a value; no template and no value has it.
const HARMLESS: char = '\u{e000}';
/// In each value, so that it is seen where it may not be; no template has it.
const CANARY: char = '\u{e001}';

/// Same keys, lengths and values, but for scalars and keys that hold a value.
fn check_same_structure(harmless: &Value, other: &Value) -> Result<(), String> {
    let same = match (harmless, other) {
        (Value::String(text), other) if text.contains(HARMLESS) => {
            !other.is_object() && !other.is_array()
        }
        (Value::Array(left), Value::Array(right)) => {
            for (left, right) in left.iter().zip(right) {
                check_same_structure(left, right)?;
            }
            left.len() == right.len()
        }
        (Value::Object(left), Value::Object(right)) => {
            for ((left_key, left), (right_key, right)) in left.iter().zip(right) {
                if left_key != right_key && !left_key.contains(HARMLESS) {
                    return Err(format!("{left_key} became {right_key}"));
                }
                check_same_structure(left, right)?;
            }
            left.len() == right.len()
        }
        (left, right) => left == right,
    };
    same.then_some(())
        .ok_or_else(|| format!("{harmless}\nbecame\n{other}"))
}

/// Renders `text` with `given`, and compares the result with that of harmless values which take the
/// same branches. Returns whether it was a template, and whether it was rendered.
fn check_structure(text: &str, given: &Variables) -> [bool; 2] {
    let _ = yaml::parse(text).and_then(|tree| tree.to_json());
    let Ok(template) = Template::parse("t", text) else {
        return [false; 2];
    };
    let source = mako::parse(text.strip_prefix('\u{feff}').unwrap_or(text)).unwrap();
    let chosen = select::select("t", &source.parts, given, yaml::TEXT_BYTES_MAX);
    let rendered = template.render(given);
    let Ok(chosen) = chosen else {
        assert!(rendered.is_err());
        return [true, false];
    };
    assert!(
        !chosen.text.contains(CANARY),
        "a value is in the text that is parsed"
    );
    let Ok(rendered) = rendered else {
        return [true, false];
    };
    // The same lines, and in each place of a value another text.
    let harmless = (0..chosen.values.len()).map(|number| format!("{HARMLESS}{number}"));
    let harmless: Vec<String> = harmless.collect();
    let parsed = Parsed::parse("t", &chosen).unwrap();
    let reference = fill::fill("t", &parsed, &harmless, usize::MAX).unwrap();
    if let Err(difference) = check_same_structure(&reference, &rendered) {
        panic!("{difference}\n{text}\n{given:?}");
    }
    [true, true]
}

#[test]
fn a_template_before_its_mutations() {
    let given = [("x", "a"), ("y", "b")].into_iter().collect();
    for text in [FLOW, CONTROLLED] {
        assert_eq!(check_structure(text, &given), [true, true], "{text}");
    }
}

#[test]
fn a_mutated_template_keeps_its_structure() {
    let counted = ["templates", "rendered"];
    let (runs, [templates, rendered]) = runs("mutated templates", 4_000, counted, |random| {
        let text = match random.below(4) {
            0 => FLOW.to_owned(),
            1 => CONTROLLED.to_owned(),
            _ => Maker::new(random).make().written(random),
        };
        let text = mutate(&text, random);
        // Without the canary, values may be those that conditions ask for.
        let mark = ["", "\u{e001}"][random.below(2)];
        check_structure(&text, &grammar::variables(random, mark))
    });
    assert!(templates > runs / 4 && rendered > runs / 6);
}

/// Values that differ from these in one of them, as a rule.
fn varied(given: &Variables, random: &mut Random) -> Variables {
    let mut pairs: Vec<(String, String)> = given
        .iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    match random.below(4) {
        0 => pairs.reverse(),
        1 => drop(pairs.pop()),
        _ => {
            let at = random.below(pairs.len() + 1);
            if let Some((_, value)) = pairs.get_mut(at) {
                *value = text(random);
            } else {
                pairs.push((random.pick(&["x", "y", "unused"]).to_owned(), text(random)));
            }
        }
    }
    pairs.into_iter().collect()
}

/// What is rendered for two callers whose values have the same digest is the same; but for the order of
/// what a loop makes.
#[test]
fn values_with_the_same_digest_make_the_same() {
    let counted = ["rendered twice", "with the same digest", "of other values"];
    let (runs, [rendered, same, of_others]) = runs("digests", 2_000, counted, |random| {
        let text = Maker::new(random).make().written(random);
        let given = grammar::variables(random, "");
        let other = varied(&given, random);
        let Ok(template) = Template::parse("t", &text) else {
            return [false; 3];
        };
        let (Ok(rendered), Ok(beside)) = (template.render(&given), template.render(&other)) else {
            return [false; 3];
        };
        let digest = |values| template.values_digest(values).unwrap();
        let is_same = digest(&given) == digest(&other);
        let sorted = |values: &Variables| {
            let mut pairs: Vec<_> = values
                .iter()
                .map(|(a, b)| [a, b].map(str::to_owned))
                .collect();
            pairs.sort();
            pairs
        };
        let is_reordered = sorted(&given) == sorted(&other);
        if is_reordered {
            assert!(is_same, "{text}\n{given:?}\n{other:?}");
        } else if is_same {
            assert_eq!(rendered, beside, "{text}\n{given:?}\n{other:?}");
        }
        [true, is_same, is_same && !is_reordered]
    });
    assert!(rendered > runs / 4 && same > runs / 20 && of_others > runs / 50);
}
