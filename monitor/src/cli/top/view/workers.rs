//! The list of workers, by owner in the order in which they would be killed, or as the user sorted them.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::Look;
use crate::cli::top::model::{Focus, Model};
use crate::cli::top::order::{Row, Sort};
use crate::cli::top::words::{UNKNOWN, cut, growth, memory};
use crate::cli::top::worker::Worker;
use crate::engine::WorkerState;

/// Columns of numbers, with their widths. The name has the rest.
const RANK: usize = 5;
const ID: usize = 7;
const NUMBER: usize = 10;
const GROWTH: usize = 13;
const STATE: usize = 12;
const RULE: usize = 16;
const OWNER: usize = 20;

/// Which columns there is room for.
#[derive(Debug, Clone, Copy)]
struct Columns {
    growth: bool,
    peak: bool,
    state: bool,
    owner: bool,
    rule: bool,
    name: usize,
}

impl Columns {
    fn fit(width: usize, with_owner: bool) -> Self {
        let always = RANK + ID + NUMBER + 3;
        let mut left = width.saturating_sub(always + 8);
        let mut take = |wanted: bool, cells: usize| {
            let fits = wanted && left > cells;
            if fits {
                left -= cells + 1;
            }
            fits
        };
        let growth = take(true, GROWTH);
        let peak = take(true, NUMBER);
        let state = take(true, STATE);
        let owner = take(with_owner, OWNER);
        let rule = take(width >= 110, RULE);
        Self { growth, peak, state, owner, rule, name: left + 8 }
    }

    /// A line of these cells; those without room are left out.
    fn line(self, cells: &Cells) -> String {
        let mut line = format!("{:>RANK$} {:ID$} {:>NUMBER$}", cells.rank, cells.id, cells.memory);
        if self.growth {
            line += &format!(" {:>GROWTH$}", cells.growth);
        }
        if self.peak {
            line += &format!(" {:>NUMBER$}", cells.peak);
        }
        if self.state {
            line += &format!(" {}", padded(&cells.state, STATE));
        }
        if self.owner {
            line += &format!(" {}", padded(&cells.owner, OWNER));
        }
        if self.rule {
            line += &format!(" {}", padded(&cells.rule, RULE));
        }
        line + " " + &cut(&cells.name, self.name)
    }
}

struct Cells {
    rank: String,
    id: String,
    memory: String,
    growth: String,
    peak: String,
    state: String,
    owner: String,
    rule: String,
    name: String,
}

/// Cut or filled to so many cells on the screen: a wide character takes two.
fn padded(text: &str, cells: usize) -> String {
    let text = cut(text, cells);
    let width = ratatui::text::Span::raw(&text[..]).width();
    text + &" ".repeat(cells.saturating_sub(width))
}

pub(super) fn list(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    if area.height == 0 {
        return;
    }
    let columns = Columns::fit(area.width.into(), model.sort != Sort::KillOrder);
    let mut lines = vec![Line::styled(columns.line(&headings()), look.heading())];
    let room = usize::from(area.height - 1);
    if model.rows.is_empty() {
        let text = match (&model.status, model.filter.is_empty()) {
            (None, _) => "",
            (Some(_), true) => "No workers are registered. Start one: monitor run -- CMD",
            (Some(_), false) => "No worker has this text.",
        };
        lines.push(Line::raw(cut(text, area.width.into())));
    }
    let chosen = |row: &Row| row.worker().is_some() && row.worker() == model.chosen_worker;
    let at = model.rows.iter().position(chosen).unwrap_or(0);
    let skip = at.saturating_sub(room.saturating_sub(2).max(room / 2));
    for row in model.rows.iter().skip(skip).take(room) {
        lines.push(line(row, model, columns, look, area.width.into()));
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn headings() -> Cells {
    let [rank, id, memory, growth, peak, state, owner, rule, name] =
        ["#", "WORKER", "MEMORY", "GROWTH", "PEAK", "STATE", "OWNER", "RULE", "NAME"].map(str::to_owned);
    Cells { rank, id, memory, growth, peak, state, owner, rule, name }
}

fn line(row: &Row, model: &Model, columns: Columns, look: Look, width: usize) -> Line<'static> {
    match row {
        Row::Owner { owner, workers, memory } => {
            let owner = owner.as_deref().unwrap_or("(no owner)");
            let text = format!("{owner}: {workers} worker{}, {memory}", if *workers == 1 { "" } else { "s" });
            Line::styled(cut(&text, width), look.of(Color::Cyan))
        }
        Row::Worker { id, at, rank } => {
            let Some(worker) = model.workers.get(*at) else { return Line::raw("") };
            let line = Line::raw(cut(&columns.line(&cells(worker, *rank, model)), width));
            if model.focus == Focus::Workers && model.chosen_worker == Some(*id) {
                return line.style(look.chosen());
            }
            match worker.state {
                WorkerState::BeingKilled | WorkerState::Stuck | WorkerState::Refused => {
                    line.style(look.alarm())
                }
                WorkerState::Waiting | WorkerState::Idle => line.style(look.faint()),
                WorkerState::Running => line,
            }
        }
    }
}

fn cells(worker: &Worker, rank: Option<usize>, model: &Model) -> Cells {
    let course = model.courses.get(&worker.id);
    let state = match worker.state {
        WorkerState::Waiting => "waiting",
        WorkerState::Running => "running",
        WorkerState::Idle => "idle",
        WorkerState::BeingKilled => "being killed",
        WorkerState::Stuck => "stuck",
        WorkerState::Refused => "refused",
    };
    let or_unknown = |text: Option<&str>| text.unwrap_or(UNKNOWN).to_owned();
    Cells {
        rank: rank.map_or_else(|| UNKNOWN.to_owned(), |rank| rank.to_string()),
        id: worker.id.to_string(),
        memory: memory(worker.memory),
        growth: growth(course.and_then(|course| course.growth)),
        peak: memory(course.map(|course| course.peak)),
        state: state.to_owned(),
        owner: or_unknown(worker.owner.as_deref()),
        rule: or_unknown(worker.rule.as_deref()),
        name: or_unknown(worker.name.as_deref()),
    }
}
