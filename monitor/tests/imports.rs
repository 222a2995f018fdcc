//! No two files import each other in a circle, a module and its own children aside: whoever reads a file can read
//! first what it stands on. A circle is named with every file on it. And no two rooms import each other: of two, one is
//! the floor that the other stands on. A pair is named with the files that make it one.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

#[path = "support/sources.rs"]
mod sources;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use sources::rust_files;
use syn::visit::Visit;

/// A module's path from the crate's root, which is the empty path.
type Module = Vec<String>;

/// Which file modules each file module names.
type Imports = BTreeMap<Module, BTreeSet<Module>>;

/// The modules of a crate that are files, each with what it says. Files of tests are left out.
fn modules(source: &Path) -> BTreeMap<Module, syn::File> {
    // A library's binary imports the library as another crate would.
    let has_a_library = source.join("lib.rs").exists();
    let read = |path: PathBuf| {
        let inside = path.strip_prefix(source).unwrap().with_extension("");
        let is_of_tests = inside.iter().any(|part| part == "tests");
        let is_beside_a_library = has_a_library && inside == Path::new("main");
        (!is_of_tests && !is_beside_a_library)
            .then(|| (module_of(&inside), syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap()))
    };
    rust_files(source).into_iter().filter_map(read).collect()
}

fn module_of(file: &Path) -> Module {
    let module: Module = file.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module == ["lib"] || module == ["main"] { Vec::new() } else { module }
}

fn is_only_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && matches!(attribute.parse_args::<syn::Path>(), Ok(path) if path.is_ident("test"))
    })
}

/// Collects the file modules that one file names.
struct Reader<'a> {
    files: &'a BTreeSet<Module>,
    /// The file, and below it the inline modules around what is read now.
    here: Module,
    named: BTreeSet<Module>,
}

impl Reader<'_> {
    /// Notes the innermost file that a path leads to, if the path begins at `crate`, `self` or `super`.
    fn note(&mut self, segments: &[String]) {
        let mut target = match segments.first().map(String::as_str) {
            Some("crate") => Vec::new(),
            Some("self" | "super") => self.here.clone(),
            _ => return,
        };
        for segment in segments {
            match segment.as_str() {
                "crate" | "self" => {}
                "super" => drop(target.pop()),
                name => {
                    target.push(name.to_owned());
                    if !self.files.contains(&target) {
                        target.pop();
                        break;
                    }
                }
            }
        }
        while !self.files.contains(&target) && !target.is_empty() {
            target.pop();
        }
        self.named.insert(target);
    }

    fn tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.note(&with(&name.ident)),
            syn::UseTree::Rename(name) => self.note(&with(&name.ident)),
            syn::UseTree::Glob(_) => self.note(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if !is_only_for_tests(&item.attrs) {
            self.tree(&[], &item.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.note(&segments);
        syn::visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_only_for_tests(&item.attrs) {
            self.here.push(item.ident.to_string());
            syn::visit::visit_item_mod(self, item);
            self.here.pop();
        }
    }
}

fn imports(files: &BTreeMap<Module, syn::File>) -> Imports {
    let names: BTreeSet<Module> = files.keys().cloned().collect();
    let read = |(module, file): (&Module, &syn::File)| {
        let mut reader = Reader { files: &names, here: module.clone(), named: BTreeSet::new() };
        reader.visit_file(file);
        let is_of_the_family = |other: &Module| other.starts_with(module) || module.starts_with(other);
        reader.named.retain(|other| !is_of_the_family(other));
        (module.clone(), reader.named)
    };
    files.iter().map(read).collect()
}

/// The shortest way from `start` back to itself.
fn circle_through(start: &Module, imports: &Imports) -> Option<Vec<Module>> {
    let mut seen = BTreeSet::new();
    let mut ways = VecDeque::from([vec![start.clone()]]);
    while let Some(way) = ways.pop_front() {
        for next in imports.get(way.last()?).into_iter().flatten() {
            let mut longer = way.clone();
            longer.push(next.clone());
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// Every file on a circle is in one of these, each told once.
fn circles(imports: &Imports) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut found = Vec::new();
    for module in imports.keys() {
        if told.contains(module) {
            continue;
        }
        if let Some(circle) = circle_through(module, imports) {
            found.push(circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" -> "));
            told.extend(circle);
        }
    }
    found
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let monitor = Path::new(env!("CARGO_MANIFEST_DIR"));
    for source in ["src", "core/src", "../monitor-common/src", "../monitor-ebpf/src", "../xtask/src"] {
        let files = modules(&monitor.join(source));
        assert!(files.len() > 1, "only {} files in {source}", files.len());
        let found = circles(&imports(&files));
        assert!(found.is_empty(), "circles in {source}:\n{}", found.join("\n"));
    }
}

/// What of one room names which file of another.
type Doors = BTreeMap<(String, String), BTreeSet<String>>;

/// The room of a module: its first part below `floor`.
fn room<'a>(floor: &[&str], module: &'a [String]) -> Option<&'a str> {
    module
        .strip_prefix(floor.iter().map(|part| (*part).to_owned()).collect::<Vec<_>>().as_slice())?
        .first()
        .map(String::as_str)
}

/// Rooms of this floor that import each other, with how.
fn mutual(floor: &[&str], imports: &Imports) -> Vec<String> {
    let mut doors = Doors::new();
    for (module, named) in imports {
        for other in named {
            if let (Some(from), Some(to)) = (room(floor, module), room(floor, other))
                && from != to
            {
                let how = format!("{} uses {}", module.join("::"), other.join("::"));
                doors.entry((from.to_owned(), to.to_owned())).or_default().insert(how);
            }
        }
    }
    let mut found = Vec::new();
    for ((from, to), ways) in &doors {
        if let Some(back) = doors.get(&(to.clone(), from.clone())).filter(|_| from < to) {
            let how: Vec<_> = ways.iter().chain(back).map(String::as_str).collect();
            found.push(format!("{from} and {to}: {}", how.join(", ")));
        }
    }
    found
}

/// The floors that have rooms: the crate, and the agent with its components.
const FLOORS: [&[&str]; 2] = [&[], &["agent"]];

#[test]
fn no_rooms_import_each_other() {
    let files = modules(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let imports = imports(&files);
    for floor in FLOORS {
        let found = mutual(floor, &imports);
        assert!(found.is_empty(), "rooms of {floor:?} import each other:\n{}", found.join("\n"));
    }
}

#[test]
fn rooms_that_import_each_other_are_found_by_whatever_file_of_theirs() {
    let imports = |files: &[(&str, &str)]| {
        let parsed = files.iter().map(|(name, text)| {
            let module = name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            (module, syn::parse_file(text).unwrap())
        });
        imports(&parsed.collect())
    };
    let files = [("", ""), ("a", ""), ("a::x", "use crate::b::B;"), ("b", ""), ("b::y", "use crate::a::A;")];
    let both = imports(&files);
    assert!(circles(&both).is_empty());
    assert_eq!(mutual(&[], &both), ["a and b: a::x uses b, b::y uses a"]);
    assert!(mutual(&["a"], &both).is_empty());
    let below =
        [("", ""), ("a", ""), ("a::x", "use super::y;"), ("a::y", ""), ("a::y::z", "use crate::a::x;")];
    assert_eq!(mutual(&["a"], &imports(&below)), ["x and y: a::x uses a::y, a::y::z uses a::x"]);
}

#[test]
fn a_circle_is_found_and_a_family_is_none() {
    let crate_of = |files: &[(&str, &str)]| {
        let parsed = files.iter().map(|(name, text)| {
            let module = name.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect();
            (module, syn::parse_file(text).unwrap())
        });
        circles(&imports(&parsed.collect()))
    };
    let used = [("", ""), ("a", "use crate::b::{c::D, E};"), ("b", ""), ("b::c", "use super::super::a::X;")];
    assert_eq!(crate_of(&used), ["a -> b::c -> a"]);
    let called = [("", ""), ("a", "fn f() { crate::b::g(crate::c::H) }"), ("b", ""), ("c", "use crate::a;")];
    assert_eq!(crate_of(&called), ["a -> c -> a"]);
    let longer =
        [("", ""), ("a", "use crate::b;"), ("b", "use crate::c::*;"), ("c", "type A = crate::a::A;")];
    assert_eq!(crate_of(&longer), ["a -> b -> c -> a"]);
    let family = [("", "use a::A;"), ("a", "use self::b::B;"), ("a::b", "use super::C; use crate::a::D;")];
    assert!(crate_of(&family).is_empty());
    let tests = [("", ""), ("a", "#[cfg(test)] mod tests { use crate::b::B; }"), ("b", "use crate::a::A;")];
    assert!(crate_of(&tests).is_empty());
}
