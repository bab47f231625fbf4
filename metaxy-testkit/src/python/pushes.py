"""Takes steps on the default store of the project in the working directory, one in each line of its input, in JSON. Each
has an answer in a line.

`["push", FILE, PROJECT, TAGS]` pushes the definitions in a file, and answers the version of the project, whether it was
pushed before, and the updated features; `["load", PROJECT]` loads what a project has pushed, and answers the versions of
its features and its own; `["rows", PROJECT, VERSION]` answers the stored rows.
"""

import json
import sys
import warnings

warnings.simplefilter("ignore")

import metaxy


def without_extensions():
    """DuckDB has MD5 itself; the extension with other hashes would have to be downloaded."""
    from metaxy.ext.duckdb import DuckDBMetadataStore

    DuckDBMetadataStore._load_extensions = lambda self: None


def graph(path, project):
    graph = metaxy.FeatureGraph()
    with open(path) as file, graph.use():
        for spec in json.load(file):
            name = "films." + spec["key"].replace("/", "_").replace("-", "_")
            graph.add_feature_definition(metaxy.FeatureDefinition.from_stored_data(spec, {}, name, project))
    return graph


def push(store, path, project, tags):
    with graph(path, project).use():
        pushed = metaxy.SystemTableStorage(store).push_graph_snapshot(project=project, tags=tags)
    return [pushed.project_version, pushed.already_pushed, pushed.updated_features]


def load(store, project):
    loaded = metaxy.FeatureGraph()
    with loaded.use():
        metaxy.sync_external_features(store, selection=metaxy.FeatureSelection(projects=[project]))
        keys = list(loaded.feature_definitions_by_key)
        versions = {str(key): loaded.get_feature_version(key) for key in keys}
        return [versions, loaded.get_project_version(project)]


def rows(store, project, version):
    found = metaxy.SystemTableStorage(store).read_features(current=False, project_version=version, project=project)
    return [{name: str(value) for name, value in row.items()} for row in found.to_dicts()]


config = metaxy.MetaxyConfig.load("metaxy.toml")
if "duckdb" in config.stores[config.store].type:
    without_extensions()
for line in sys.stdin:
    step, *arguments = json.loads(line)
    with config.get_store().open("w") as store:
        answer = {"push": push, "load": load, "rows": rows}[step](store, *arguments)
    print(json.dumps(answer), flush=True)
