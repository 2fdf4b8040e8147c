//! Certificates that live as long as a test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

/// A certificate authority, and one server and one client that it knows, as PEM files.
pub struct Certificates {
    folder: TempDir,
}

impl Certificates {
    /// Makes all files; the server's certificate has these names and addresses.
    pub fn new(server_names: &[&str]) -> Self {
        Self::until(server_names, None)
    }

    /// The same with certificates that were valid until this year.
    pub fn expired(server_names: &[&str], year: i32) -> Self {
        Self::until(server_names, Some(year))
    }

    fn until(server_names: &[&str], year: Option<i32>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities of the same name would be taken for each other.
        let name = folder.path().display().to_string();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let ca = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let write = |name: &str, text: String| {
            fs::write(folder.path().join(name), text).expect("a file");
        };
        write("ca.pem", ca.pem());
        for (name, names) in [("server", server_names), ("client", &["client"])] {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            let key = KeyPair::generate().expect("a key");
            let mut params = CertificateParams::new(names).expect("names");
            if let Some(year) = year {
                params.not_before = date_time_ymd(year - 1, 1, 1);
                params.not_after = date_time_ymd(year, 1, 1);
            }
            let certificate = params.signed_by(&key, &issuer).expect("a certificate");
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { folder }
    }

    /// `ca.pem`, `server.pem`, `server.key`, `client.pem` or `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder with all of them.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
