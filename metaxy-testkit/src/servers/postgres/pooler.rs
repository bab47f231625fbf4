//! PgBouncer in transaction mode, in front of a server.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{Database, Result, as_user, find_in_path, folder, free_port, hand_over, is_root, server_user};

const INSTALL: &str = "PgBouncer is not installed: install it (Debian and Ubuntu: apt-get install pgbouncer)";

/// A pooler that gives each transaction any of two connections to the server. It ends when this is dropped, or when the
/// process that started it ends.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    watchdog: std::process::Child,
}

impl Pooler {
    /// Starts a pooler for a database.
    ///
    /// # Errors
    /// One line with what is missing.
    pub fn start(database: &Database) -> Result<Self> {
        let program = program()?;
        let user = if is_root() { Some(server_user()?) } else { None };
        let folder = folder(user.as_ref()).map_err(|error| format!("no folder for PgBouncer: {error}"))?;
        let port = free_port().map_err(|error| format!("no free port for PgBouncer: {error}"))?;
        let (url, files) = settings(database.url(), folder.path(), port)?;
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::write(&path, text).map_err(|error| error.to_string())?;
            hand_over(&path, user.as_ref()).map_err(|error| error.to_string())?;
        }
        // The shell reads from this process: when the pipe is closed, it stops the pooler and removes its files.
        let script = "\"$0\" -q \"$1/pgbouncer.ini\" & cat >/dev/null; kill $!; rm -rf \"$1\"";
        let mut shell = as_user(Path::new("sh"), user.as_ref());
        shell.args(["-c", script]).arg(program).arg(folder.keep()).current_dir("/");
        let watchdog = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let pooler = Self { url, watchdog: watchdog.map_err(|error| format!("`sh` cannot be run: {error}"))? };
        pooler.wait_for(port)?;
        Ok(pooler)
    }

    /// Returns the URL of the database through the pooler, with the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    fn wait_for(&self, port: u16) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if start.elapsed() > Duration::from_secs(30) {
                return Err("PgBouncer does not listen".to_owned());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

fn program() -> Result<PathBuf> {
    let installed = PathBuf::from("/usr/sbin/pgbouncer");
    find_in_path("pgbouncer")
        .or_else(|| Some(installed).filter(|file| file.is_file()))
        .ok_or_else(|| INSTALL.to_owned())
}

/// Returns the URL of the pooler, and its configuration files by name.
fn settings(server: &str, folder: &Path, port: u16) -> Result<(String, [(&'static str, String); 2])> {
    let parts = || {
        let (who, place) = server.split_once("://")?.1.rsplit_once('@')?;
        let (user, password) = who.split_once(':')?;
        let (place, database) = place.split_once('/')?;
        let (host, server_port) = place.rsplit_once(':').unwrap_or((place, "5432"));
        Some((user, password, host, server_port, database.split('?').next()?))
    };
    let (user, password, host, server_port, database) =
        parts().ok_or("the server's URL names no user, password, host and database")?;
    let folder = folder.display();
    let ini = format!(
        "[databases]\n{database} = host={host} port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\n\
         pool_mode = transaction\ndefault_pool_size = 2\nlogfile = {folder}/log\n"
    );
    let users = format!("\"{user}\" \"{password}\"\n");
    let url = format!("postgresql://{user}:{password}@127.0.0.1:{port}/{database}");
    Ok((url, [("pgbouncer.ini", ini), ("users.txt", users)]))
}
