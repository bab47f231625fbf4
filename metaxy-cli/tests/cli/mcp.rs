//! The server of the Model Context Protocol, asked as an assistant asks it: by lines of JSON.

#![cfg(all(feature = "sqlite", feature = "mcp"))]

use serde_json::{Value, json};

use crate::support::Project;

/// Calls tools, one after the other, and returns their answers.
fn call(project: &Project, calls: &[(&str, Value)]) -> Vec<Value> {
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {},
                       "clientInfo": {"name": "test", "version": "1"}});
    let mut lines = vec![
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
    ];
    for (at, (name, arguments)) in calls.iter().enumerate() {
        let params = json!({"name": name, "arguments": arguments});
        lines.push(json!({"jsonrpc": "2.0", "id": at + 2, "method": "tools/call", "params": params}));
    }
    let text: Vec<String> = lines.iter().map(Value::to_string).collect();
    project.write("asked.jsonl", &(text.join("\n") + "\n"));
    // The input stays open until everything is answered: calls run side by side.
    let told = project.ok("(cat asked.jsonl; sleep 2) | metaxy mcp");
    let mut answers: Vec<Value> = told.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    answers.sort_by_key(|answer| answer["id"].as_u64());
    assert_eq!(answers.len(), calls.len() + 2, "{told}");
    answers
}

/// Returns the text of an answer as JSON, or as text.
fn content(answer: &Value) -> Value {
    let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
    serde_json::from_str(text).unwrap_or_else(|_| json!(text))
}

#[test]
fn tools_answer() {
    let project = Project::processed("sqlite");
    let query = json!({"feature_key": "raw/video", "store_name": "dev", "columns": ["video_id", "path"],
                       "filters": ["video_id > 1"], "sort_by": ["video_id"], "descending": true, "limit": 1});
    let answers = call(
        &project,
        &[
            ("get_config", json!({})),
            ("list_features", json!({"verbose": true})),
            ("get_feature", json!({"feature_key": "raw/video"})),
            ("list_stores", json!({})),
            ("get_store", json!({"store_name": "dev"})),
            ("get_metadata", query),
            ("get_metadata", json!({"feature_key": "raw/vidoe"})),
            ("list_features", json!({"project": "others"})),
        ],
    );
    assert_eq!(answers[0]["result"]["serverInfo"]["name"], "metaxy");
    let tools = answers[1]["result"]["tools"].as_array().unwrap();
    let mut names: Vec<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["get_config", "get_feature", "get_metadata", "get_store", "list_features", "list_stores"]);
    let told: Vec<Value> = answers[2..].iter().map(content).collect();
    assert_eq!(told[0]["project"], "films");
    assert_eq!(told[1]["feature_count"], 2);
    let transcript = &told[1]["features"][0];
    assert_eq!((&transcript["key"], &transcript["project"]), (&json!("processed/transcript"), &json!("films")));
    assert_eq!(transcript["fields"][0]["deps"], json!([{"feature": "raw/video", "fields": ["audio"]}]));
    assert_eq!(told[2]["id_columns"], json!(["video_id"]));
    assert_eq!(told[3], json!([{"name": "dev", "type": "sqlite"}]));
    assert!(told[4].as_str().unwrap().starts_with("sqlite at "), "{}", told[4]);
    let rows = json!([{"video_id": 3, "path": "c.mp4"}]);
    assert_eq!(told[5], json!({"columns": ["video_id", "path"], "rows": rows, "total_rows": 1}));
    assert_eq!(answers[8]["result"]["isError"], true);
    assert!(told[6].as_str().unwrap().contains("did you mean `raw/video`?"), "{}", told[6]);
    assert_eq!(told[7]["feature_count"], 0);
}
