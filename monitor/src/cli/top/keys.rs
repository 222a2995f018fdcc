//! What a key does to the model. Pure.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::explain;
use super::message::Want;
use super::model::{Focus, Model};
use super::overlay::Overlay;

/// A page of a list or a text.
const PAGE: isize = 10;

/// What follows besides a change of the model.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Nothing,
    Quit,
    Ask(Want),
}

pub(super) fn press(model: &mut Model, key: KeyEvent) -> Outcome {
    if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
        return Outcome::Quit;
    }
    // Order or filter may change.
    model.stale = true;
    if model.typing {
        type_filter(model, key.code);
        return Outcome::Nothing;
    }
    if model.overlay.is_some() {
        return over(model, key.code);
    }
    match key.code {
        KeyCode::Char('q') => return Outcome::Quit,
        KeyCode::Up | KeyCode::Char('k') => model.step(-1),
        KeyCode::Down | KeyCode::Char('j') => model.step(1),
        KeyCode::PageUp => model.step(-PAGE),
        KeyCode::PageDown => model.step(PAGE),
        KeyCode::Home => model.step(isize::MIN / 2),
        KeyCode::End => model.step(isize::MAX / 2),
        KeyCode::Tab | KeyCode::BackTab => {
            model.focus = match model.focus {
                Focus::Workers => Focus::Kills,
                Focus::Kills => Focus::Workers,
            };
        }
        KeyCode::Left | KeyCode::Char('h') => return turn(model, -1),
        KeyCode::Right | KeyCode::Char('l') => return turn(model, 1),
        KeyCode::Char('s') => model.sort = model.sort.next(),
        KeyCode::Char('/') => model.typing = true,
        KeyCode::Esc => model.filter.clear(),
        KeyCode::Char('?') | KeyCode::F(1) => model.overlay = Some(Overlay::keys()),
        KeyCode::Char('e') => explain_chosen(model),
        KeyCode::Char('r') => return report(model),
        KeyCode::Enter => match model.focus {
            Focus::Workers => explain_chosen(model),
            Focus::Kills => return report(model),
        },
        _ => {}
    }
    Outcome::Nothing
}

fn explain_chosen(model: &mut Model) {
    if let Some(id) = model.chosen_worker {
        model.overlay = Some(explain::overlay(model, id));
    }
}

fn report(model: &mut Model) -> Outcome {
    let Some(kill) = model.kill().map(|kill| kill.id.0) else { return Outcome::Nothing };
    model.overlay = Some(Overlay::report(kill));
    Outcome::Ask(Want::Report(kill))
}

fn turn(model: &mut Model, step: isize) -> Outcome {
    model.turn_to(step).map_or(Outcome::Nothing, |domain| Outcome::Ask(Want::Domain(domain)))
}

fn type_filter(model: &mut Model, key: KeyCode) {
    match key {
        KeyCode::Enter => model.typing = false,
        KeyCode::Esc => {
            model.filter.clear();
            model.typing = false;
        }
        KeyCode::Backspace => {
            model.filter.pop();
        }
        KeyCode::Char(character) if model.filter.len() < 100 => model.filter.push(character),
        _ => {}
    }
}

fn over(model: &mut Model, key: KeyCode) -> Outcome {
    let Some(overlay) = &mut model.overlay else { return Outcome::Nothing };
    match key {
        KeyCode::Up | KeyCode::Char('k') => overlay.scroll(-1),
        KeyCode::Down | KeyCode::Char('j') => overlay.scroll(1),
        KeyCode::PageUp => overlay.scroll(-PAGE),
        KeyCode::PageDown | KeyCode::Char(' ') => overlay.scroll(PAGE),
        KeyCode::Char('q') | KeyCode::Esc | KeyCode::Enter | KeyCode::Char('?') => model.overlay = None,
        _ => {}
    }
    Outcome::Nothing
}
