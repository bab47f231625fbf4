"""Takes steps on the stores of projects, one in each line of its input, in JSON. Each has an answer in a line: what went
wrong, or null, and what the step answers.

`["open", DIRECTORY]` names the project whose `metaxy.toml` is used from now on, `["define", SPECS]` its features. The
other steps name a store: `["play", STORE, STEP]` takes the step of a scenario, and answers rows; `["rebase", STORE,
FEATURE, VERSION]` carries rows of an old version over to the current one; `["copy", STORE, TARGET]` copies all features
to another store.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import metaxy
import narwhals
import polars
from metaxy.ext.duckdb import DuckDBMetadataStore
from metaxy.models.filter_expression import parse_filter_string

# DuckDB has MD5 itself; the extension with other hashes would have to be downloaded.
DuckDBMetadataStore._load_extensions = lambda self: None

TYPES = {"string": polars.String, "int64": polars.Int64, "float64": polars.Float64, "bool": polars.Boolean}
BY_FIELD = ["metaxy_provenance_by_field", "metaxy_data_version_by_field"]
VERSIONS = [*BY_FIELD, "metaxy_provenance", "metaxy_data_version"]


def frame(samples):
    columns = {name: TYPES[kind] for name, kind in samples["columns"].items()}
    given = {name for row in samples["rows"] for name, value in row.items() if value is not None}
    names = [*columns, *(name for name in VERSIONS if name in given)]
    rows = [{name: row.get(name) for name in names} for row in samples["rows"]]
    return polars.from_dicts(rows, schema_overrides=columns, infer_schema_length=None)


def answer(rows):
    shown = [name for name in rows.columns if name in VERSIONS or not name.startswith("metaxy_")]
    answered = rows.select(shown).to_dicts()
    for row in answered:
        # Maps are lists of entries.
        for name in [name for name in BY_FIELD if isinstance(row.get(name), list)]:
            row[name] = {entry["key"]: entry["value"] for entry in row[name]}
    return answered


def filters(texts):
    return [parse_filter_string(text) for text in texts or []]


def read(store, step):
    names = ["columns", "with_feature_history", "with_sample_history", "include_soft_deleted"]
    given = {name: step[name] for name in names if step.get(name) is not None}
    rows = store.read(step["feature"], filters=filters(step.get("filters")), **given).collect().to_polars()
    # System columns are returned even if others are asked for.
    return answer(rows.select(step["columns"]) if step.get("columns") else rows)


def resolve(store, step):
    names = ["target_filters", "global_filters", "staleness_predicates"]
    given = {name: filters(step[name]) for name in names if step.get(name)}
    if step.get("filters"):
        given["filters"] = {key: filters(texts) for key, texts in step["filters"].items()}
    if step.get("samples"):
        given["samples"] = frame(step["samples"])
    skip = bool(step.get("skip_comparison"))
    increment = store.resolve_update(step["feature"], skip_comparison=skip, **given).to_polars()
    return {name: answer(getattr(increment, name)) for name in ["new", "stale", "orphaned"]}


def play(store, step):
    if step["op"] == "write":
        return store.write(step["feature"], frame(step))
    if step["op"] == "delete":
        given = None if step["filters"] is None else filters(step["filters"])
        return store.delete(step["feature"], given, soft=step.get("soft") is not False)
    return {"read": read, "resolve": resolve}[step["op"]](store, step)


def rebase(store, feature, version):
    old = store.read(feature, with_feature_history=True, feature_version=version)
    expected = store.resolve_update(feature, skip_comparison=True, lazy=True).new
    if old.implementation != expected.implementation:
        # They are joined in Polars.
        old = narwhals.from_native(old.collect().to_polars().lazy())
    store.write(feature, store.rebase(feature, old), preserve_feature_version=True)


def copy(store, target):
    with config.get_store(target).open("w") as copied:
        copied.copy_metadata(store)


def define(specs):
    graph = metaxy.FeatureGraph()
    with graph.use():
        for number, spec in enumerate(specs):
            spec = metaxy.FeatureSpec.model_validate(spec)
            type(f"Feature{number}", (metaxy.BaseFeature,), {"__metaxy_project__": "both"}, spec=spec)
    return graph


def take(step, arguments):
    global config, graph
    if step == "open":
        config = metaxy.MetaxyConfig.load(arguments[0] + "/metaxy.toml")
        metaxy.MetaxyConfig.set(config)
    elif step == "define":
        graph = define(arguments[0])
    else:
        name, *arguments = arguments
        with graph.use(), config.get_store(name).open("w") as store:
            return {"play": play, "rebase": rebase, "copy": copy}[step](store, *arguments)


for line in sys.stdin:
    step, *arguments = json.loads(line)
    try:
        answered = [None, take(step, arguments)]
    except Exception as error:
        answered = [f"{type(error).__name__}: {error}", None]
    print(json.dumps(answered), flush=True)
