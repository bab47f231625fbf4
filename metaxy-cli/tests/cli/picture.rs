//! The picture in the project's README is what the command draws: `UPDATE_EXPECT=1 cargo test` draws it again.

#![cfg(feature = "sqlite")]

use expect_test::expect_file;

use crate::support::Project;

const CONFIG: &str = "
[ext.rust]
features = [\"features.toml\"]

[stores.dev]
type = \"sqlite\"

[stores.dev.config]
database = \"films.db\"
";

const FEATURES: &str = r#"
[[feature]]
key = "raw/video"
description = "Videos as they arrive"
id_columns = ["video_id"]
fields = ["audio", "frames"]

[[feature]]
key = "processed/transcript"
description = "What is said in a video"
id_columns = ["video_id"]
deps = ["raw/video"]
fields = [{ key = "text", deps = ["raw/video.audio"] }]

[[feature]]
key = "vision/faces"
description = "Who is seen in a video"
id_columns = ["video_id"]
deps = ["raw/video"]
fields = [{ key = "people", deps = ["raw/video.frames"] }]

[[feature]]
key = "search/entry"
description = "What a search finds"
id_columns = ["video_id"]
deps = ["processed/transcript", "vision/faces"]
fields = [
    { key = "words", deps = ["processed/transcript.text"] },
    { key = "names", deps = ["processed/transcript.text", "vision/faces.people"] },
]
"#;

const VIDEOS: &str = "video_id,audio,frames\n1,a1,f1\n2,a2,f2\n3,a3,f3\n";

#[test]
fn the_picture_of_the_readme() {
    let project = Project::empty();
    for (file, text) in [("metaxy.toml", CONFIG), ("features.toml", FEATURES), ("videos.csv", VIDEOS)] {
        project.write(file, text);
    }
    project.write("results.csv", "video_id\n1\n2\n3\n");
    project.ok("metaxy write raw/video videos.csv --version audio=audio,frames=frames");
    for feature in ["processed/transcript", "vision/faces", "search/entry"] {
        project.ok(&format!("metaxy resolve {feature} --out todo"));
        project.ok(&format!("metaxy write {feature} results.csv --made-from todo"));
    }
    project.change("videos.csv", "a2", "another sound");
    project.ok("metaxy write raw/video videos.csv --version audio=audio,frames=frames");
    expect_file!["../../../images/graph.svg"].assert_eq(&project.ok("metaxy graph --as svg --status"));
}
