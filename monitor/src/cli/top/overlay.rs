//! A text over the screen: the keys, the report of a kill, or another. Pure.

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) title: String,
    pub(super) text: String,
    /// How many lines are above the screen.
    pub(super) scrolled: usize,
    /// The kill that it waits for the report of, or shows.
    kill: Option<u64>,
}

const KEYS: &str = "\
q         quit
up, down  choose a worker, or a kill (also k, j; page up, page down)
tab       go to the kills, and back to the workers
left, right  the domain before, the next one (also h, l)
s         sort: kill order, memory, growth, newest first, name
/         show only workers with this text; enter keeps it, esc removes it
e         explain: why this worker is where it is (also enter)
r         the report of the chosen kill (also enter, at the kills)
?         these keys
esc       close

# is the place in the order in which workers would be killed if memory
ran out now. GROWTH is a second's. PEAK is the most that was seen.
";

impl Overlay {
    pub(super) fn new(title: String, text: String) -> Self {
        Self { title, text, scrolled: 0, kill: None }
    }

    pub(super) fn keys() -> Self {
        Self::new("Keys".to_owned(), KEYS.to_owned())
    }

    /// A kill's report, which is still to come.
    pub(super) fn report(kill: u64) -> Self {
        let title = format!("Report of kill {kill}");
        Self { kill: Some(kill), ..Self::new(title, "Asking the agent...".to_owned()) }
    }

    /// The report came.
    pub(super) fn fill(&mut self, kill: u64, text: String) {
        if self.kill == Some(kill) {
            self.text = text;
        }
    }

    pub(super) fn scroll(&mut self, step: isize) {
        let last = self.text.lines().count().saturating_sub(1);
        self.scrolled = self.scrolled.saturating_add_signed(step).min(last);
    }
}
