//! A project in a temporary directory, and shell commands in it.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

/// Two features and three videos; every test starts with them.
pub const VIDEOS: &str = "video_id,path,audio_sha256,frames_sha256,etag,size\n\
                          1,a.mp4,001,f1,e1,10\n2,b.mp4,002,f2,e2,20\n3,c.mp4,003,f3,e3,30\n";
pub const TRANSCRIPTS: &str = "video_id,text\n1,hello\n2,you\n3,there\n";
/// The arguments that write the videos.
pub const VERSIONS: &str = "--version audio=audio_sha256,frames=frames_sha256";

/// A root whose samples are named by texts.
#[cfg(feature = "sqlite")]
pub const CLIPS: &str = "\n[[feature]]\nkey = \"raw/clip\"\nid_columns = [\"path\"]\n";

/// The directory of a project.
pub struct Project {
    directory: TempDir,
    /// Variables of every command.
    variables: Vec<(&'static str, String)>,
}

/// How a command has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Project {
    /// Returns a project that `metaxy init` has made, with a store of a type.
    pub fn new(kind: &str) -> Self {
        let project = Self::empty();
        project.ok(&format!("metaxy init . --type {kind}"));
        // The name would be that of the temporary directory.
        let config = project.read("metaxy.toml");
        let name = config.lines().find(|line| line.starts_with("project = ")).unwrap().to_owned();
        project.write("metaxy.toml", &config.replace(&name, "project = \"films\""));
        project.write("videos.csv", VIDEOS);
        project.write("transcripts.csv", TRANSCRIPTS);
        project
    }

    /// Returns an empty directory.
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), variables: Vec::new() }
    }

    /// Returns a project whose three videos are written and transcribed.
    pub fn processed(kind: &str) -> Self {
        let project = Self::new(kind);
        project.ok(&format!("metaxy write raw/video videos.csv {VERSIONS}"));
        project.ok("metaxy resolve processed/transcript --out todo");
        project.ok("metaxy write processed/transcript transcripts.csv --made-from todo");
        project
    }

    /// Sets a variable of every command.
    #[allow(dead_code, reason = "used by the stores that need a server")]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn write(&self, file: &str, text: &str) {
        std::fs::write(self.path(file), text).unwrap();
    }

    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap()
    }

    /// Adds a text to a file.
    #[cfg(any(feature = "sqlite", feature = "delta"))]
    pub fn append(&self, file: &str, text: &str) {
        self.write(file, &(self.read(file) + text));
    }

    /// Replaces a text in a file.
    pub fn change(&self, file: &str, from: &str, to: &str) {
        let text = self.read(file);
        assert!(text.contains(from), "{file} has no {from}");
        self.write(file, &text.replace(from, to));
    }

    /// Runs a line in a shell.
    pub fn run(&self, line: &str) -> Ended {
        let binary = Path::new(env!("CARGO_BIN_EXE_metaxy")).parent().unwrap();
        let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(&self.directory).env("PATH", path).stdin(std::process::Stdio::null());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("METAXY_")) {
            shell.env_remove(name);
        }
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        let Output { status, stdout, stderr } = shell.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// Runs a line that succeeds, and returns what it prints.
    pub fn ok(&self, line: &str) -> String {
        self.exits(line, 0).stdout
    }

    /// Runs a command with these arguments, which succeeds, and returns what it prints.
    pub fn call(&self, arguments: &[&str]) -> String {
        let quoted: Vec<String> = arguments.iter().map(|one| format!("'{}'", one.replace('\'', r"'\''"))).collect();
        self.ok(&format!("metaxy {}", quoted.join(" ")))
    }

    /// Runs a line that exits with a code.
    pub fn exits(&self, line: &str, code: i32) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(code), "{line}: {ended:?}");
        ended
    }

    /// Runs a line that succeeds, and returns the JSON that it prints.
    pub fn json(&self, line: &str) -> Value {
        let text = self.ok(&format!("{line} --format json"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
    }

    /// Returns the numbers of new, stale and orphaned transcripts.
    pub fn transcripts(&self) -> [u64; 3] {
        let resolved = self.json("metaxy resolve processed/transcript");
        ["new", "stale", "orphaned"].map(|kind| resolved[kind].as_u64().unwrap())
    }
}
