"""Takes steps on the default store of the project in the working directory: `[STEP, FEATURE, ARGUMENT]` in JSON, one in
each line of its input. Each has an answer in a line.

`write` appends the rows of a file, and `read` puts a feature's rows into one; `process` writes a result for each sample
that is new or stale, and answers how many are new, stale and orphaned; `delete` deletes the sample of an id, softly;
`append` writes samples from a first id on, one at a time.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import metaxy
import narwhals
import polars


def without_extensions():
    """DuckDB has MD5 itself; the extension with other hashes would have to be downloaded."""
    from metaxy.ext.duckdb import DuckDBMetadataStore

    DuckDBMetadataStore._load_extensions = lambda self: None


def graph():
    graph = metaxy.FeatureGraph()
    with open("features.json") as file, graph.use():
        for number, spec in enumerate(json.load(file)):
            spec = metaxy.FeatureSpec.model_validate(spec)
            type(f"Feature{number}", (metaxy.BaseFeature,), {"__metaxy_project__": "both"}, spec=spec)
    return graph


def put(rows, path):
    # Maps are a type of Python's own, and the hash of each by-field column stands beside it.
    by_field = [name for name in rows.columns if name.endswith("_by_field")]
    rows.drop(by_field).write_ipc(path, compat_level=polars.CompatLevel.oldest())


def process(store, feature):
    increment = store.resolve_update(feature).to_polars()
    for rows in (increment.new, increment.stale):
        if rows.height:
            store.write(feature, rows)
    return [rows.height for rows in (increment.new, increment.stale, increment.orphaned)]


def append(store, feature, first, count):
    for number in range(first, first + count):
        sample = {"id": number, "metaxy_provenance_by_field": {"audio": "one", "frames": "same"}}
        store.write(feature, polars.DataFrame([sample]))


def take(store, step, feature, argument=None):
    if step == "write":
        store.write(feature, polars.read_ipc(argument, memory_map=False))
    elif step == "read":
        put(store.read(feature).collect().to_polars(), argument)
    elif step == "process":
        return process(store, feature)
    elif step == "delete":
        store.delete(feature, narwhals.col("id") == argument)
    elif step == "append":
        append(store, feature, *argument)
    else:
        raise ValueError(step)


config = metaxy.MetaxyConfig.load("metaxy.toml")
if "duckdb" in config.stores[config.store].type:
    without_extensions()
with graph().use():
    for line in sys.stdin:
        with config.get_store().open("w") as store:
            answer = take(store, *json.loads(line))
        print(json.dumps(answer), flush=True)
