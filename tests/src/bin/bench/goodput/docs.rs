//! The table and the picture of docs/fewer-kills.md, made anew where they stand.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::{Outcome, chart};
use crate::markdown;

/// The table stands between these.
const MARKS: (&str, &str) =
    ("<!-- made by: cargo xtask bench --full --only goodput --update-docs -->\n", "<!-- made so far -->");

pub(crate) fn update(outcomes: &[Outcome]) -> Result<()> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let page = docs.join("fewer-kills.md");
    let text = fs::read_to_string(&page).with_context(|| page.display().to_string())?;
    let new = between(&text, &markdown::goodput_table(outcomes))
        .context("docs/fewer-kills.md has no place for the table")?;
    fs::write(&page, new).with_context(|| page.display().to_string())?;
    let picture = docs.join("images/fewer-kills.svg");
    fs::write(&picture, chart::draw(outcomes)).with_context(|| picture.display().to_string())
}

/// The text with this between the marks. `None`: it has none.
fn between(text: &str, table: &str) -> Option<String> {
    let (head, rest) = text.split_once(MARKS.0)?;
    let (_, tail) = rest.split_once(MARKS.1)?;
    Some(format!("{head}{}\n{table}\n{}{tail}", MARKS.0, MARKS.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let text = format!("a\n{}old\n{}\nb\n", MARKS.0, MARKS.1);
        assert_eq!(between(&text, "new\n"), Some(format!("a\n{}\nnew\n\n{}\nb\n", MARKS.0, MARKS.1)));
        assert_eq!(between("a\n", "new\n"), None);
    }
}
