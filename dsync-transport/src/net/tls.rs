//! TLS for both roles (`spec/transports-and-cli.md` 10).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{BoxStream, Pem, PemError};

/// The name that Dovecot 2.4 gives the protocol.
const ALPN: &[u8] = b"doveadm";

/// Where most systems keep the certificates of all authorities in one file.
const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// TLS cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A PEM file.
    #[error("{0}")]
    Pem(#[from] PemError),
    /// A directory of certificates.
    #[error("cannot read the certificates in {}: {error}", .path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no certificate of an authority.
    #[error(
        "there is no authority to check certificates with: set ssl_client_ca_file to a PEM file"
    )]
    NoRoots,
    /// A certificate or key does not fit.
    #[error("the certificate or its key cannot be used: {0}")]
    Invalid(String),
}

/// The oldest version of TLS that may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// 1.2
    #[default]
    V12,
    /// 1.3
    V13,
}

impl TlsVersion {
    fn and_later(self) -> &'static [&'static SupportedProtocolVersion] {
        static ALL: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::V12 => &ALL,
            Self::V13 => &ALL[..1],
        }
    }
}

/// What a TLS client needs to know.
#[derive(Clone, Debug, Default)]
pub struct TlsClientOptions {
    /// `ssl_client_ca_file`
    pub ca_file: Option<PathBuf>,
    /// `ssl_client_ca_dir`. Without both, the system's authorities count.
    pub ca_dir: Option<PathBuf>,
    /// Files with the own certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// `ssl_client_require_valid_cert = no`: anybody may be the server.
    pub accept_anybody: bool,
    /// `ssl_min_protocol`
    pub min_version: TlsVersion,
}

/// Makes TLS connections to servers.
#[derive(Clone)]
pub struct TlsClient(TlsConnector);

impl TlsClient {
    /// Reads all files.
    pub fn new(options: &TlsClientOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(options.min_version.and_later())
            .map_err(invalid)?;
        let builder = if options.accept_anybody {
            let anybody = Arc::new(Anybody(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(anybody)
        } else {
            builder.with_root_certificates(roots(options)?)
        };
        let mut config = match &options.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => builder
                .with_client_auth_cert(Pem::read_certificates(certificate)?, Pem::read_key(key)?)
                .map_err(invalid)?,
        };
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Does the handshake, and checks that the server is `host`, a name or an address.
    ///
    /// # Errors
    ///
    /// A refusal of the server has a [`TlsRefused`] inside.
    pub async fn connect(&self, host: &str, stream: BoxStream) -> io::Result<BoxStream> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::other(format!("{host:?} cannot be a name in a certificate")))?;
        match self.0.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(io::Error::new(error.kind(), TlsRefused::new(host, &error))),
        }
    }
}

fn roots(options: &TlsClientOptions) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let mut files: Vec<PathBuf> = options.ca_file.iter().cloned().collect();
    if options.ca_file.is_none() && options.ca_dir.is_none() {
        let mut known = SYSTEM_ROOTS.iter().map(PathBuf::from);
        files.extend(known.find(|path| path.exists()));
    }
    for file in &files {
        roots.add_parsable_certificates(Pem::read_certificates(file)?);
    }
    if let Some(folder) = &options.ca_dir {
        for path in files_of(folder)? {
            // There may be anything else in it.
            let pem = Pem::read(&path).unwrap_or_default();
            roots.add_parsable_certificates(pem.certificates);
        }
    }
    if roots.is_empty() {
        return Err(TlsError::NoRoots);
    }
    Ok(roots)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, TlsError> {
    let read = || -> io::Result<Vec<PathBuf>> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            // Each certificate is there at least twice; the hashed names are all of them.
            let is_hash = path.extension().is_some_and(|end| end.len() == 1);
            if is_hash && path.is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    };
    read().map_err(|error| TlsError::Directory {
        path: folder.to_owned(),
        error,
    })
}

/// Why there is no TLS with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsFault {
    /// Nobody whom we know has signed the certificate.
    UnknownIssuer,
    /// The certificate is for somebody else.
    WrongName,
    /// The certificate is too old, or not valid yet.
    WrongTime,
    /// The certificate cannot be used for another reason.
    Certificate,
    /// There is no TLS at the other end, or none that fits.
    Handshake,
}

/// A TLS handshake that failed, in words for the person who wants to connect.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct TlsRefused {
    /// What kind of failure it is.
    pub fault: TlsFault,
    message: String,
}

impl TlsRefused {
    fn new(host: &str, error: &io::Error) -> Self {
        let inner = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Error>());
        let Some(Error::InvalidCertificate(reason)) = inner else {
            return Self {
                fault: TlsFault::Handshake,
                message: format!("TLS with {host} failed: {error}"),
            };
        };
        let invalid = format!("Received invalid SSL certificate from {host}: ");
        let (fault, message) = match reason {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                let message = format!(
                    "SSL certificate doesn't match expected host name {host}: {reason} \
                     (use a name that the certificate has)"
                );
                (TlsFault::WrongName, message)
            }
            CertificateError::UnknownIssuer => {
                let text = "unable to get local issuer certificate (check ssl_client_ca_file)";
                (TlsFault::UnknownIssuer, invalid + text)
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                (TlsFault::WrongTime, format!("{invalid}{reason}"))
            }
            reason => (TlsFault::Certificate, format!("{invalid}{reason}")),
        };
        Self { fault, message }
    }
}

/// What a TLS server needs to know.
#[derive(Clone, Debug)]
pub struct TlsServerOptions {
    /// File with the certificate, followed by those that it depends on.
    pub certificate: PathBuf,
    /// File with its key.
    pub key: PathBuf,
    /// Clients need a certificate from one of these authorities.
    pub client_ca: Option<PathBuf>,
    /// `ssl_min_protocol`
    pub min_version: TlsVersion,
}

/// Makes TLS connections of clients.
#[derive(Clone)]
pub struct TlsServer(TlsAcceptor);

impl TlsServer {
    /// Reads all files.
    pub fn new(options: &TlsServerOptions) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(options.min_version.and_later())
            .map_err(invalid)?;
        let builder = match &options.client_ca {
            None => builder.with_no_client_auth(),
            Some(file) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(Pem::read_certificates(file)?);
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .build()
                        .map_err(|error| TlsError::Invalid(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let certificates = Pem::read_certificates(&options.certificate)?;
        let mut config = builder
            .with_single_cert(certificates, Pem::read_key(&options.key)?)
            .map_err(invalid)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// Does the handshake.
    pub async fn accept(&self, stream: BoxStream) -> io::Result<BoxStream> {
        Ok(Box::new(self.0.accept(stream).await?))
    }
}

fn invalid(error: Error) -> TlsError {
    TlsError::Invalid(error.to_string())
}

/// `ssl_client_require_valid_cert = no`.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
