//! TLS on the port: the only file that names the TLS library for the server's side.
//!
//! [`Tls`] holds certificate and key, and a thread that reloads them when the files change;
//! [`Session`] is TLS on one connection. A session owns no socket: it is passed one for each read
//! and write and never blocks. [`Session::has_to_write`] and [`Session::deadline`] return when to
//! call it again. No HTTP lives here.
//!
//! An idle session keeps about 8 KiB, a busy one at most 60 KiB more: two records being received and
//! one being sent, or a handshake of [`QUIET_BYTES_MAX`]. [`Session::held_bytes`] counts the bytes
//! that depend on the peer.

mod records;

use crate::shutdown::Stop;
use crate::threads::{self, OnDeath, lock};
use records::Records;
use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ServerSessionMemoryCache;
use rustls::version::{TLS12, TLS13};
use rustls::{InconsistentKeys, ServerConfig, ServerConnection};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The interval at which the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Sessions that can be resumed; each takes about 300 bytes, and a handshake makes two.
const RESUMABLE_MAX: usize = 1024;

/// Bytes of a response that are encrypted at a time: one record (RFC 8446 §5.1).
pub(in crate::http) const RECORD_BYTES: usize = 16 * 1024;

/// Most bytes without content that a peer may send in a row: a handshake, or empty records. One
/// record with content is smaller.
pub const QUIET_BYTES_MAX: usize = 20 * 1024;

/// The smallest buffer that the library reads into; each session keeps one.
const BUFFER_MIN: usize = 4096;

/// What the library takes for each record beside its content: an entry of its table, which may be
/// half empty, and the allocator's overhead.
const CHUNK_BYTES: usize = 64;

/// Records whose entries are part of what an idle session keeps.
const CHUNKS_FREE: usize = 4;

/// How often a session reads from its socket before other connections get a turn.
const READS_AT_ONCE: usize = 16;

/// Inode, size and modification time of a file; `None` if there was none.
type Look = Option<(u64, u64, i64, i64)>;

/// The files for HTTPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// `TLS_CERT`: the certificate chain, PEM.
    pub certificate: PathBuf,
    /// `TLS_KEY`: the private key, PEM.
    pub key: PathBuf,
}

impl TlsFiles {
    fn look(&self) -> [Look; 2] {
        [&self.certificate, &self.key].map(|path| {
            let of = fs::metadata(path).ok()?;
            Some((of.ino(), of.len(), of.mtime(), of.mtime_nsec()))
        })
    }

    fn read(&self) -> Result<Arc<ServerConfig>, String> {
        let chain = self.chain()?;
        let key = self.key()?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map(|builder| builder.with_no_client_auth())
            .and_then(|builder| builder.with_single_cert(chain, key))
            .map_err(|error| self.unusable(&error))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config.session_storage = ServerSessionMemoryCache::new(RESUMABLE_MAX);
        let config = Arc::new(config);
        ServerConnection::new(Arc::clone(&config)).map_err(|error| self.unusable(&error))?;
        Ok(config)
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, String> {
        let text = read("TLS_CERT", &self.certificate)?;
        let at = self.certificate.display();
        let chain: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
        match chain {
            Ok(chain) if chain.is_empty() => Err(format!(
                "TLS_CERT '{at}' holds no certificate: give a PEM file with the server's certificate and then its chain"
            )),
            Ok(chain) => Ok(chain),
            Err(error) => Err(format!("TLS_CERT '{at}' is not a PEM file: {error}")),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, String> {
        let text = read("TLS_KEY", &self.key)?;
        let at = self.key.display();
        PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => format!(
                "TLS_KEY '{at}' holds no private key: give a PEM file with one (PKCS #8, PKCS #1 or SEC1) that has no passphrase"
            ),
            error => format!("TLS_KEY '{at}' is not a PEM file: {error}"),
        })
    }

    fn unusable(&self, error: &rustls::Error) -> String {
        let (certificate, key) = (self.certificate.display(), self.key.display());
        match error {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!(
                    "TLS_KEY '{key}' does not belong to the first certificate in TLS_CERT '{certificate}'"
                )
            }
            error => {
                format!("TLS_CERT '{certificate}' and TLS_KEY '{key}' cannot be used: {error}")
            }
        }
    }
}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    let unreadable =
        |why: &dyn fmt::Display| format!("{setting} '{}' cannot be read: {why}", path.display());
    let mut text = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text))
        .map_err(|error| unreadable(&error))?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(unreadable(&"it is larger than 1 MiB"));
    }
    Ok(text)
}

/// Certificate and key, reloaded when their files change.
pub struct Tls {
    files: TlsFiles,
    current: Mutex<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// The state of the files when `config` was read.
    looked: [Look; 2],
    /// The problem that was logged last.
    logged: Option<String>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads certificate chain and key (PEM), and checks that they belong together.
    ///
    /// # Errors
    /// If a file is missing or malformed, or the two do not belong together; and what to do.
    pub fn load(files: TlsFiles) -> Result<Self, String> {
        let looked = files.look();
        let config = files.read()?;
        Ok(Self {
            files,
            current: Mutex::new(Current {
                config,
                looked,
                logged: None,
            }),
        })
    }

    /// Starts the thread that reloads changed files until `stop`. I/O threads never read them, since
    /// the file system may block.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(tls: &Arc<Self>, stop: &Stop, on_death: OnDeath) -> io::Result<()> {
        let (tls, stop) = (Arc::clone(tls), stop.clone());
        let run = move || {
            while !stop.wait(LOOK_EVERY) {
                tls.look();
            }
        };
        threads::spawn("certificate".into(), on_death, run).map(drop)
    }

    /// TLS for a connection that was accepted at `now`, with this timeout for its handshake.
    ///
    /// # Panics
    /// Never: the same call succeeded when the files were read.
    pub fn session(&self, now: Instant, handshake: Duration) -> Session {
        let config = Arc::clone(&lock(&self.current).config);
        let tls = ServerConnection::new(config).expect("succeeded when the files were read");
        Session {
            tls,
            records: Records::default(),
            quiet: 0,
            buffer: BUFFER_MIN,
            buffer_peak: BUFFER_MIN,
            unread: 0,
            content: 0,
            chunks: 0,
            taken: 0,
            handshake_by: Some(now + handshake),
            first: None,
            closing: false,
        }
    }

    /// Reloads the files if they have changed. If they cannot be used, the last valid pair stays in
    /// use, and the problem is logged once.
    pub(in crate::http) fn look(&self) {
        let looked = lock(&self.current).looked;
        let look = self.files.look();
        if look == looked {
            return;
        }
        let read = self.files.read();
        let mut current = lock(&self.current);
        match read {
            Ok(config) => {
                log::info!("reloaded certificate and key of the port");
                current.config = config;
                current.looked = look;
                current.logged = None;
            }
            Err(problem) if current.logged.as_ref() != Some(&problem) => {
                log::error!(
                    "cannot reload certificate and key of the port: {problem}; keeping the last valid pair"
                );
                current.logged = Some(problem);
            }
            Err(_) => {}
        }
    }
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many bytes; 0 means that the peer has closed its side.
    pub count: usize,
    /// The socket was emptied.
    pub emptied: bool,
}

impl Received {
    /// So many bytes; there may be more.
    const fn some(count: usize) -> Self {
        let emptied = false;
        Self { count, emptied }
    }
}

/// TLS on one connection.
#[derive(Debug)]
pub struct Session {
    tls: ServerConnection,
    records: Records,
    /// Bytes since the last content.
    quiet: usize,
    /// The size of the buffer that records are read into.
    buffer: usize,
    /// The largest that it has been.
    buffer_peak: usize,
    /// Bytes of content that have not been read.
    unread: usize,
    /// Bytes of memory of the records that they are in.
    content: usize,
    /// The most records that were processed at a time.
    chunks: usize,
    /// Bytes of the response in the record that is being sent.
    taken: usize,
    /// `None` once the handshake is complete.
    handshake_by: Option<Instant>,
    /// The first byte that the peer has sent.
    first: Option<u8>,
    /// The sending side is being closed, or is closed.
    closing: bool,
}

/// A socket that is being read; notes what passes.
struct Tap<'a, S> {
    stream: &'a mut S,
    records: &'a mut Records,
    first: &'a mut Option<u8>,
    /// The room that the library has for more.
    room: usize,
    /// Less was read than there was room for.
    short: bool,
}

impl<S: Read> Read for Tap<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.room = into.len();
        let count = self.stream.read(into)?;
        let bytes = &into[..count];
        self.first.get_or_insert(*bytes.first().unwrap_or(&0));
        self.records.pass(bytes);
        self.short = count < into.len();
        Ok(count)
    }
}

/// A socket from which nothing arrives; notes the room for it.
struct Silent {
    room: usize,
}

impl Read for Silent {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.room = into.len();
        Err(ErrorKind::WouldBlock.into())
    }
}

impl Session {
    /// Reads from the socket and decrypts into `into`. A peer that closes without close_notify
    /// (RFC 8446 §6.1) counts as one that has closed its side: HTTP's own framing shows truncation.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when nothing has arrived. [`ErrorKind::Interrupted`] when only
    /// records without content were read and there may be more. Other errors end the connection:
    /// those of the socket, and [`ErrorKind::InvalidData`] for bytes that are not TLS, after which
    /// the peer gets an alert.
    pub fn read(
        &mut self,
        stream: &mut (impl Read + Write),
        into: &mut [u8],
    ) -> io::Result<Received> {
        let received = self.read_content(stream, into);
        self.shrink();
        received
    }

    fn read_content(
        &mut self,
        stream: &mut (impl Read + Write),
        into: &mut [u8],
    ) -> io::Result<Received> {
        let mut count = 0;
        let mut emptied = false;
        for _ in 0..READS_AT_ONCE {
            match self.tls.reader().read(&mut into[count..]) {
                Ok(0) => return Ok(Received::some(count)),
                Ok(more) => {
                    count += more;
                    self.unread = self.unread.saturating_sub(more);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    return Ok(Received::some(count));
                }
                Err(error) => return Err(error),
            }
            if count == into.len() {
                return Ok(Received::some(count));
            }
            if count > 0 && emptied {
                return Ok(Received { count, emptied });
            }
            match self.read_records(stream) {
                Ok(records) => emptied = records.emptied,
                Err(error) if error.kind() == ErrorKind::WouldBlock && count > 0 => {
                    let emptied = true;
                    return Ok(Received { count, emptied });
                }
                Err(error) => return Err(error),
            }
        }
        if count == 0 {
            return Err(ErrorKind::Interrupted.into());
        }
        Ok(Received::some(count))
    }

    /// Continues the handshake only, while nothing else can be read.
    ///
    /// # Errors
    /// As [`Session::read`], and [`ErrorKind::UnexpectedEof`] when the peer has gone.
    pub fn continue_handshake(&mut self, stream: &mut (impl Read + Write)) -> io::Result<()> {
        for _ in 0..READS_AT_ONCE {
            if self.handshake_by.is_none() {
                return Ok(());
            }
            if self.read_records(stream)?.count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Reads once from the socket, and processes the complete records.
    fn read_records(&mut self, stream: &mut (impl Read + Write)) -> io::Result<Received> {
        let mut tap = Tap {
            stream: &mut *stream,
            records: &mut self.records,
            first: &mut self.first,
            room: 0,
            short: false,
        };
        let before = tap.records.pending();
        let count = self.tls.read_tls(&mut tap)?;
        let length = before + tap.room;
        if before == 0 {
            self.buffer = length;
        } else if length > self.buffer {
            // The library's buffer at least doubles when it grows.
            self.buffer = length.max(2 * self.buffer);
        }
        self.buffer_peak = self.buffer_peak.max(self.buffer);
        let emptied = tap.short;
        self.quiet += count;
        match self.tls.process_new_packets() {
            Ok(state) => {
                if self.handshake_by.is_some() && !self.tls.is_handshaking() {
                    self.handshake_by = None;
                    self.quiet = self.records.pending();
                }
                self.unread = state.plaintext_bytes_to_read();
                let records = self.records.take_ended();
                if self.unread > 0 {
                    self.quiet = self.records.pending();
                    self.content = self.unread + records * CHUNK_BYTES;
                    self.chunks = self.chunks.max(records);
                }
                if self.quiet > QUIET_BYTES_MAX {
                    let why = "the peer sends records without content";
                    return Err(io::Error::new(ErrorKind::InvalidData, why));
                }
                Ok(Received { count, emptied })
            }
            Err(error) => {
                if !self.is_plain_http() {
                    // The alert with the cause; the peer may be gone.
                    let _ = self.flush(stream);
                }
                Err(io::Error::new(ErrorKind::InvalidData, error))
            }
        }
    }

    /// Makes the library return the buffer of a long record that has ended: it does so on its next
    /// read, and the peer may send nothing more.
    fn shrink(&mut self) {
        if self.buffer > BUFFER_MIN && self.records.pending() == 0 {
            // The library may not read at all.
            let mut silent = Silent { room: self.buffer };
            let _ = self.tls.read_tls(&mut silent);
            self.buffer = silent.room;
        }
    }

    /// Sends what is buffered and as much of `pieces` as the socket takes; returns how many bytes of
    /// `pieces` were sent in complete records. Until then `pieces` must begin with the same bytes on
    /// the next call: the record that was begun contains them.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when the socket is full; other errors end the connection.
    pub fn write(&mut self, stream: &mut impl Write, pieces: [&[u8]; 2]) -> io::Result<usize> {
        self.flush(stream)?;
        if self.taken == 0 && self.handshake_by.is_none() && !self.closing {
            let [head, tail] = pieces;
            let head = &head[..head.len().min(RECORD_BYTES)];
            let tail = &tail[..tail.len().min(RECORD_BYTES - head.len())];
            if !head.is_empty() || !tail.is_empty() {
                let slices = [IoSlice::new(head), IoSlice::new(tail)];
                self.taken = self.tls.writer().write_vectored(&slices)?;
                if self.taken == 0 {
                    return Err(ErrorKind::WriteZero.into());
                }
                self.flush(stream)?;
            }
        }
        Ok(std::mem::take(&mut self.taken))
    }

    /// Whether [`Session::write`] has something to send; `response`: whether plain bytes are waiting.
    #[must_use]
    pub fn has_to_write(&self, response: bool) -> bool {
        self.tls.wants_write() || (response && self.handshake_by.is_none() && !self.closing)
    }

    fn flush(&mut self, stream: &mut impl Write) -> io::Result<()> {
        while self.tls.wants_write() {
            if self.tls.write_tls(stream)? == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// Sends close_notify (RFC 8446 §6.1), unless a response is cut off, which the peer must be able
    /// to notice; returns whether all has been sent. Nothing can be written after it.
    pub fn close_sending(&mut self, stream: &mut impl Write) -> bool {
        if !self.closing && self.taken == 0 {
            self.closing = true;
            self.tls.send_close_notify();
        }
        self.flush(stream).is_ok()
    }

    /// Whether the sending side is to be closed.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.closing
    }

    /// The deadline of the handshake; `None` once it is complete.
    #[must_use]
    pub const fn deadline(&self) -> Option<Instant> {
        self.handshake_by
    }

    /// Whether the peer has sent plain HTTP instead of a handshake: the first byte is a letter of a
    /// method, not a record type.
    #[must_use]
    pub fn is_plain_http(&self) -> bool {
        let letter = self.first.is_some_and(|first| first.is_ascii_uppercase());
        self.handshake_by.is_some() && letter
    }

    /// Bytes of memory for what the peer has sent, and for the response that is being sent, beyond
    /// those of an idle session. `is_empty`: nothing of what it has sent is kept elsewhere.
    #[must_use]
    pub fn held_bytes(&self, is_empty: bool) -> usize {
        // What was received lies in the hole that the buffer of a long record has left. The rest of
        // the hole is too small for the buffer of another.
        let buffer = if is_empty {
            self.buffer
        } else {
            self.buffer_peak
        };
        let buffer = buffer.saturating_sub(BUFFER_MIN);
        // The library keeps its table of records as large as it has been once.
        let table = self.chunks.saturating_sub(CHUNKS_FREE) * CHUNK_BYTES;
        let content = if self.unread > 0 { self.content } else { 0 };
        buffer.max(self.quiet) + content + table + self.taken
    }
}

#[cfg(test)]
pub(in crate::http) mod tests;
