//! The terminal: taken over, drawn on, given back as it was. It must not know what is drawn.

use std::ffi::OsString;
use std::io;

use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use tokio::sync::mpsc;

use super::screen::Screen;

/// What a person did.
pub(super) enum Key {
    Quit,
    /// So many lines down, or up when negative.
    Scroll(i16),
    /// The terminal has another size.
    Resized,
}

/// Gives the terminal back when it is dropped, and when the program panics.
pub(super) struct Terminal {
    screen: DefaultTerminal,
    keys: mpsc::Receiver<Key>,
    colours: bool,
}

impl Terminal {
    pub(super) fn open() -> io::Result<Self> {
        let taken = ratatui::try_init()?;
        let (sender, keys) = mpsc::channel(8);
        // Reading keys blocks. The thread ends with the program.
        std::thread::spawn(move || {
            while let Ok(event) = event::read() {
                if let Some(key) = key(&event)
                    && sender.blocking_send(key).is_err()
                {
                    return;
                }
            }
        });
        Ok(Self {
            screen: taken,
            keys,
            colours: are_wanted(std::env::var_os("NO_COLOR")),
        })
    }

    /// The next one; none ever when the terminal gives no more.
    pub(super) async fn key(&mut self) -> Key {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    pub(super) fn draw(&mut self, screen: &mut Screen, now: Timestamp) -> io::Result<()> {
        let colours = self.colours;
        self.screen.draw(|frame| screen.draw(frame, now, colours)).map(|_| ())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

/// Whether colours are, as `NO_COLOR` says: <https://no-color.org> counts it where it is set and not empty, whatever it is set to.
fn are_wanted(no_color: Option<OsString>) -> bool {
    no_color.is_none_or(|value| value.is_empty())
}

fn key(event: &Event) -> Option<Key> {
    const PAGE: i16 = 10;
    match event {
        Event::Resize(..) => Some(Key::Resized),
        Event::Key(key) if key.kind != KeyEventKind::Release => match key.code {
            KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Key::Quit),
            KeyCode::Down | KeyCode::Char('j') => Some(Key::Scroll(1)),
            KeyCode::Up | KeyCode::Char('k') => Some(Key::Scroll(-1)),
            KeyCode::PageDown | KeyCode::Char(' ') => Some(Key::Scroll(PAGE)),
            KeyCode::PageUp => Some(Key::Scroll(-PAGE)),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_go_by_the_rule_that_programs_share() {
        let set = |value: &str| Some(OsString::from(value));
        assert!(are_wanted(None) && are_wanted(set("")));
        assert!(!are_wanted(set("1")) && !are_wanted(set("0")) && !are_wanted(set("false")));
    }
}
