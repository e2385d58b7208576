//! The tokens file, which may change while the service runs.
//!
//! A thread of its own reads the file every second. A mounted Secret is small and changes by a
//! renamed link, so its content is more reliable than its times. The content is parsed by
//! [`super::tokens`]. If the file is invalid or missing, the last valid tokens stay, and the error
//! is logged once.

use super::tokens::Tokens;
use crate::shutdown::Stop;
use crate::threads::{self, OnDeath};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

/// The time between two reads of the file.
const PAUSE: Duration = Duration::from_secs(1);

/// Larger files are an error; the largest useful one is smaller.
const BYTES_MAX: u64 = 1 << 20;

/// The tokens file, and what was last read from it.
#[derive(Debug)]
pub struct TokensFile {
    path: PathBuf,
    current: RwLock<Arc<Tokens>>,
    last: Mutex<Last>,
}

/// The result of the last read.
#[derive(Debug)]
struct Last {
    /// The hash of the content in use.
    hash: [u8; 32],
    /// The last error, so that it is logged once.
    error: Option<String>,
}

impl TokensFile {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with file and line, none with a token.
    pub fn open(path: &Path) -> Result<Self, Vec<String>> {
        let (hash, tokens) = read(path)?;
        log::info!("loaded {} tokens from {}", tokens.count(), path.display());
        Ok(Self {
            path: path.to_owned(),
            current: RwLock::new(Arc::new(tokens)),
            last: Mutex::new(Last { hash, error: None }),
        })
    }

    /// The valid tokens.
    #[must_use]
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reads the file again; if it is invalid, the last valid tokens stay.
    pub fn reload(&self) {
        let mut last = threads::lock(&self.last);
        match read(&self.path) {
            Ok((hash, _)) if hash == last.hash => last.error = None,
            Ok((hash, tokens)) => {
                let (count, path) = (tokens.count(), self.path.display());
                log::info!("reloaded {count} tokens from {path}");
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
                *last = Last { hash, error: None };
            }
            Err(problems) => {
                let error = problems.join("; ");
                if last.error.as_ref() != Some(&error) {
                    log::error!("keeping the last valid tokens: {error}");
                    last.error = Some(error);
                }
            }
        }
    }

    /// Starts the thread that reads the file until `stop`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn watch(file: &Arc<Self>, stop: &Stop, on_death: OnDeath) -> std::io::Result<()> {
        let (file, stop) = (Arc::clone(file), stop.clone());
        let run = move || {
            while !stop.wait(PAUSE) {
                file.reload();
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
        let located = problems.iter().map(|problem| format!("{shown}, {problem}"));
        located.collect::<Vec<_>>()
    })?;
    Ok((Sha256::digest(&text).into(), tokens))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::review::Bearer;

    const OLD: &str = "old-0123456789abcdef";
    const NEW: &str = "new-0123456789abcdef";

    /// A temporary file, removed when dropped.
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
    fn a_valid_change_is_loaded_and_an_invalid_one_is_not() {
        let path = Temporary::new("tokens", OLD);
        let file = TokensFile::open(&path.0).unwrap();
        assert!(knows(&file, OLD));
        for broken in ["", "short", "\u{e4}"] {
            std::fs::write(&path.0, broken).unwrap();
            file.reload();
            assert!(knows(&file, OLD));
            assert!(file.last.lock().unwrap().error.is_some());
        }
        std::fs::write(&path.0, NEW).unwrap();
        file.reload();
        assert!(knows(&file, NEW) && !knows(&file, OLD));
        std::fs::remove_file(&path.0).unwrap();
        file.reload();
        assert!(knows(&file, NEW));
        let error = file.last.lock().unwrap().error.clone().unwrap();
        assert!(error.contains("cannot be read"), "{error}");
    }

    #[test]
    fn errors_at_the_start_name_file_and_line() {
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
