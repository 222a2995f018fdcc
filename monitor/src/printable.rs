//! Text of others, made safe to show. Names, owners and reasons come from files and from other users, and a terminal
//! obeys control characters.

/// The text with its control characters escaped.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut printable, c| {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
        printable
    })
}
