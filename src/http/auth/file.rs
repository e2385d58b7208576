//! The file of the tokens, which may change while the service runs.
//!
//! A thread of its own reads it every second: a mounted Secret is small and changes by a
//! renamed link, so its text says more than its times do. What the text means is
//! in [`super::tokens`]. A file that is broken or gone changes nothing, and is told once.

use super::tokens::Tokens;
use crate::shutdown::Stop;
use crate::threads::{self, OnDeath};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// The pause between two looks at the file.
const PAUSE: Duration = Duration::from_secs(1);

/// More than the largest file that makes sense.
const BYTES_MAX: u64 = 1 << 20;

/// A file of tokens, and what was last read from it.
#[derive(Debug)]
pub struct TokensFile {
    path: PathBuf,
    current: RwLock<Arc<Tokens>>,
    last: Mutex<Last>,
}

/// What the last look has shown.
#[derive(Debug)]
struct Last {
    /// The hash of the text in use.
    hash: [u8; 32],
    /// What was wrong, so that it is told once.
    complaint: Option<String>,
}

impl TokensFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with file and line, none with a token.
    pub fn open(path: &Path) -> Result<Self, Vec<String>> {
        let (hash, tokens) = read(path)?;
        log::info!("{} tokens may call, from {}", tokens.len(), path.display());
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(tokens)),
            last: Mutex::new(Last {
                hash,
                complaint: None,
            }),
        })
    }

    /// The tokens that are good now.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again; what was good stays where the new text is not.
    pub fn look(&self) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match read(&self.path) {
            Ok((hash, _)) if hash == last.hash => last.complaint = None,
            Ok((hash, tokens)) => {
                log::info!("{} tokens may call, read again", tokens.len());
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
                *last = Last {
                    hash,
                    complaint: None,
                };
            }
            Err(problems) => {
                let complaint = problems.join("; ");
                if last.complaint.as_ref() != Some(&complaint) {
                    log::error!("keeping the tokens that were read last: {complaint}");
                    last.complaint = Some(complaint);
                }
            }
        }
    }

    /// Starts the thread that looks again and again until `stop`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(file: &Arc<Self>, stop: &Stop, on_death: OnDeath) -> std::io::Result<()> {
        let (file, stop) = (Arc::clone(file), stop.clone());
        let run = move || {
            while !stop.wait(PAUSE) {
                file.look();
            }
        };
        threads::spawn("tokens".into(), on_death, run).map(drop)
    }
}

fn read(path: &Path) -> Result<([u8; 32], Tokens), Vec<String>> {
    let shown = format!("AUTH_TOKENS_FILE {}", path.display());
    let mut text = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| vec![format!("{shown} cannot be read: {error}")])?;
    if text.len() as u64 > BYTES_MAX {
        return Err(vec![format!("{shown} is larger than 1 MiB")]);
    }
    let tokens = Tokens::parse(&text).map_err(|problems| {
        let told = problems.iter().map(|problem| format!("{shown}, {problem}"));
        told.collect::<Vec<_>>()
    })?;
    Ok((Sha256::digest(&text).into(), tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::review::Bearer;

    const OLD: &str = "old-0123456789abcdef";
    const NEW: &str = "new-0123456789abcdef";

    /// A path in the system's folder for such, removed with its value.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(name: &str, text: &str) -> Self {
            let name = format!("config-controller-{name}-{}", std::process::id());
            let temporary = Self(std::env::temp_dir().join(name));
            std::fs::write(&temporary.0, text).unwrap();
            temporary
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn knows(file: &TokensFile, token: &str) -> bool {
        file.tokens().find(&Bearer::new(token)).is_some()
    }

    #[test]
    fn a_changed_file_counts_and_a_broken_one_does_not() {
        let path = Temporary::new("tokens", OLD);
        let file = TokensFile::open(&path.0).unwrap();
        assert!(knows(&file, OLD));
        for broken in ["", "short", "\u{e4}"] {
            std::fs::write(&path.0, broken).unwrap();
            file.look();
            assert!(knows(&file, OLD));
            assert!(file.last.lock().unwrap().complaint.is_some());
        }
        std::fs::write(&path.0, NEW).unwrap();
        file.look();
        assert!(knows(&file, NEW) && !knows(&file, OLD));
        std::fs::remove_file(&path.0).unwrap();
        file.look();
        assert!(knows(&file, NEW));
        let complaint = file.last.lock().unwrap().complaint.clone().unwrap();
        assert!(complaint.contains("cannot be read"), "{complaint}");
    }

    #[test]
    fn what_is_wrong_at_the_start_is_told_with_file_and_line() {
        let path = Temporary::new("tokens-broken", &format!("{OLD} a b c\nshort\n"));
        let problems = TokensFile::open(&path.0).unwrap_err();
        assert_eq!(problems.len(), 2);
        assert!(
            problems[1].starts_with("AUTH_TOKENS_FILE /"),
            "{problems:?}"
        );
        assert!(problems[1].contains(", line 2: "), "{problems:?}");
        assert!(!problems.join(" ").contains(OLD));
    }
}
