//! The one place where PEM files are read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustls_pemfile::Item;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Largest PEM file that is read, in bytes: the certificates of all authorities have 250 KiB.
const LARGEST: u64 = 16 * 1024 * 1024;

/// A PEM file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use {}: {error}", .path.display())]
pub struct PemError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    pub error: io::Error,
}

/// What a PEM file holds.
#[derive(Default)]
pub struct Pem {
    /// Certificates, in the order of the file.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The first private key.
    pub key: Option<PrivateKeyDer<'static>>,
}

impl Pem {
    /// Reads a file with certificates, a key, or both.
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let failed = |error| PemError {
            path: path.to_owned(),
            error,
        };
        if fs::metadata(path).map_err(failed)?.len() > LARGEST {
            return Err(failed(io::Error::other("it is too large")));
        }
        let text = fs::read(path).map_err(failed)?;
        let mut pem = Self::default();
        for item in rustls_pemfile::read_all(&mut text.as_slice()) {
            let key: PrivateKeyDer<'static> = match item.map_err(failed)? {
                Item::X509Certificate(certificate) => {
                    pem.certificates.push(certificate);
                    continue;
                }
                Item::Pkcs1Key(key) => key.into(),
                Item::Pkcs8Key(key) => key.into(),
                Item::Sec1Key(key) => key.into(),
                _ => continue,
            };
            pem.key.get_or_insert(key);
        }
        Ok(pem)
    }

    /// Reads a file that has to hold a certificate.
    pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let pem = Self::read(path)?;
        if pem.certificates.is_empty() {
            let error = io::Error::other("there is no certificate in it");
            return Err(PemError {
                path: path.to_owned(),
                error,
            });
        }
        Ok(pem.certificates)
    }

    /// Reads a file that has to hold a private key without a password.
    pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
        Self::read(path)?.key.ok_or_else(|| PemError {
            path: path.to_owned(),
            error: io::Error::other("there is no private key in it, or it has a password"),
        })
    }
}
