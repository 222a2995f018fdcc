//! `monitor top`: the whole node on one screen, as it changes. `link` asks the agent on a thread of its own, `model` is what
//! is known and chosen, `keys` says what a key does, and `view` draws it; only this file touches the terminal.

mod explain;
mod keys;
mod link;
mod message;
mod model;
mod order;
mod overlay;
mod view;
mod words;
mod worker;

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use ratatui::crossterm::terminal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use self::keys::Outcome;
use self::link::Link;
use self::message::Message;
use self::model::Model;
use self::view::Look;
use super::ask::{Ask, complain, print};
use super::exit;

/// Show domains, workers and kills as they change
///
/// The list has the workers in the order in which they would be killed. Press ? for the keys, q to quit.
#[derive(Debug, clap::Args)]
#[command(after_help = "Without colors if NO_COLOR is set.\n\
    Exit status: 0 done; 1 there is no terminal; 125 no agent answers (--once).")]
pub(super) struct Args {
    /// Print one frame as text, and exit
    #[arg(long)]
    once: bool,
    /// Seconds between two requests to the agent
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=60))]
    interval: u16,
    #[command(flatten)]
    ask: Ask,
}

/// How often the keyboard is looked at, and the longest that a frame is late.
const TURN: Duration = Duration::from_millis(100);

/// The size of a frame that goes nowhere.
const PAGE: (u16, u16) = (80, 24);

pub(super) fn run(args: Args) -> u8 {
    if args.ask.json {
        complain(&"top draws for people; for JSON ask status, workers or kills with --json");
        return exit::USAGE;
    }
    if args.once {
        return once(args);
    }
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        complain(&"top needs a terminal; --once prints one frame as text");
        return exit::FAILED;
    }
    let look = Look { colors: std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty()) };
    let every = Duration::from_secs(args.interval.into());
    let link = match Link::start(args.ask, every) {
        Ok(link) => link,
        Err(error) => {
            complain(&error);
            return exit::FAILED;
        }
    };
    // It gives the terminal back as it was, also if this panics.
    let mut terminal = match ratatui::try_init() {
        Ok(terminal) => terminal,
        Err(error) => {
            complain(&format_args!("no terminal: {error}"));
            return exit::FAILED;
        }
    };
    let done = watch(&mut terminal, &link, look);
    ratatui::restore();
    match done {
        Ok(()) => exit::OK,
        Err(error) => {
            complain(&format_args!("the terminal: {error}"));
            exit::FAILED
        }
    }
}

fn watch(terminal: &mut ratatui::DefaultTerminal, link: &Link, look: Look) -> io::Result<()> {
    let mut model = Model::default();
    let mut drawn: Option<Instant> = None;
    loop {
        let mut changed = match hear(&link.messages, &mut model) {
            Heard::Nothing => false,
            Heard::Something => true,
            Heard::End => return Ok(()),
        };
        if keyboard()? == Keyboard::Gone {
            return Ok(());
        }
        if event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match keys::press(&mut model, key) {
                    Outcome::Quit => return Ok(()),
                    Outcome::Ask(want) => link.want(want),
                    Outcome::Nothing => {}
                },
                _ => {}
            }
            changed = true;
        }
        // The time since the agent was heard is on the screen.
        if changed || drawn.is_none_or(|drawn| drawn.elapsed() >= Duration::from_secs(1)) {
            model.prepare();
            terminal.draw(|frame| view::draw(frame, &model, look))?;
            drawn = Some(Instant::now());
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keyboard {
    There,
    Gone,
}

/// Waits for a key, for a turn at most. A terminal that was closed is looked for here: crossterm would read its end again
/// and again, for ever.
fn keyboard() -> io::Result<Keyboard> {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let turn = Timespec { tv_sec: 0, tv_nsec: TURN.subsec_nanos().into() };
    match poll(&mut polled, Some(&turn)) {
        // A signal: the size may have changed.
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
    Ok(if polled[0].revents().intersects(gone) { Keyboard::Gone } else { Keyboard::There })
}

enum Heard {
    Nothing,
    Something,
    End,
}

fn hear(messages: &Receiver<Message>, model: &mut Model) -> Heard {
    let mut heard = Heard::Nothing;
    loop {
        match messages.try_recv() {
            Ok(Message::End) | Err(TryRecvError::Disconnected) => return Heard::End,
            Ok(message) => {
                model.hear(message);
                heard = Heard::Something;
            }
            Err(TryRecvError::Empty) => return heard,
        }
    }
}

fn once(args: Args) -> u8 {
    let mut model = Model::default();
    for message in link::once(&args.ask) {
        model.hear(message);
    }
    if let Some(why) = model.lost() {
        complain(&why);
        return exit::AGENT;
    }
    model.prepare();
    let size = if io::stdout().is_terminal() { terminal::size().unwrap_or(PAGE) } else { PAGE };
    print(&frame(&model, size))
}

/// One frame as text.
fn frame(model: &Model, (width, height): (u16, u16)) -> String {
    let Ok(mut terminal) = Terminal::new(TestBackend::new(width, height));
    let Ok(drawn) = terminal.draw(|frame| view::draw(frame, model, Look { colors: false }));
    text(drawn.buffer)
}

fn text(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut text = String::new();
    for y in area.top()..area.bottom() {
        let mut line = String::new();
        // A wide character takes the cells after it.
        let mut covered = 0;
        for x in area.left()..area.right() {
            let symbol = buffer[(x, y)].symbol();
            if covered == 0 {
                line.push_str(symbol);
                covered = ratatui::text::Span::raw(symbol).width();
            }
            covered = covered.saturating_sub(1);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests;
