//! The domains: a line for each with its usage against the threshold, and the chosen one over time.

use ratatui::Frame;
use ratatui::layout::{Constraint, Rect};
use ratatui::style::Color;
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::Look;
use crate::cli::top::model::Model;
use crate::cli::top::words::{cut, memory, percent};
use crate::engine::DomainView;
use crate::units::{Bytes, Nanos};

/// How wide the bar is, on a screen that has room for it.
const BAR: usize = 20;
/// The chart shows this long, in seconds.
const SPAN: f64 = 600.0;

pub(super) fn list(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let Some(status) = &model.status else { return };
    let shown = model.shown_domain();
    let at = status.domains.iter().position(|view| Some(&view.domain[..]) == shown).unwrap_or(0);
    let room = usize::from(area.height);
    let skip = at.saturating_sub(room.saturating_sub(1));
    let several = status.domains.len() > 1;
    let lines = status.domains.iter().skip(skip).take(room);
    let lines: Vec<Line<'_>> = lines
        .map(|view| line(view, several && Some(&view.domain[..]) == shown, area.width.into(), look))
        .collect();
    frame.render_widget(Paragraph::new(lines), area);
}

fn line(view: &DomainView, chosen: bool, width: usize, look: Look) -> Line<'static> {
    let mark = if chosen { "> " } else { "  " };
    if let Some(error) = &view.error {
        let text = cut(&format!("{mark}{}: {error}", view.domain), width);
        return Line::styled(text, look.alarm());
    }
    let over = view.above == Some(true);
    let style = if over { look.alarm() } else { look.of(Color::Blue) };
    let share = view.used.zip(view.threshold).and_then(|(used, threshold)| percent(used, threshold));
    let share = share.map_or_else(|| "  -".to_owned(), |share| format!("{share:>3}%"));
    let state = match (over, view.kill) {
        (_, Some(kill)) => format!(" kill {kill} "),
        (true, None) => " OVER THE THRESHOLD ".to_owned(),
        (false, None) => String::new(),
    };
    let numbers = if width >= 60 {
        format!("{} of {} threshold", memory(view.used), memory(view.threshold))
    } else {
        format!("{} of {}", memory(view.used), memory(view.threshold))
    };
    let bar = if width >= 70 { bar(view.used, view.threshold) + " " } else { String::new() };
    let rest = format!("{bar}{share} {state} {numbers}");
    let name = width.saturating_sub(Span::raw(&rest[..]).width() + mark.len() + 1).max(8);
    Line::from(vec![
        Span::styled(
            format!("{mark}{:name$} ", cut(&view.domain, name)),
            if chosen { look.heading() } else { look.of(Color::Reset) },
        ),
        Span::styled(cut(&rest, width.saturating_sub(name + mark.len() + 1)), style),
    ])
}

/// Filled up to what is used of the threshold. Letters, so that it needs no color.
fn bar(used: Option<Bytes>, threshold: Option<Bytes>) -> String {
    let share = used.zip(threshold).and_then(|(used, threshold)| percent(used, threshold)).unwrap_or(0);
    let filled = usize::try_from(share).unwrap_or(0).min(100) * BAR / 100;
    format!("[{}{}]", "=".repeat(filled), " ".repeat(BAR - filled))
}

pub(super) fn chart(frame: &mut Frame<'_>, area: Rect, model: &Model, look: Look) {
    let (Some(status), Some(domain)) = (&model.status, model.shown_domain()) else { return };
    let past = model.past.get(domain);
    if area.height < 4 || area.width < 30 {
        return;
    }
    let x = |at: Nanos| -status.now.since(at).as_secs_f64();
    let levels = || past.into_iter().flatten();
    #[expect(clippy::cast_precision_loss, reason = "places on a screen")]
    let size = |bytes: Bytes| bytes.0 as f64;
    let used: Vec<(f64, f64)> = levels().map(|level| (x(level.at), size(level.used))).collect();
    let mut threshold: Vec<(f64, f64)> = levels().map(|level| (x(level.at), size(level.threshold))).collect();
    let view = status.domains.iter().find(|view| view.domain == domain);
    let now = view.and_then(|view| view.threshold);
    if let Some(now) = now {
        // Also before anything is known.
        threshold.insert(0, (threshold.first().map_or(-SPAN, |first| first.0), size(now)));
        threshold.push((0.0, size(now)));
    }
    let most = used.iter().chain(&threshold).fold(1.0_f64, |most, point| most.max(point.1)) * 1.05;
    let name = cut(domain, usize::from(area.width).saturating_sub(36));
    let datasets = vec![
        Dataset::default()
            .marker(Marker::Dot)
            .graph_type(GraphType::Line)
            .style(look.of(Color::Red))
            .data(&threshold),
        Dataset::default()
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(look.of(Color::Blue))
            .data(&used),
    ];
    let top = now.map_or_else(String::new, |now| now.to_string());
    let caption = format!("{name}: used, and its threshold (dots)");
    let chart = Chart::new(datasets)
        .block(Block::new().title(caption).title_style(look.faint()))
        .legend_position(None)
        .hidden_legend_constraints((Constraint::Length(0), Constraint::Length(0)))
        .x_axis(Axis::default().bounds([-SPAN, 0.0]).labels(["-10 min", "-5 min", "now"]))
        .y_axis(Axis::default().bounds([0.0, most]).labels(["0".to_owned(), top]));
    frame.render_widget(chart, area);
}
