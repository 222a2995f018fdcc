//! Draws the model: pure, whatever the size. What has no room is left out, the least important first: the chart, then
//! the kills, then columns.

mod domains;
mod workers;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph};

use super::model::{Focus, Model};
use super::words::{UNKNOWN, cut, duration, memory};
use crate::engine::KillRecord;

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) colors: bool,
}

impl Look {
    fn of(self, color: Color) -> Style {
        if self.colors { Style::new().fg(color) } else { Style::new() }
    }

    /// Something to look at now.
    fn alarm(self) -> Style {
        self.of(Color::Red).add_modifier(Modifier::BOLD)
    }

    fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    fn chosen(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    fn faint(self) -> Style {
        if self.colors { Style::new().add_modifier(Modifier::DIM) } else { Style::new() }
    }
}

/// See the module.
pub(super) fn draw(frame: &mut Frame<'_>, model: &Model, look: Look) {
    let area = frame.area();
    let Heights { domains, chart, kills } = heights(area.height, model);
    let [top, domains, chart, workers, kills, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(domains),
        Constraint::Length(chart),
        Constraint::Min(0),
        Constraint::Length(kills),
        Constraint::Length(1),
    ])
    .areas(area);
    head(frame, top, model, look);
    domains::list(frame, domains, model, look);
    domains::chart(frame, chart, model, look);
    workers::list(frame, workers, model, look);
    list_kills(frame, kills, model, look);
    footer(frame, foot, model, look);
    if let Some(overlay) = &model.overlay {
        let area = if area.width > 60 { area.inner(ratatui::layout::Margin::new(3, 1)) } else { area };
        frame.render_widget(Clear, area);
        let title = format!(" {} (esc closes) ", cut(&overlay.title, area.width.saturating_sub(20).into()));
        let block = Block::bordered().title(title);
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let width = usize::from(inner.width);
        let lines = overlay.text.lines().flat_map(|line| wrapped(line, width));
        let lines: Vec<Line<'_>> = lines.skip(overlay.scrolled).take(inner.height.into()).collect();
        frame.render_widget(Paragraph::new(lines), inner);
    }
}

/// A line in as many as it needs.
fn wrapped(line: &str, width: usize) -> Vec<Line<'static>> {
    let line = crate::printable::printable(line);
    let (mut lines, mut now) = (Vec::new(), String::new());
    for character in line.chars() {
        now.push(character);
        if Span::raw(&now[..]).width() > width.max(1) {
            now.pop();
            lines.push(Line::raw(std::mem::take(&mut now)));
            now.push(character);
        }
    }
    lines.push(Line::raw(now));
    lines
}

/// Rows for each part; the workers have the rest.
struct Heights {
    domains: u16,
    chart: u16,
    kills: u16,
}

fn heights(all: u16, model: &Model) -> Heights {
    let count = model.status.as_ref().map_or(1, |status| status.domains.len().max(1));
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let most = (all / 6).max(1);
    let domains = count.min(most);
    let chart = if all >= 20 { (all / 4).min(14) } else { 0 };
    let kills = u16::try_from(model.kills.len()).unwrap_or(u16::MAX).min(all / 6);
    // With their heading.
    let kills = if kills > 0 && all >= 10 { kills + 1 } else { 0 };
    Heights { domains, chart, kills }
}

fn head(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let Some(status) = &model.status else {
        let text = model.lost().unwrap_or_else(|| "asking the agent...".to_owned());
        frame.render_widget(Paragraph::new(Span::styled(cut(&text, area.width.into()), look.alarm())), area);
        return;
    };
    let lost = model.lost();
    let protects = if lost.is_some() {
        Span::styled("NOT HEARD", look.alarm())
    } else if status.protects {
        Span::styled("protects", look.of(Color::Green))
    } else if status.dry_run || !status.kills {
        Span::styled("only observes", look.alarm())
    } else {
        Span::styled("PROTECTS NOTHING", look.alarm())
    };
    let mut spans = vec![Span::styled(format!("monitor {}  ", status.version), look.heading()), protects];
    if let Some(why) = lost {
        spans.push(Span::styled(format!("  {}", crate::printable::printable(&why)), look.alarm()));
    } else {
        let up = duration(std::time::Duration::from_millis(status.uptime_ms));
        let killed = status.counters.killed;
        spans.push(Span::raw(format!("  workers {}  killed {killed}", status.workers)));
        let polls = status.probes.iter().all(|probe| !probe.state.usable());
        if polls && area.width >= 60 {
            spans.push(Span::raw("  no kernel tracing"));
        }
        spans.push(Span::styled(format!("  up {up}"), look.faint()));
    }
    frame.render_widget(Line::from(spans), area);
}

fn list_kills(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    if area.height == 0 {
        return;
    }
    let active = model.focus == Focus::Kills;
    let width = usize::from(area.width);
    let mut lines = vec![Line::styled(
        cut(
            if active { "KILLS, the newest first (enter: report)" } else { "KILLS, the newest first (tab)" },
            width,
        ),
        look.heading(),
    )];
    let room = usize::from(area.height - 1);
    let skip = model.chosen_kill.saturating_sub(room.saturating_sub(1));
    for (number, kill) in model.kills.iter().rev().enumerate().skip(skip).take(room) {
        let mut line = Line::raw(cut(&kill_line(model, kill), width));
        if active && number == model.chosen_kill {
            line = line.style(look.chosen());
        } else if !kill.confirmed && !kill.dry_run {
            line = line.style(look.alarm());
        }
        lines.push(line);
    }
    frame.render_widget(Paragraph::new(lines), area);
}

fn kill_line(model: &Model, kill: &KillRecord) -> String {
    let now = model.status.as_ref().map(|status| status.now);
    let at = kill.times.signal.or(kill.times.decision);
    let ago = now
        .zip(at)
        .map_or_else(|| UNKNOWN.to_owned(), |(now, at)| format!("{} ago", duration(now.since(at))));
    let victims: Vec<String> = kill
        .victims
        .iter()
        .map(|victim| {
            let name = victim.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
            let owner = victim.owner.as_deref().map(|owner| format!(" of {owner}")).unwrap_or_default();
            format!("{}{name}{owner} ({})", victim.worker, memory(victim.memory))
        })
        .collect();
    let others = if kill.others > 0 { format!(" {} of other users", kill.others) } else { String::new() };
    let state = if kill.dry_run {
        "would kill"
    } else if kill.confirmed {
        "killed"
    } else {
        "killing"
    };
    format!("{:>3}  {ago:>14}  {state} {}{others} in {}", kill.id, victims.join(", "), kill.domain)
}

fn footer(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let width = usize::from(area.width);
    let text = if model.typing {
        format!("/{}_  (enter keeps it, esc removes it)", model.filter)
    } else {
        let filter =
            if model.filter.is_empty() { String::new() } else { format!("  only: {}", model.filter) };
        format!("q quit  ? keys  s sort: {}  / filter{filter}  e explain  r report", model.sort.word())
    };
    frame.render_widget(Line::styled(cut(&text, width), look.faint()), area);
}
