//! [`Acceptor`]: accepts connections, and survives every error of the listener.
//!
//! No error ends accepting. An error of one connection is counted, and the next connection is
//! accepted. Where files or memory have run out, one connection is refused with the help of a
//! reserved file; if that fails, accepting pauses. It never spins: the poll loop resumes it when
//! the pause is over. Bounds on connections are in [`super::admission`].

use super::admission::Permit;
use super::stats::ThreadStats;
use mio::net::{TcpListener, TcpStream};
use rustix::net::sockopt::set_tcp_user_timeout;
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// An admitted connection on the way to its thread.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: IpAddr,
    pub(super) permit: Permit,
}

#[derive(Debug)]
pub(super) struct Acceptor {
    listener: TcpListener,
    /// Closed for a moment when no file is left, so that a connection can be accepted and closed.
    reserve: Option<OwnedFd>,
    /// There may be a connection to accept.
    ready: bool,
    resume_at: Option<Instant>,
    pause: Duration,
}

impl Acceptor {
    pub(super) fn new(listener: std::net::TcpListener) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener);
        Ok(Self {
            reserve: Some(listener.as_fd().try_clone_to_owned()?),
            listener,
            ready: true,
            resume_at: None,
            pause: PAUSE_MIN,
        })
    }

    pub(super) const fn source(&mut self) -> &mut TcpListener {
        &mut self.listener
    }

    /// The poller has reported an event.
    pub(super) const fn wake(&mut self) {
        self.ready = true;
    }

    /// Whether there may be a connection to accept now.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.ready && self.resume_at.is_none_or(|at| at <= now)
    }

    /// When accepting resumes after an error.
    pub(super) fn resume_at(&self) -> Option<Instant> {
        self.resume_at.filter(|_| self.ready)
    }

    /// The next connection; `None` when the backlog is empty, or accepting pauses.
    /// `busy` is sent to a peer when no file is left.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        stats: &ThreadStats,
        busy: &[u8],
    ) -> Option<(TcpStream, IpAddr)> {
        while self.is_ready(now) {
            self.resume_at = None;
            match self.listener.accept() {
                Ok((stream, address)) => {
                    self.pause = PAUSE_MIN;
                    stats.accepted.add(1);
                    return Some((stream, address.ip().to_canonical()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    stats.accept_errors.add(1);
                    self.recover(&error, now, stats, busy);
                }
            }
        }
        None
    }

    /// After an error that is not the listener's, accepting continues at once.
    fn recover(&mut self, error: &std::io::Error, now: Instant, stats: &ThreadStats, busy: &[u8]) {
        if is_of_one_connection(error) {
            return;
        }
        if self.pause == PAUSE_MIN {
            log::warn!("cannot accept a connection: {error}; retrying");
        }
        if !self.turn_one_away(stats, busy) {
            self.resume_at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }

    /// Accepts one connection with the reserved file, sends `busy`, and closes it; whether that
    /// worked.
    fn turn_one_away(&mut self, stats: &ThreadStats, busy: &[u8]) -> bool {
        let Some(reserve) = self.reserve.take() else {
            self.reserve = self.listener.as_fd().try_clone_to_owned().ok();
            return false;
        };
        drop(reserve);
        let accepted = self.listener.accept();
        let turned_away = match accepted {
            Ok((stream, _)) => {
                stats.accepted.add(1);
                stats.dropped.add(1);
                turn_away(stream, busy);
                true
            }
            Err(error) => {
                self.ready = error.kind() != ErrorKind::WouldBlock;
                false
            }
        };
        self.reserve = self.listener.as_fd().try_clone_to_owned().ok();
        turned_away && self.reserve.is_some()
    }
}

/// How long the kernel tries to send the rest to a peer that is turned away, in milliseconds.
const TURNED_AWAY_MS: u32 = 2000;

/// Sends what fits, and closes.
pub(super) fn turn_away(mut stream: TcpStream, busy: &[u8]) {
    // Errors mean that the peer has gone.
    let _ = set_tcp_user_timeout(&stream, TURNED_AWAY_MS);
    let _ = stream.write(busy);
    let _ = stream.shutdown(std::net::Shutdown::Write);
}

/// Errors of a connection that had waited, as accept(2) passes them on.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::HostUnreachable
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_one_connection_are_distinguished_from_those_of_the_listener() {
        let aborted = std::io::Error::from(ErrorKind::ConnectionAborted);
        assert!(is_of_one_connection(&aborted));
        const EMFILE: i32 = 24;
        assert!(!is_of_one_connection(&std::io::Error::from_raw_os_error(
            EMFILE
        )));
    }

    #[test]
    fn without_a_reserve_accepting_pauses_and_resumes() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut acceptor = Acceptor::new(listener).unwrap();
        let now = Instant::now();
        let stats = ThreadStats::default();
        const EMFILE: i32 = 24;
        let error = std::io::Error::from_raw_os_error(EMFILE);
        acceptor.reserve = None;
        acceptor.recover(&error, now, &stats, b"");
        assert!(!acceptor.is_ready(now));
        assert_eq!(acceptor.resume_at(), Some(now + PAUSE_MIN));
        assert!(acceptor.is_ready(now + PAUSE_MIN));
        assert!(acceptor.reserve.is_some(), "recreated for the next time");
        acceptor.reserve = None;
        acceptor.recover(&error, now, &stats, b"");
        assert_eq!(acceptor.resume_at(), Some(now + PAUSE_MIN * 2));
    }

    #[test]
    fn with_a_reserve_the_peer_gets_a_response() {
        use std::io::Read as _;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut acceptor = Acceptor::new(listener).unwrap();
        let mut peer = std::net::TcpStream::connect(address).unwrap();
        let stats = ThreadStats::default();
        assert!(acceptor.turn_one_away(&stats, b"busy"));
        let mut received = String::new();
        peer.read_to_string(&mut received).unwrap();
        assert_eq!(received, "busy");
        assert_eq!(stats.dropped.get(), 1);
    }
}
