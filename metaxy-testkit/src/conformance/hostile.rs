//! Texts that are statements, in every place where users give texts.

use arrow::array::StringArray;
use metaxy_core::{FeatureKey, MetadataStore, Result, col};

use super::kit::{LEAF, PASSED, ROOT, everything, increment, pair, process, read, read_ids, samples, texts};
use super::{Bench, Outcome};

/// What would end an identifier, a literal or a comment of a statement, followed by another statement.
const ENDINGS: [&str; 10] = [
    "\"; {} --",
    "'; {} --",
    "\\'; {} --",
    "`; {} --",
    "]; {} --",
    "$$; {} --",
    "*/ {} /*",
    "') OR TRUE; {} --",
    "\n{};\n",
    "%27; {} --",
];

/// Returns hostile texts against the table of a feature.
fn statements(feature: &str) -> Result<Vec<String>> {
    let table = feature.parse::<FeatureKey>()?.table_name();
    let of = |statement: String| ENDINGS.map(|ending| ending.replace("{}", &statement));
    Ok([format!("DROP TABLE {table}"), format!("DELETE FROM {table}")].into_iter().flat_map(of).collect())
}

/// Returns a store with a sample that must still be there afterwards.
async fn attacked(bench: &Bench) -> Result<(MetadataStore, Vec<String>)> {
    let store = bench.store(pair()?).await?;
    store.write(ROOT, samples(["kept"], "v1").batch()).await?;
    process(&store, LEAF).await?;
    let kept = everything(&store, LEAF).await?;
    Ok((store, kept))
}

pub(super) async fn values(bench: Bench) -> Result<Outcome> {
    let (store, kept) = attacked(&bench).await?;
    let given = statements(LEAF)?;
    let rows = samples(&given, &given[0]).column("text", StringArray::from(given.clone()));
    store.write(ROOT, rows.batch()).materialization_id(&given[1]).await?;
    for text in &given {
        let quoted = format!("'{}'", text.replace('\'', "''"));
        let found = store.read(ROOT).filter(format!("text = {quoted} AND id IN ({quoted})")).await?.rows().await?;
        assert_eq!(found.num_rows(), 1, "{text}");
        let found = store.read(ROOT).filter(col("metaxy_materialization_id").eq(text.as_str())).await?.rows().await?;
        assert_eq!(found.num_rows(), if *text == given[1] { given.len() } else { 0 }, "{text}");
    }
    let [new, stale, orphaned] = increment(&store, LEAF).await?;
    assert_eq!((new.len(), stale.len(), orphaned.len()), (given.len(), 0, 0));
    for (hard, text) in [true, false].into_iter().cycle().zip(&given) {
        let delete = store.delete(ROOT).filter(col("id").eq(text.as_str()));
        let deleted = if hard { delete.hard().await? } else { delete.await? };
        assert_eq!(deleted, 1, "{text}");
    }
    assert_eq!(read_ids(&store, ROOT).await?, ["kept"]);
    assert_eq!(everything(&store, LEAF).await?, kept);
    PASSED
}

pub(super) async fn names_of_columns(bench: Bench) -> Result<Outcome> {
    let (store, kept) = attacked(&bench).await?;
    let mut refused = Vec::new();
    for name in statements(LEAF)? {
        let rows = samples(["s1"], "v1").column(&name, StringArray::from(vec!["value"])).batch();
        if let Err(error) = store.write(ROOT, rows).await {
            refused.push(error.to_string());
            continue;
        }
        assert_eq!(texts(&read(&store, ROOT).await?, &name), ["NULL", "value"], "{name}");
        let selected = store.read(ROOT).columns([name.as_str()]).filter(col(&name).eq("value")).await?.rows().await?;
        assert_eq!(selected.num_rows(), 1, "{name}");
        increment(&store, LEAF).await?;
        assert_eq!(store.delete(ROOT).filter(col(&name).eq("value")).hard().await?, 1, "{name}");
    }
    assert_eq!(read_ids(&store, ROOT).await?, ["kept"]);
    assert_eq!(everything(&store, LEAF).await?, kept);
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("; "))) }
}

pub(super) async fn projects_and_tags(bench: Bench) -> Result<Outcome> {
    let (store, kept) = attacked(&bench).await?;
    let mut refused = Vec::new();
    for text in statements("metaxy_system/feature_versions")?.into_iter().chain(statements(LEAF)?) {
        match store.push([(text.as_str(), text.as_str())]).project(text.as_str()).await {
            Ok(pushed) => assert_eq!(pushed.features.len(), 2, "{text}"),
            Err(error) => {
                refused.push(error.to_string());
                continue;
            }
        }
        let found = store.definitions().project(text.as_str()).latest().await?;
        assert_eq!(found.len(), 2, "{text}");
        assert_eq!(found[0].tags()?[&text], text.as_str());
        let version = store.definitions().project(text.as_str()).project_version(&text).history().await?;
        assert!(version.is_empty(), "{text}");
    }
    assert_eq!(everything(&store, LEAF).await?, kept);
    if refused.is_empty() { PASSED } else { Ok(Outcome::Refused(refused.join("; "))) }
}
