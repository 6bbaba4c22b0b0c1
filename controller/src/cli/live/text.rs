//! Lines of text as wide as a terminal: cut or wrapped, and harmless. They must not know what they say.

use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use crate::view;

/// Lines of at most one width.
pub(super) struct Text {
    width: usize,
    pub(super) lines: Vec<Line<'static>>,
}

impl Text {
    pub(super) fn new(width: usize) -> Self {
        Self { width, lines: vec![] }
    }

    pub(super) fn blank(&mut self) {
        self.lines.push(Line::default());
    }

    pub(super) fn plain(&mut self, text: String) {
        self.spans(vec![Span::raw(text)]);
    }

    pub(super) fn heading(&mut self, text: &str) {
        self.blank();
        self.spans(vec![Span::styled(
            text.to_owned(),
            Style::new().add_modifier(Modifier::BOLD),
        )]);
    }

    /// What is longer than the line is cut; nothing from elsewhere moves the cursor.
    pub(super) fn spans(&mut self, spans: Vec<Span<'static>>) {
        let mut room = self.width;
        let mut line = Line::default();
        for span in spans {
            let text: String = view::one_line(&span.content).chars().take(room).collect();
            room -= text.chars().count();
            line.push_span(Span::styled(text, span.style));
        }
        self.lines.push(line);
    }

    /// In as many lines as it takes, each after the first as far to the right as the text of the first.
    pub(super) fn wrapped(&mut self, before: &str, text: &str, style: Style) {
        let indent = before.chars().count();
        let room = self.width.saturating_sub(indent).max(20);
        let mut start = before.to_owned();
        for part in wrap(&view::one_line(text), room) {
            self.spans(vec![Span::raw(start), Span::styled(part, style)]);
            start = " ".repeat(indent);
        }
    }
}

fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![];
    let mut line = String::new();
    for word in text.split_whitespace() {
        let length = line.chars().count();
        if length > 0 && length + 1 + word.chars().count() > room {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}
