//! Certificates of servers, and the authorities that sign them.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// An authority of a test's own.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate of a server and its key, in PEM.
#[derive(Clone, Debug)]
pub struct ServerCertificate {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    /// A new authority that nobody trusts yet.
    #[expect(clippy::new_without_default, reason = "each is another one")]
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for a server of this name.
    pub fn certify(&self, host: &str) -> ServerCertificate {
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        ServerCertificate {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl ServerCertificate {
    /// Puts both into a folder, as `server.pem` and `server.key`.
    pub(super) fn put(&self, folder: &std::path::Path) {
        use std::os::unix::fs::PermissionsExt;
        std::fs::write(folder.join("server.pem"), &self.certificate).unwrap();
        let key = folder.join("server.key");
        std::fs::write(&key, &self.key).unwrap();
        // Servers refuse keys that others can read.
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}
