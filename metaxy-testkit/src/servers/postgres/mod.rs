//! PostgreSQL for tests: the server in `METAXY_TEST_POSTGRES_URL`, or a temporary one from local binaries.
//!
//! ```no_run
//! let database = metaxy_testkit::servers::postgres::database().unwrap();
//! println!("{}", database.url());
//! ```
//! A process starts one server for all its tests. Each test gets its own database, or its own schema in a shared one,
//! which is created faster. The server and its files are removed when the process ends, however it ends, by a shell
//! that waits for that. PostgreSQL refuses to run as root, so it runs as `postgres` or `nobody` in that case.

mod pooler;

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tempfile::TempDir;

pub use pooler::Pooler;

/// The variable with a server to use instead of a temporary one; its role must be allowed to create databases and
/// roles.
pub const URL_VARIABLE: &str = "METAXY_TEST_POSTGRES_URL";

const INSTALL: &str = "PostgreSQL is not installed: install it (Debian and Ubuntu: apt-get install postgresql; macOS: \
                       brew install postgresql), or set METAXY_TEST_POSTGRES_URL to a server's URL";
const ROLE: &str = "metaxy";
const PASSWORD: &str = "throwaway-Pa55";

/// The result of the calls of this module; the error is one line that says what to do.
pub type Result<T> = std::result::Result<T, String>;

/// A server.
#[derive(Debug)]
pub struct Server {
    /// The URL of an existing database.
    url: String,
    /// `None` for a server that was not started by this process.
    cluster: Option<Cluster>,
}

/// The files and processes of a temporary server.
#[derive(Debug)]
struct Cluster {
    folder: PathBuf,
    port: u16,
    user: Option<User>,
    /// Settings of the server, as `name=value`.
    settings: Vec<String>,
    /// Stops the server when its pipe from the test process is closed.
    watchdog: std::process::Child,
}

/// The user that runs the server, if the tests run as root.
#[derive(Clone, Debug)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
}

/// A database of one test, which is removed when it is dropped.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    server: ServerRef,
}

#[derive(Debug)]
enum ServerRef {
    Shared(&'static Server),
    Own(Arc<Server>),
}

impl ServerRef {
    fn get(&self) -> &Server {
        match self {
            Self::Shared(server) => server,
            Self::Own(server) => server,
        }
    }
}

/// Returns the server of this process.
fn shared() -> Result<&'static Server> {
    static SHARED: OnceLock<Result<Server>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| if named().is_some() { Server::named() } else { Server::start() });
    shared.as_ref().map_err(String::clone)
}

/// Creates a database on the server of this process.
///
/// # Errors
/// One line with what is missing.
pub fn database() -> Result<Database> {
    Database::create(ServerRef::Shared(shared()?))
}

/// Returns the environment variables with which another process uses the server of this one.
///
/// # Errors
/// One line with what is missing.
pub fn environment() -> Result<Vec<(String, String)>> {
    Ok(vec![(URL_VARIABLE.to_owned(), shared()?.url.clone())])
}

/// A schema of one test in a shared database, which is removed when it is dropped.
#[derive(Debug)]
pub struct Schema {
    name: String,
    database: Arc<Database>,
}

/// Creates a schema, in a database that exists as long as any of its schemas.
///
/// # Errors
/// One line with what is missing.
pub fn schema() -> Result<Schema> {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    static SHARED: Mutex<Weak<Database>> = Mutex::new(Weak::new());
    let database = {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        match shared.upgrade() {
            Some(database) => database,
            None => {
                let created = Arc::new(database()?);
                *shared = Arc::downgrade(&created);
                created
            }
        }
    };
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    database.sql(&format!("CREATE SCHEMA {name}"))?;
    Ok(Schema { name, database })
}

impl Schema {
    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the URL of its database, with the password.
    pub fn url(&self) -> &str {
        self.database.url()
    }

    /// Runs SQL in its database, and returns the output.
    ///
    /// # Errors
    /// The error of the server.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.database.sql(sql)
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // A failed test may still lock its tables; this does not wait for it.
        let _ = self.database.sql(&format!("SET lock_timeout = '5s'; DROP SCHEMA IF EXISTS {} CASCADE", self.name));
    }
}

fn named() -> Option<String> {
    std::env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty())
}

impl Server {
    fn named() -> Result<Self> {
        let url = named().ok_or(INSTALL)?;
        Ok(Self { url, cluster: None })
    }

    /// Starts a separate temporary server, which a test can stop and start. It survives a crash of its own, but not one
    /// of the machine, because it does not wait for the disk.
    ///
    /// # Errors
    /// One line with what is missing.
    pub fn start() -> Result<Self> {
        Self::start_with(&["fsync=off"])
    }

    /// Starts a server with these settings, as `name=value`.
    ///
    /// # Errors
    /// One line with what is missing.
    pub fn start_with(settings: &[&str]) -> Result<Self> {
        let pg_ctl = program("pg_ctl")?;
        let user = if is_root() { Some(server_user()?) } else { None };
        let folder = folder(user.as_ref()).map_err(|error| format!("no folder for a test server: {error}"))?;
        let port = free_port().map_err(|error| format!("no free port for a test server: {error}"))?;
        let watchdog = watchdog(&pg_ctl, folder.path(), user.as_ref())?;
        // From here on the watchdog removes the directory.
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let cluster = Cluster { folder: folder.keep(), port, user, settings, watchdog };
        let url = format!("postgresql://{ROLE}:{PASSWORD}@127.0.0.1:{port}/postgres");
        let server = Self { url, cluster: Some(cluster) };
        server.initialize()?;
        server.resume()?;
        Ok(server)
    }

    /// Creates a database on this server.
    ///
    /// # Errors
    /// The error of the server.
    pub fn database(self: &Arc<Self>) -> Result<Database> {
        Database::create(ServerRef::Own(self.clone()))
    }

    /// Stops the server immediately, like a crash.
    ///
    /// # Errors
    /// The error of `pg_ctl`.
    pub fn crash(&self) -> Result<()> {
        self.control(&["stop", "-m", "immediate"])
    }

    /// Starts the server again.
    ///
    /// # Errors
    /// The error of `pg_ctl`.
    pub fn resume(&self) -> Result<()> {
        let cluster = self.cluster()?;
        let log = cluster.folder.join("log").display().to_string();
        let mut options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200",
            cluster.port
        );
        cluster.settings.iter().for_each(|setting| options.push_str(&format!(" -c {setting}")));
        self.control(&["start", "-w", "-t", "60", "-l", &log, "-o", &options])
    }

    /// Runs SQL on a database, given by its URL, and returns the output.
    ///
    /// # Errors
    /// The error of the server.
    pub fn sql(&self, url: &str, sql: &str) -> Result<String> {
        run(psql(url)?.args(["-c", sql]))
    }

    fn cluster(&self) -> Result<&Cluster> {
        self.cluster.as_ref().ok_or_else(|| format!("the server of {URL_VARIABLE} is not ours to stop"))
    }

    fn initialize(&self) -> Result<()> {
        let cluster = self.cluster()?;
        let password = cluster.folder.join("password");
        fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
        hand_over(&password, cluster.user.as_ref()).map_err(|error| error.to_string())?;
        let mut initdb = as_user(&program("initdb")?, cluster.user.as_ref());
        initdb.arg("-D").arg(cluster.data()).arg(format!("--pwfile={}", password.display()));
        initdb.args(["-U", ROLE, "-E", "UTF8", "--no-locale", "--no-sync", "--auth=scram-sha-256"]);
        run(initdb.current_dir(&cluster.folder)).map(|_| ())
    }

    fn control(&self, arguments: &[&str]) -> Result<()> {
        let cluster = self.cluster()?;
        let mut command = as_user(&program("pg_ctl")?, cluster.user.as_ref());
        command.arg("-D").arg(cluster.data()).args(arguments).current_dir(&cluster.folder);
        // The server inherits its output; a pipe would stay open as long as it runs.
        let output = fs::File::create(cluster.folder.join("pg_ctl.log")).map_err(|error| error.to_string())?;
        let errors = output.try_clone().map_err(|error| error.to_string())?;
        let status = command.stdin(Stdio::null()).stdout(output).stderr(errors).status();
        match status {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => {
                let read = |name| fs::read_to_string(cluster.folder.join(name)).unwrap_or_default();
                Err(format!("pg_ctl {} failed: {} {}", arguments.join(" "), read("pg_ctl.log"), read("log")))
            }
            Err(error) => Err(format!("pg_ctl cannot be run: {error}")),
        }
    }
}

impl Cluster {
    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

impl Database {
    fn create(server: ServerRef) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("metaxy_test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let owner = server.get();
        owner.sql(&owner.url, &format!("CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0"))?;
        let url = with_database(&owner.url, &name);
        Ok(Self { name, url, server })
    }

    /// Returns its URL, with the password.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns its URL with another role and password.
    pub fn url_as(&self, role: &str, password: &str) -> String {
        match (self.url.split_once("://"), self.url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, place))) => format!("{scheme}://{role}:{password}@{place}"),
            _ => self.url.clone(),
        }
    }

    /// Runs SQL in it, and returns the output.
    ///
    /// # Errors
    /// The error of the server.
    pub fn sql(&self, sql: &str) -> Result<String> {
        self.server.get().sql(&self.url, sql)
    }

    /// Runs statements over another URL of the server, each as one message.
    ///
    /// # Errors
    /// The error of the server.
    pub fn sql_over(&self, url: &str, statements: &[&str]) -> Result<String> {
        let mut command = psql(url)?;
        statements.iter().for_each(|statement| {
            command.args(["-c", statement]);
        });
        run(&mut command)
    }

    /// Loads a dump.
    ///
    /// # Errors
    /// The error of the server.
    pub fn load(&self, dump: &Path) -> Result<()> {
        run(psql(&self.url)?.arg("-f").arg(dump)).map(|_| ())
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let server = self.server.get();
        let _ = server.sql(&server.url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

fn with_database(url: &str, name: &str) -> String {
    let (place, parameters) = url.split_once('?').map_or((url, None), |(place, rest)| (place, Some(rest)));
    let start = place.find("://").map_or(0, |scheme| scheme + 3);
    let end = place.get(start..).and_then(|rest| rest.find('/')).map_or(place.len(), |slash| start + slash);
    let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
    format!("{}/{name}{parameters}", place.get(..end).unwrap_or(place))
}

fn psql(url: &str) -> Result<Command> {
    let mut command = Command::new(program("psql")?);
    command.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d", url]);
    Ok(command)
}

/// Returns the path of a program of PostgreSQL: the newest one of the packages, or the one in `PATH`.
fn program(name: &str) -> Result<PathBuf> {
    let mut installed: Vec<(u32, PathBuf)> = Vec::new();
    for root in ["/usr/lib/postgresql", "/usr/pgsql", "/opt/homebrew/opt", "/usr/local/opt"] {
        for entry in fs::read_dir(root).into_iter().flatten().flatten() {
            let folder = entry.file_name().to_string_lossy().into_owned();
            let version = folder.trim_start_matches("postgresql@").parse().unwrap_or(0);
            installed.push((version, entry.path().join("bin").join(name)));
        }
    }
    installed.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    let mut files = installed.into_iter().map(|(_, file)| file);
    files
        .find(|file| file.is_file())
        .or_else(|| find_in_path(name))
        .ok_or_else(|| format!("`{name}` is missing. {INSTALL}"))
}

fn is_root() -> bool {
    run(Command::new("id").arg("-u")).is_ok_and(|id| id == "0")
}

fn server_user() -> Result<User> {
    let number = |flag: &str, name: &str| run(Command::new("id").args([flag, name])).ok()?.parse().ok();
    let user = |name: &str| Some(User { name: name.to_owned(), uid: number("-u", name)?, gid: number("-g", name)? });
    let found = ["postgres", "nobody"].into_iter().find_map(user);
    found.ok_or_else(|| "PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody`".to_owned())
}

/// Returns a command that runs a program as the server's user.
fn as_user(program: &Path, user: Option<&User>) -> Command {
    let Some(user) = user else { return Command::new(program) };
    let has = |name: &str| find_in_path(name).is_some();
    if has("setpriv") {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid), "--clear-groups".to_owned()]);
        command.arg("--").arg(program);
        return command;
    }
    let mut command = Command::new(if has("runuser") { "runuser" } else { "su" });
    // The arguments that follow are passed to the program unchanged.
    command.args(["-s", "/bin/sh", &user.name, "-c", "exec \"$0\" \"$@\"", "--"]).arg(program);
    command
}

fn find_in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn folder(user: Option<&User>) -> io::Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("metaxy-postgres-");
    // Other users have no access to a temporary directory of root.
    let folder = if user.is_some() { builder.tempdir_in("/tmp") } else { builder.tempdir() }?;
    hand_over(folder.path(), user)?;
    Ok(folder)
}

#[cfg(unix)]
fn hand_over(path: &Path, user: Option<&User>) -> io::Result<()> {
    match user {
        Some(user) => std::os::unix::fs::chown(path, Some(user.uid), Some(user.gid)),
        None => Ok(()),
    }
}

#[cfg(not(unix))]
fn hand_over(_path: &Path, _user: Option<&User>) -> io::Result<()> {
    Ok(())
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Starts a shell that reads from this process; when the pipe is closed, it stops the server and removes its files.
fn watchdog(pg_ctl: &Path, folder: &Path, user: Option<&User>) -> Result<std::process::Child> {
    let script = "trap '' INT HUP TERM; cat >/dev/null; \"$0\" \"$@\" >/dev/null 2>&1; rm -rf \"$METAXY_FOLDER\"";
    let stop = as_user(pg_ctl, user);
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(stop.get_program()).args(stop.get_args());
    shell.arg("-D").arg(folder.join("data")).args(["stop", "-m", "immediate"]);
    shell.env("METAXY_FOLDER", folder).current_dir("/");
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut shell, 0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    shell.spawn().map_err(|error| format!("`sh` cannot be run: {error}"))
}

/// Runs a program to its end, and returns its output.
fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("`{name}` cannot be run: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("`{name}` failed: {}", text(&output.stderr).replace('\n', " ")))
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn a_url_is_changed_to_another_database() {
        assert_eq!(
            with_database("postgresql://a:b@h:1/x?sslmode=require", "y"),
            "postgresql://a:b@h:1/y?sslmode=require"
        );
        assert_eq!(with_database("postgresql://h", "y"), "postgresql://h/y");
    }
}
