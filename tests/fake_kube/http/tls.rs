//! A CA, a server and a client certificate, generated for each fake, and the
//! TLS side of a connection.
//!
//! ring is named here because rustls is built without a default provider.

use std::net::TcpStream;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// The certificates of one fake, and its server configuration.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    /// The CA that clients must trust.
    pub(crate) ca_pem: String,
    /// A certificate with which a client may do everything.
    pub(crate) client_cert_pem: String,
    /// Its key.
    pub(crate) client_key_pem: String,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Generates all certificates.
    pub(crate) fn generate() -> Self {
        Self::try_generate().expect("certificates with fixed, valid parameters can be made")
    }

    fn try_generate() -> Result<Self, Box<dyn std::error::Error>> {
        let mut ca_params = CertificateParams::new(Vec::new())?;
        ca_params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca_params
            .distinguished_name
            .push(DnType::CommonName, "fake-kube-ca");
        let ca = CertifiedIssuer::self_signed(ca_params, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "kubernetes.default.svc"];
        let mut server = CertificateParams::new(names.map(str::to_owned).to_vec())?;
        server
            .distinguished_name
            .push(DnType::CommonName, "fake-kube");
        server.insert_extended_key_usage(ExtendedKeyUsagePurpose::ServerAuth);
        let server_key = KeyPair::generate()?;
        let server_cert = server.signed_by(&server_key, &ca)?;

        let mut client = CertificateParams::new(Vec::new())?;
        client
            .distinguished_name
            .push(DnType::CommonName, "fake-admin");
        client.insert_extended_key_usage(ExtendedKeyUsagePurpose::ClientAuth);
        let client_key = KeyPair::generate()?;
        let client_cert = client.signed_by(&client_key, &ca)?;

        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone())?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()?;
        let key = PrivateKeyDer::try_from(server_key.serialize_der())?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![server_cert.der().clone()], key)?;
        Ok(Self {
            ca_pem: ca.pem(),
            client_cert_pem: client_cert.pem(),
            client_key_pem: client_key.serialize_pem(),
            config: Arc::new(config),
        })
    }

    /// Starts TLS on an accepted connection, handshake included.
    pub(crate) fn accept(
        &self,
        mut socket: TcpStream,
    ) -> std::io::Result<StreamOwned<ServerConnection, TcpStream>> {
        let mut session =
            ServerConnection::new(Arc::clone(&self.config)).map_err(std::io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(StreamOwned::new(session, socket))
    }
}
