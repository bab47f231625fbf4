//! Imports run one way: no files of a crate import each other in a circle. A folder is one room, so a `mod.rs` and the
//! files below it may know each other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::Visit;
use syn::{Attribute, ItemMod, ItemUse, UseTree};

/// A module, by the names in its path from the crate's root.
type Module = Vec<String>;

/// The files that each file of a crate imports.
type Imports = BTreeMap<PathBuf, BTreeSet<PathBuf>>;

#[test]
fn imports_run_one_way() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let crates = std::fs::read_dir(workspace).unwrap().map(|entry| entry.unwrap().path().join("src"));
    let circles: Vec<String> = crates.filter(|src| src.is_dir()).flat_map(|src| circles(&imports(&src))).collect();
    assert!(circles.is_empty(), "{} circles:\n{}", circles.len(), circles.join("\n"));
}

#[test]
fn a_circle_is_found() {
    let src = tempfile::tempdir().unwrap();
    let write = |file: &str, text: &str| std::fs::write(src.path().join(file), text).unwrap();
    std::fs::create_dir(src.path().join("room")).unwrap();
    write("room/mod.rs", "mod inner;\npub use inner::Inner;\npub struct Outer;");
    write("room/inner.rs", "use super::Outer;\npub struct Inner(Outer);");
    write("top.rs", "use crate::room::{Outer, inner::Inner};\npub struct Top;");
    assert_eq!(circles(&imports(src.path())), Vec::<String>::new());
    write("room/inner.rs", "fn f() -> crate::top::Top { todo!() }\n#[cfg(test)]\nmod tests { use crate::other::X; }");
    let found = circles(&imports(src.path()));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("top.rs") && found[0].contains("inner.rs"), "{found:?}");
}

fn imports(src: &Path) -> Imports {
    let files: BTreeMap<Module, PathBuf> = rust_files(src).into_iter().map(|file| (module(src, &file), file)).collect();
    let of = |own: &Module, file: &PathBuf| {
        let text = std::fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let mut paths = Paths { own: own.clone(), found: Vec::new() };
        paths.visit_file(&parsed);
        let hits = paths.found.iter().filter_map(|path| file_of(&files, path));
        hits.filter(|hit| *hit != file && !is_one_room(file, hit)).cloned().collect()
    };
    files.iter().map(|(own, file)| (file.clone(), of(own, file))).collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { rust_files(&path) } else { vec![path] });
    let is_room = |path: &PathBuf| {
        path.extension().is_some_and(|end| end == "rs") && !path.ends_with("lib.rs") && !path.ends_with("main.rs")
    };
    files.filter(is_room).collect()
}

fn module(src: &Path, file: &Path) -> Module {
    let path = file.strip_prefix(src).unwrap().with_extension("");
    let mut names: Module = path.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    if names.last().is_some_and(|name| name == "mod") {
        names.pop();
    }
    names
}

/// Returns the file of the innermost module that a path leads through.
fn file_of<'a>(files: &'a BTreeMap<Module, PathBuf>, path: &[String]) -> Option<&'a PathBuf> {
    (1..=path.len()).rev().find_map(|length| files.get(&path[..length]))
}

fn is_one_room(one: &Path, other: &Path) -> bool {
    let holds = |outer: &Path, inner: &Path| outer.ends_with("mod.rs") && inner.starts_with(outer.with_file_name(""));
    holds(one, other) || holds(other, one)
}

/// The paths into its own crate in a file, outside its tests.
struct Paths {
    own: Module,
    found: Vec<Module>,
}

impl Paths {
    /// Returns the path from the crate's root; `None` if it leads to another crate or a local name.
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let up = path.iter().take_while(|name| *name == "super").count();
        let (base, rest) = match path.first()?.as_str() {
            "crate" => (0, &path[1..]),
            "self" => (self.own.len(), &path[1..]),
            "super" => (self.own.len().saturating_sub(up), &path[up..]),
            _ => return None,
        };
        Some(self.own[..base].iter().chain(rest).cloned().collect())
    }

    fn take_tree(&mut self, tree: &UseTree, before: &mut Module) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.take_tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|item| self.take_tree(item, before)),
            UseTree::Name(name) => self.take(before.iter().cloned().chain([name.ident.to_string()]).collect()),
            UseTree::Rename(name) => self.take(before.iter().cloned().chain([name.ident.to_string()]).collect()),
            UseTree::Glob(_) => self.take(before.clone()),
        }
    }

    fn take(&mut self, path: Module) {
        self.found.extend(self.absolute(&path));
    }
}

impl Visit<'_> for Paths {
    fn visit_item_use(&mut self, item: &ItemUse) {
        if !is_for_tests(&item.attrs) {
            self.take_tree(&item.tree, &mut Vec::new());
        }
    }

    fn visit_path(&mut self, path: &syn::Path) {
        self.take(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &ItemMod) {
        if is_for_tests(&item.attrs) {
            return;
        }
        self.own.push(item.ident.to_string());
        syn::visit::visit_item_mod(self, item);
        self.own.pop();
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    let is_test = |attribute: &Attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<syn::Path>().is_ok_and(|what| what.is_ident("test"))
    };
    attributes.iter().any(is_test)
}

/// Returns the circles: groups of files that all reach each other.
fn circles(imports: &Imports) -> Vec<String> {
    let reached: BTreeMap<&PathBuf, BTreeSet<&PathBuf>> =
        imports.keys().map(|file| (file, reachable(imports, file))).collect();
    let group = |file: &PathBuf| -> BTreeSet<&PathBuf> {
        reached[file].iter().filter(|other| reached[**other].contains(file)).copied().collect()
    };
    let groups: BTreeSet<BTreeSet<&PathBuf>> = imports.keys().map(group).filter(|group| !group.is_empty()).collect();
    let shown = |group: BTreeSet<&PathBuf>| {
        group.into_iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    groups.into_iter().map(shown).collect()
}

fn reachable<'a>(imports: &'a Imports, from: &PathBuf) -> BTreeSet<&'a PathBuf> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        for import in imports.get(file).into_iter().flatten() {
            if seen.insert(import) {
                next.push(import);
            }
        }
    }
    seen
}
