//! Encrypted connections to a server with a self-signed certificate.

use std::path::PathBuf;
use std::sync::Arc;

use metaxy_core::{AccessMode, Error, Result, StoreBackend};
use metaxy_postgres::PostgresBackend;
use metaxy_testkit::servers::postgres::{Database, Server};

use super::support::{config, database};

/// A server whose certificate is only for `localhost`.
pub struct Encrypted {
    server: Arc<Server>,
    pub database: Database,
    folder: tempfile::TempDir,
}

impl Encrypted {
    /// Starts the server.
    pub fn start() -> Self {
        let server = Arc::new(Server::start().unwrap_or_else(|reason| panic!("{reason}")));
        let database = server.database().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        // The server writes the files itself, because it must own the key.
        for (file, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
            let lines = format!("SELECT regexp_split_to_table(rtrim('{text}'), '\\r?\\n')");
            database.sql(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {file}'")).unwrap();
        }
        database.sql("ALTER SYSTEM SET ssl = on").unwrap();
        server.crash().unwrap();
        server.resume().unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("root.crt"), made.cert.pem()).unwrap();
        Self { server, database, folder }
    }

    /// Accepts only encrypted connections from now on.
    fn insist(&self) {
        let rules = "COPY (VALUES ('hostssl all all all scram-sha-256')) TO PROGRAM 'cat > pg_hba.conf'";
        self.database.sql(rules).unwrap();
        self.server.crash().unwrap();
        self.server.resume().unwrap();
    }

    /// Returns the file of its certificate.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.crt")
    }

    /// Opens a store, and returns whether its connection is encrypted.
    async fn open(&self, host: &str, sslmode: &str, trusts_it: bool) -> Result<bool> {
        let mut config = config(&self.database.url().replace("127.0.0.1", host));
        config.sslmode = Some(sslmode.to_owned());
        config.sslrootcert = trusts_it.then(|| self.root().display().to_string());
        let backend = PostgresBackend::new(config)?;
        backend.open(AccessMode::ReadOnly).await?;
        // A connection of the pool, which is idle while it is examined.
        backend.tables().await?;
        let question = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                        WHERE application_name = 'metaxy'";
        let answer = self.database.sql(question).unwrap();
        backend.close().await?;
        Ok(answer == "t")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sslmode_is_honoured() {
    let server = Encrypted::start();
    for mode in ["disable", "allow"] {
        assert!(!server.open("127.0.0.1", mode, false).await.unwrap(), "{mode}");
    }
    for mode in ["prefer", "require"] {
        assert!(server.open("127.0.0.1", mode, false).await.unwrap(), "{mode}");
    }
    assert!(server.open("127.0.0.1", "verify-ca", true).await.unwrap());
    assert!(server.open("localhost", "verify-full", true).await.unwrap());
    let strangers =
        [("localhost", "verify-ca", false), ("localhost", "verify-full", false), ("127.0.0.1", "verify-full", true)];
    for (host, mode, trusts_it) in strangers {
        let error = server.open(host, mode, trusts_it).await.unwrap_err();
        assert!(matches!(&error, Error::Unreachable { reason, .. } if reason.contains("sslmode")), "{mode}: {error}");
    }
    server.insist();
    let refused = server.open("127.0.0.1", "disable", false).await.unwrap_err();
    assert!(matches!(refused, Error::AccessDenied { .. }), "{refused}");
    assert!(server.open("127.0.0.1", "allow", false).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_if_tls_is_required() {
    let database = database();
    let mut config = config(database.url());
    config.sslmode = Some("require".to_owned());
    let error = PostgresBackend::new(config).unwrap().open(AccessMode::ReadOnly).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable { reason, .. } if reason.contains("sslmode")), "{error}");
}
