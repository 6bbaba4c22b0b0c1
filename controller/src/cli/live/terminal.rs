//! The terminal: taken over, drawn on, given back as it was. It must not know what is drawn.

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
            // https://no-color.org: set and not empty.
            colours: std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
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
