//! The pipeline in the project's README equals that of the crate's front page, which runs as a test.

use std::path::Path;

/// Returns the lines of the Rust program in a document without hidden lines.
fn program(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(document)).unwrap();
    let blocks = text.split("```rust").skip(1).filter_map(|rest| rest.split("```").next());
    let program = blocks.filter(|block| block.contains("fn main()")).collect::<Vec<_>>();
    assert_eq!(program.len(), 1, "{document} has one program");
    let is_hidden = |line: &&str| line.starts_with("# ");
    program[0].lines().skip(1).filter(|line| !is_hidden(line)).map(str::to_owned).collect()
}

#[test]
fn the_readme_shows_the_pipeline_of_the_front_page() {
    let front_page = program("metaxy-core/README.md");
    assert!(front_page.len() > 20, "{front_page:?}");
    assert_eq!(program("README.md"), front_page);
}
