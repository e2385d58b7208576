//! Valid, invalid and changing files; and the TLS client of other tests.

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

/// A certificate and its key.
pub(in crate::http) struct Pair {
    pub(in crate::http) certificate: CertificateDer<'static>,
    certificate_pem: String,
    key_pem: String,
}

impl Pair {
    pub(in crate::http) fn generate() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Self {
            certificate: made.cert.der().clone(),
            certificate_pem: made.cert.pem(),
            key_pem: made.signing_key.serialize_pem(),
        }
    }

    /// The key as SEC1: what PKCS #8 wraps.
    fn sec1_pem(&self) -> String {
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap();
        let der = key.secret_der();
        let at = der.windows(4).position(|w| w == [0x04, 0x6d, 0x30, 0x6b]);
        let text = STANDARD.encode(&der[at.unwrap() + 2..][..0x6d]);
        format!("-----BEGIN EC PRIVATE KEY-----\n{text}\n-----END EC PRIVATE KEY-----\n")
    }
}

/// A folder with the two files, deleted after the test.
pub(in crate::http) struct Folder(PathBuf);

impl Folder {
    pub(in crate::http) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("config-controller-tls-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub(in crate::http) fn with(pair: &Pair) -> Self {
        let folder = Self::new();
        folder.put(pair);
        folder
    }

    /// Replaces the files by those of this pair.
    pub(in crate::http) fn put(&self, pair: &Pair) {
        self.write("tls.crt", &pair.certificate_pem);
        self.write("tls.key", &pair.key_pem);
    }

    /// Replaces a file atomically.
    fn write(&self, name: &str, text: &str) {
        let new = self.0.join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.0.join(name)).unwrap();
    }

    pub(in crate::http) fn load(&self) -> Result<Tls, String> {
        Tls::load(TlsFiles {
            certificate: self.0.join("tls.crt"),
            key: self.0.join("tls.key"),
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The client's side of a TLS connection.
pub(in crate::http) type Peer = StreamOwned<ClientConnection, TcpStream>;

/// A client's trusted certificate and protocol versions.
#[derive(Clone)]
pub(in crate::http) struct Trust(Arc<ClientConfig>);

impl Trust {
    pub(in crate::http) fn in_pair(pair: &Pair) -> Self {
        Self::with(pair, &[&TLS13, &TLS12])
    }

    /// Supports nothing newer than TLS 1.2.
    pub(in crate::http) fn of_old(pair: &Pair) -> Self {
        Self::with(pair, &[&TLS12])
    }

    fn with(pair: &Pair, can: &[&'static SupportedProtocolVersion]) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(pair.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(can)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// A connection after its handshake.
    pub(in crate::http) fn connect(&self, address: SocketAddr) -> io::Result<Peer> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let name = "localhost".try_into().unwrap();
        let connection = ClientConnection::new(Arc::clone(&self.0), name).unwrap();
        let mut peer = Peer::new(connection, stream);
        while peer.conn.is_handshaking() {
            peer.conn.complete_io(&mut peer.sock)?;
        }
        Ok(peer)
    }
}

/// Whether the connection resumed an earlier session.
pub(in crate::http) fn is_resumed(peer: &Peer) -> bool {
    peer.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
}

#[track_caller]
fn check_problem(folder: &Folder, expected: &str) {
    let problem = folder.load().unwrap_err().to_string();
    let at = folder.0.display().to_string();
    assert_eq!(problem.replace(&at, "FOLDER"), expected);
}

#[test]
fn keys_of_both_forms_are_read() {
    let pair = Pair::generate();
    let folder = Folder::with(&pair);
    assert!(folder.load().is_ok());
    folder.write("tls.key", &pair.sec1_pem());
    assert!(folder.load().is_ok());
}

#[test]
fn unusable_files_are_reported_with_a_remedy() {
    let pair = Pair::generate();
    let folder = Folder::new();
    check_problem(
        &folder,
        "TLS_CERT 'FOLDER/tls.crt' cannot be read: No such file or directory (os error 2)",
    );
    folder.write("tls.crt", "nothing");
    check_problem(
        &folder,
        "TLS_CERT 'FOLDER/tls.crt' holds no certificate: give a PEM file with the server's certificate and then its chain",
    );
    folder.write("tls.crt", &pair.certificate_pem);
    check_problem(
        &folder,
        "TLS_KEY 'FOLDER/tls.key' cannot be read: No such file or directory (os error 2)",
    );
    folder.write("tls.key", &pair.certificate_pem);
    check_problem(
        &folder,
        "TLS_KEY 'FOLDER/tls.key' holds no private key: give a PEM file with one (PKCS #8, PKCS #1 or SEC1) that has no passphrase",
    );
    folder.write("tls.key", &Pair::generate().key_pem);
    check_problem(
        &folder,
        "TLS_KEY 'FOLDER/tls.key' does not belong to the first certificate in TLS_CERT 'FOLDER/tls.crt'",
    );
    folder.write("tls.key", &"x".repeat(1024 * 1024 + 1));
    check_problem(
        &folder,
        "TLS_KEY 'FOLDER/tls.key' cannot be read: it is larger than 1 MiB",
    );
}

#[test]
fn changed_files_are_reloaded_but_not_for_open_connections() {
    let folder = Folder::with(&Pair::generate());
    let tls = folder.load().unwrap();
    let first = Arc::clone(&lock(&tls.current).config);
    tls.look();
    assert!(Arc::ptr_eq(&first, &lock(&tls.current).config), "no change");
    folder.put(&Pair::generate());
    drop(tls.session(Instant::now(), Duration::from_secs(5)));
    assert!(
        Arc::ptr_eq(&first, &lock(&tls.current).config),
        "a connection reads no files"
    );
    tls.look();
    assert!(!Arc::ptr_eq(&first, &lock(&tls.current).config));
}

#[test]
fn unusable_files_leave_the_last_valid_pair_in_use() {
    let pair = Pair::generate();
    let folder = Folder::with(&pair);
    let tls = folder.load().unwrap();
    let first = Arc::clone(&lock(&tls.current).config);
    let next = Pair::generate();
    folder.write("tls.crt", &next.certificate_pem);
    tls.look();
    assert!(Arc::ptr_eq(&first, &lock(&tls.current).config));
    let logged = lock(&tls.current).logged.clone().unwrap().to_string();
    assert!(logged.contains("does not belong"), "{logged}");
    folder.write("tls.key", &next.key_pem);
    tls.look();
    assert!(!Arc::ptr_eq(&first, &lock(&tls.current).config));
    assert_eq!(lock(&tls.current).logged, None);
}

#[test]
fn a_thread_reloads_changed_files_until_shutdown() {
    let folder = Folder::with(&Pair::generate());
    let tls = Arc::new(folder.load().unwrap());
    let stop = Stop::new();
    Tls::watch(&tls, &stop, Arc::new(|cause: &str| panic!("{cause}"))).unwrap();
    let first = Arc::clone(&lock(&tls.current).config);
    folder.put(&Pair::generate());
    let started = Instant::now();
    while Arc::ptr_eq(&first, &lock(&tls.current).config) {
        assert!(started.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    stop.set();
}
