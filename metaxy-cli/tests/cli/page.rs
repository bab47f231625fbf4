//! The page of the graph in a browser, if there is one (`chromium`, or the program that `METAXY_CHROMIUM` names).

use std::path::PathBuf;
use std::process::Command;

use crate::support::Project;

/// A click on the field `audio`, as a person makes it.
const CLICK: &str = "<script>addEventListener('load', () => {
  const field = document.getElementById('raw/video.audio').querySelector('text');
  field.dispatchEvent(new MouseEvent('click', {bubbles: true}));
})</script>";

fn browser() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("METAXY_CHROMIUM") {
        return Some(named.into());
    }
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|directory| directory.join("chromium")).find(|program| program.exists())
}

#[test]
fn a_click_follows_a_field() {
    let Some(browser) = browser() else {
        eprintln!("skipped: there is no `chromium`; METAXY_CHROMIUM names another");
        return;
    };
    let project = Project::processed("sqlite");
    let page = project.ok("metaxy graph --as html");
    project.write("page.html", &format!("{page}{CLICK}"));
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]);
    let shown = command.arg(format!("file://{}", project.path("page.html").display())).output().unwrap();
    let dom = String::from_utf8_lossy(&shown.stdout);
    for (field, class) in
        [("raw/video.audio", "field lit"), ("processed/transcript.text", "field lit"), ("raw/video.frames", "field")]
    {
        assert!(dom.contains(&format!("<g class=\"{class}\" id=\"{field}\"")), "{field}: {dom}");
    }
    assert!(dom.contains(">raw/video.audio: made from 0 fields, 1 are made from it<"), "{dom}");
}
