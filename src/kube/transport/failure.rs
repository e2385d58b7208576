//! From an error of the HTTP library to a [`Failure`].

use crate::kube::error::Failure;
use std::io;
use ureq::Timeout;

/// Classifies an error of the HTTP library; none of them is about a request.
pub(super) fn failure(error: ureq::Error) -> Failure {
    use io::ErrorKind as Kind;
    let text = error.to_string();
    match error {
        ureq::Error::Timeout(Timeout::Connect | Timeout::Resolve)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::Pem(_) => Failure::Connect(text),
        ureq::Error::Timeout(_) => Failure::TimedOut(text),
        ureq::Error::Io(error) => match error.kind() {
            Kind::ConnectionRefused
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::AddrNotAvailable
            | Kind::NotConnected => Failure::Connect(text),
            _ if is_bad_certificate(&error) => Failure::Connect(format!(
                "{text} (the configured certificate authority did not sign the API server's certificate, or the certificate is for another name)"
            )),
            _ => Failure::Lost(text),
        },
        _ => Failure::InvalidResponse(text),
    }
}

fn is_bad_certificate(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}
