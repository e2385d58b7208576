//! No files of `src` import each other, neither two of them nor more in a circle: otherwise neither
//! could be read without the other.
//!
//! A file and those in the folder of its name are one module in pieces: in Rust a child sees the
//! private items of its parent. So imports between a module and those inside it do not count. An
//! item counts for the file that defines it, not for one that re-exports it with `use`. Tests may
//! import what they like.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, check_none, sources};

/// A path as it is written, or where it leads: its segments.
type Path = Vec<String>;

/// What a file names.
#[derive(Default)]
struct Names {
    /// All paths of more than one segment, and all that are imported.
    paths: Vec<Path>,
    /// The names that `use` brings in, and what they stand for.
    imported: BTreeMap<String, Path>,
    /// The modules that it declares for tests only.
    test_modules: Vec<String>,
}

/// Words, `::`, and single characters of Rust without comments, strings and what is for tests only.
fn tokens(source: &Source) -> Vec<String> {
    let mut tokens = Vec::new();
    for line in source.code() {
        let mut rest = without_strings(line);
        while let Some(first) = rest.chars().next() {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            let length = match first {
                c if is_word(c) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                ':' if rest.starts_with("::") => 2,
                c => c.len_utf8(),
            };
            let token: String = rest.drain(..length).collect();
            if !token.trim().is_empty() {
                tokens.push(token);
            }
        }
    }
    tokens
}

/// A line without its strings and its comment at the end.
fn without_strings(line: &str) -> String {
    let mut kept = String::new();
    for (place, piece) in line.replace("\\\"", "").split('"').enumerate() {
        if place % 2 == 0 {
            let (code, comment) = piece
                .split_once("//")
                .map_or((piece, false), |(c, _)| (c, true));
            kept.push_str(code);
            if comment {
                break;
            }
        }
    }
    kept
}

fn names(source: &Source) -> Names {
    let tokens = tokens(source);
    let mut names = Names {
        test_modules: test_modules(&source.text),
        ..Names::default()
    };
    let mut at = 0;
    while at < tokens.len() {
        let follows_path = at > 0 && tokens[at - 1] == "::";
        if tokens[at] == "use" {
            at = names.read_use(&tokens, at + 1, &Path::new());
        } else if !follows_path && tokens.get(at + 1).is_some_and(|next| next == "::") {
            let mut path = vec![tokens[at].clone()];
            while tokens.get(at + 1).is_some_and(|next| next == "::") && at + 2 < tokens.len() {
                path.push(tokens[at + 2].clone());
                at += 2;
            }
            names.paths.push(path);
        }
        at += 1;
    }
    names
}

/// The modules after a `#[cfg(test)]`.
fn test_modules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let declared = lines
        .windows(2)
        .filter(|two| two[0].trim() == "#[cfg(test)]");
    let name = |two: &[&str]| {
        let (_, name) = two[1].split_once("mod ")?;
        Some(name.trim_end_matches([';', ' ', '{']).to_owned())
    };
    declared.filter_map(name).collect()
}

impl Names {
    /// Reads one tree of a `use` that begins at `at`; returns the place of the token that ends it.
    fn read_use(&mut self, tokens: &[String], mut at: usize, prefix: &Path) -> usize {
        let mut path = prefix.clone();
        loop {
            match tokens[at].as_str() {
                "{" => {
                    while tokens[at] != "}" {
                        at = self.read_use(tokens, at + 1, &path);
                    }
                    return at + 1;
                }
                "::" => at += 1,
                "," | ";" | "}" => break,
                "as" => {
                    self.import(&path, Some(&tokens[at + 1]));
                    return at + 2;
                }
                word => {
                    path.push(word.to_owned());
                    at += 1;
                }
            }
        }
        if path.len() > prefix.len() {
            self.import(&path, None);
        }
        at
    }

    fn import(&mut self, path: &Path, name: Option<&String>) {
        let mut path = path.clone();
        if path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(name) = name.or_else(|| path.last()) {
            self.imported.insert(name.clone(), path.clone());
        }
        self.paths.push(path);
    }
}

/// All files of `src` but tests, by the path of their module.
struct Modules(BTreeMap<Path, Names>);

impl Modules {
    fn read() -> Self {
        let mut all = BTreeMap::new();
        for source in sources("src") {
            let module = source
                .path
                .trim_start_matches("src/")
                .trim_end_matches(".rs");
            let module: Path = module.split('/').map(str::to_owned).collect();
            let module = match module.last().map(String::as_str) {
                Some("mod" | "lib") => module[..module.len() - 1].to_vec(),
                Some("main") => continue,
                _ => module,
            };
            all.insert(module, names(&source));
        }
        let for_tests: Vec<Path> = all
            .iter()
            .flat_map(|(module, names)| names.test_modules.iter().map(|name| child(module, name)))
            .collect();
        all.retain(|module, _| !for_tests.iter().any(|test| module.starts_with(test)));
        assert!(all.len() > 50, "the modules are found");
        Self(all)
    }

    /// The file that defines the item `path`, as written in `module`; `None` if it is in another
    /// crate.
    fn home(&self, module: &Path, path: &[String], depth: usize) -> Option<Path> {
        let (first, mut rest) = path.split_first()?;
        let mut at = module.clone();
        match first.as_str() {
            // `use a::b` passed on and on in a circle would not compile.
            _ if depth > 8 => return None,
            "crate" => at.clear(),
            "self" => {}
            "super" => {
                at.pop();
                while let Some(("super", after)) = rest.split_first().map(|(f, a)| (f.as_str(), a))
                {
                    at.pop();
                    rest = after;
                }
            }
            name if self.0.contains_key(&child(module, name)) => at.push(name.to_owned()),
            name => {
                let meant = self.0.get(module)?.imported.get(name)?;
                let mut meant = meant.clone();
                if meant.first().is_none_or(|own| own == name) {
                    return None;
                }
                meant.extend_from_slice(rest);
                return self.home(module, &meant, depth + 1);
            }
        }
        while let Some((name, after)) = rest.split_first()
            && self.0.contains_key(&child(&at, name))
        {
            at.push(name.clone());
            rest = after;
        }
        let passed_on = rest.first().and_then(|name| {
            let mut meant = self.0.get(&at)?.imported.get(name)?.clone();
            meant.extend_from_slice(&rest[1..]);
            self.home(&at, &meant, depth + 1)
        });
        Some(passed_on.unwrap_or(at))
    }

    /// The modules from which a module imports, but for those that it is part of and its parts.
    fn imports(&self, module: &Path) -> BTreeSet<Path> {
        let homes = self.0[module]
            .paths
            .iter()
            .filter_map(|path| self.home(module, path, 0));
        homes
            .filter(|home| !home.starts_with(module) && !module.starts_with(home))
            .collect()
    }
}

fn child(module: &Path, name: &str) -> Path {
    let mut path = module.clone();
    path.push(name.to_owned());
    path
}

/// A circle of imports from `start` back to it, the shortest first; empty where there is none.
fn circle(imports: &BTreeMap<Path, BTreeSet<Path>>, start: &Path) -> Vec<Path> {
    let mut ways = std::collections::VecDeque::from([vec![start.clone()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        for next in way
            .last()
            .and_then(|last| imports.get(last))
            .into_iter()
            .flatten()
        {
            if next == start {
                return way;
            }
            if seen.insert(next.clone()) {
                ways.push_back([way.clone(), vec![next.clone()]].concat());
            }
        }
    }
    Vec::new()
}

#[test]
fn no_files_import_each_other() {
    let modules = Modules::read();
    let imports: BTreeMap<Path, BTreeSet<Path>> = modules
        .0
        .keys()
        .map(|module| (module.clone(), modules.imports(module)))
        .collect();
    let edges: usize = imports.values().map(BTreeSet::len).sum();
    assert!(edges > 200, "only {edges} imports are found");
    let mut offences = Vec::new();
    for module in imports.keys() {
        let circle = circle(&imports, module);
        // Reported once, by the first of them.
        if circle.iter().min() == Some(module) {
            let names: Vec<String> = circle.iter().map(|one| one.join("::")).collect();
            offences.push(names.join(" -> "));
        }
    }
    check_none("files that import each other", &offences);
}

#[test]
fn imports_are_found_however_they_are_written() {
    let source = |text: &str| Source {
        path: String::new(),
        text: text.to_owned(),
    };
    let text = "use super::a::{self, b::{C, D as E}};\nuse f; // use x::y;\n\
                fn g() { let s = \"h::i\"; crate::j::k(l::m::<n::O>()) }\n\
                #[cfg(test)]\nmod tests;\nuse p::*;\n#[cfg(test)]\nmod other {\nuse q::r;\n";
    let found = names(&source(text));
    let paths: Vec<String> = found.paths.iter().map(|path| path.join("::")).collect();
    let expected = [
        "super::a",
        "super::a::b::C",
        "super::a::b::D",
        "f",
        "crate::j::k",
        "l::m::<",
        "n::O",
        "p::*",
    ];
    assert_eq!(paths, expected);
    assert_eq!(found.imported["E"].join("::"), "super::a::b::D");
    assert_eq!(found.test_modules, ["tests", "other"]);
}
