//! The screen of a terminal: one rollout, or the list of all. Pure but for the frame that it is put on: lines of text, as wide as the
//! terminal. A colour never says what a word or a sign does not say as well.

use jiff::{SignedDuration, Timestamp, Unit};
use kube::runtime::watcher::Event;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;
use serin_core::rollout::short;

use super::around::{Around, Deployed, Told};
use super::seen::{Change, Seen};
use super::text::Text;
use crate::api::CanaryRollout;
use crate::board::{Lately, Percentiles};
use crate::cli::spark;
use crate::cli::status::overview;
use crate::view::evidence::{Evidence, Stand};
use crate::view::hooks::{Hook, Stand as HookStand};
use crate::view::pipeline::{Pipeline, Reached};
use crate::view::plan::{Place, Step};
use crate::view::{self, Detail, Tone};

/// Ticks and readings that are drawn: their lines have to end within 80 columns.
const TICKS: usize = 48;

/// What is known, and how far down the person looks.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) seen: Seen,
    pub(super) around: Around,
    /// Why what is shown may be old.
    pub(super) trouble: Option<String>,
    /// Of the only rollout, since this began.
    percentiles: Percentiles,
    is_single: bool,
    namespaces: bool,
    down: u16,
}

impl Screen {
    pub(super) fn new(is_single: bool, namespaces: bool) -> Self {
        Self {
            is_single,
            namespaces,
            ..Self::default()
        }
    }

    /// Takes in what the watch tells.
    pub(super) fn take(&mut self, event: Event<CanaryRollout>) -> Vec<Change> {
        let changes = self.seen.take(event);
        if let Some(status) = self.only().and_then(|rollout| rollout.status.clone()) {
            self.percentiles.add(&status);
        }
        changes
    }

    /// The rollout that it is about.
    pub(super) fn only(&self) -> Option<&CanaryRollout> {
        self.seen.rollouts.values().next().filter(|_| self.is_single)
    }

    pub(super) fn scroll(&mut self, lines: i16) {
        self.down = self.down.saturating_add_signed(lines);
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, now: Timestamp, colours: bool) {
        let [body, foot] = Layout::vertical([Constraint::Fill(1), Constraint::Length(1)]).areas(frame.area());
        let mut lines = self.lines(usize::from(body.width), now);
        if !colours {
            for line in &mut lines {
                for span in &mut line.spans {
                    span.style.fg = None;
                }
            }
        }
        let below = u16::try_from(lines.len())
            .unwrap_or(u16::MAX)
            .saturating_sub(body.height);
        self.down = self.down.min(below);
        frame.render_widget(Paragraph::new(lines).scroll((self.down, 0)), body);
        let more = if self.down < below { "↓ more   " } else { "" };
        let foot_text = format!("{more}q quits, ↑ ↓ scroll");
        frame.render_widget(
            Paragraph::new(foot_text).style(Style::new().add_modifier(Modifier::DIM)),
            foot,
        );
    }

    fn lines(&self, width: usize, now: Timestamp) -> Vec<Line<'static>> {
        let mut out = Text::new(width);
        if let Some(trouble) = &self.trouble {
            out.wrapped("", trouble, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
            out.blank();
        }
        match self.only() {
            Some(rollout) => {
                let lately = Lately {
                    latencies: self.percentiles.all(),
                    ..Lately::default()
                };
                one(&mut out, &view::detail(rollout, lately), rollout, &self.around, now);
            }
            None if self.is_single => out.plain("waiting for the API server".to_owned()),
            None => {
                let rollouts: Vec<CanaryRollout> = self.seen.rollouts.values().cloned().collect();
                for line in overview(&rollouts, self.namespaces).lines() {
                    out.plain(line.to_owned());
                }
            }
        }
        out.lines
    }
}

fn one(out: &mut Text, detail: &Detail<'_>, rollout: &CanaryRollout, around: &Around, now: Timestamp) {
    head(out, detail, now);
    plan(out, &detail.plan);
    arms(out, detail, rollout, around);
    if !detail.evidence.is_empty() {
        out.heading("Evidence");
        for one in &detail.evidence {
            evidence(out, one);
        }
    }
    if let Some(forecast) = detail.forecast {
        out.wrapped("  ", forecast, Style::new());
    }
    hooks(out, &detail.hooks);
    git(out, detail);
    let trouble: Vec<_> = detail.conditions.iter().filter(|one| one.trouble).collect();
    if !trouble.is_empty() {
        out.heading("Needs attention");
        for one in trouble {
            let before = format!("  ! {} ({}): ", one.kind, one.reason);
            out.wrapped(&before, one.message, Style::new().fg(Color::Yellow));
        }
    }
    events(out, &around.events);
    for unread in &around.unread {
        out.wrapped(
            "  ? not shown, as it could not be read: ",
            unread,
            Style::new().fg(Color::Yellow),
        );
    }
    if !detail.commands.is_empty() {
        out.heading("You can");
        for command in &detail.commands {
            out.plain(format!("  {}", command.text));
            out.wrapped("      ", command.does, Style::new().add_modifier(Modifier::DIM));
        }
    }
}

fn head(out: &mut Text, detail: &Detail<'_>, now: Timestamp) {
    let (sign, colour) = match detail.tone {
        Tone::Rest => ("·", Color::Reset),
        Tone::Works => ("▶", Color::Cyan),
        Tone::Waits => ("‖", Color::Yellow),
        Tone::Back => ("◀", Color::Red),
        Tone::Failed => ("✗", Color::Red),
        Tone::Good => ("✓", Color::Green),
    };
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let next = match detail.next.map(|next| next.duration_since(now)) {
        Some(left) if left > SignedDuration::ZERO => format!("   next look in {}", span(left)),
        _ => String::new(),
    };
    out.spans(vec![
        Span::styled(format!("{}/{}", detail.namespace, detail.name), bold),
        Span::styled(format!("   {sign} {}", detail.phase), bold.fg(colour)),
        Span::raw(next),
    ]);
    out.wrapped("  ", detail.message, Style::new());
    if let Some(weight) = detail.weight {
        let wanted = if weight.wanted == weight.observed {
            String::new()
        } else {
            format!(", {} % wanted", weight.wanted)
        };
        let arrives = match detail.share.as_ref().map(|share| share.percent) {
            Some(Some(percent)) => format!("; {percent:.1} % of the last tick's calls arrived at the canary"),
            Some(None) => "; no calls in the last tick".to_owned(),
            None => String::new(),
        };
        out.wrapped(
            "  ",
            &format!("weight {} %{wanted}{arrives}", weight.observed),
            Style::new(),
        );
    }
}

fn plan(out: &mut Text, steps: &[Step]) {
    if steps.is_empty() {
        return;
    }
    let mut spans = vec![Span::raw("  ")];
    for step in steps {
        let (sign, style) = match step.place {
            Place::Done => ("✓", Style::new().fg(Color::Green)),
            Place::Now => ("▶", Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD)),
            Place::Ahead => ("·", Style::new()),
            Place::Off => ("–", Style::new().add_modifier(Modifier::DIM)),
        };
        let approval = if step.approval { " approval" } else { "" };
        spans.push(Span::styled(format!("{sign} {} %{approval}   ", step.weight), style));
    }
    out.heading("Plan");
    out.spans(spans);
    if let Some(step) = steps.iter().find(|step| step.place == Place::Now) {
        let still = step.forecast.as_ref().map(|still| format!("; {still}"));
        let words = format!(
            "held {}, {} at most, then {}{}",
            step.hold,
            step.at_most,
            step.unproven,
            still.unwrap_or_default()
        );
        out.wrapped("  ", &words, Style::new());
    }
}

fn arms(out: &mut Text, detail: &Detail<'_>, rollout: &CanaryRollout, around: &Around) {
    let last = detail.samples.and_then(|samples| samples.ticks.last());
    let as_of = last.map(|tick| format!(" as of {}", clock(tick.end)));
    out.heading(&format!("Arms{}", as_of.unwrap_or_default()));
    let deployments: [&Option<Deployed>; 2] = [&around.stable, &around.canary];
    for (shown, deployment) in detail.arms.iter().zip(deployments) {
        let pods = deployment.as_ref().map_or_else(
            || "pods unknown".to_owned(),
            |arm| format!("{} of {} pods ready", arm.ready, arm.wanted),
        );
        // The registry is the same for both and long.
        let image = |arm: &Deployed| format!("   {}", arm.image.rsplit('/').next().unwrap_or_default());
        let image = deployment.as_ref().map(image).unwrap_or_default();
        let (name, revision) = (shown.name, shown.revision.unwrap_or("-"));
        out.plain(format!("  {name}   {revision:<10} {pods:<20}{image}"));
        if detail.samples.is_some() {
            out.plain(format!("           {}", shown.words()));
        }
        if let Some(speed) = shown.speed() {
            out.plain(format!("           {speed} in the last minute"));
        }
    }
    if detail.arms.iter().any(|arm| arm.latency.is_some()) {
        out.plain("           ≈ estimated within the bounds of Linkerd's histogram".to_owned());
    }
    if let Some(samples) = detail.samples.filter(|samples| !samples.ticks.is_empty()) {
        for line in spark::lines(samples, TICKS) {
            out.plain(format!("  {line}"));
        }
        out.plain(format!("           {}", spark::LEGEND));
    }
    let percentiles = spark::percentiles(&detail.latencies, TICKS);
    for line in &percentiles {
        out.plain(format!("  {line}"));
    }
    if !percentiles.is_empty() {
        out.plain(format!("           {}", spark::LEGEND_OF_PERCENTILES));
    }
    if let Some(scaler) = &around.autoscaler {
        out.plain(format!(
            "  autoscaler of {}: {} pods of {} to {}",
            rollout.spec.stable.deployment, scaler.present, scaler.least, scaler.most
        ));
    }
}

fn evidence(out: &mut Text, one: &Evidence<'_>) {
    let (word, style) = match one.stand {
        Stand::NoData => ("no data", Style::new().fg(Color::Yellow)),
        Stand::Counting => ("counting", Style::new()),
        Stand::Leaning => ("leans to a failure", Style::new().fg(Color::Yellow)),
        Stand::Failed => ("failed", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD)),
        Stand::Passed => ("passed", Style::new().fg(Color::Green)),
    };
    let dry = if one.dry_run { " (dry run)" } else { "" };
    out.spans(vec![
        Span::raw(format!("  {}{dry}: ", one.metric)),
        Span::styled(word, style),
    ]);
    if one.stand != Stand::NoData {
        out.spans(vec![
            Span::raw("    fail "),
            Span::styled(bar(one.towards_fail), Style::new().fg(Color::Red)),
            Span::raw(format!(" {:>3} %   pass ", one.towards_fail)),
            Span::styled(bar(one.towards_pass), Style::new().fg(Color::Green)),
            Span::raw(format!(" {:>3} %", one.towards_pass)),
        ]);
    }
    out.wrapped("    ", one.sentence, Style::new());
    if let Some(range) = one.own.range {
        let other = one.other.range.map(|other| format!(", the other arm's in {other}"));
        let words = format!("its share lies in {range}{}", other.unwrap_or_default());
        out.wrapped("    ", &words, Style::new());
    }
}

/// Twenty cells.
fn bar(percent: i32) -> String {
    let full = usize::try_from(percent.clamp(0, 100) / 5).unwrap_or(0);
    format!("{}{}", "█".repeat(full), "░".repeat(20 - full))
}

fn hooks(out: &mut Text, hooks: &[Hook<'_>]) {
    if hooks.is_empty() {
        return;
    }
    out.heading("Hooks");
    for hook in hooks {
        let (sign, style) = match hook.stand {
            HookStand::Waits => ("▶", Style::new().fg(Color::Cyan)),
            HookStand::Passed => ("✓", Style::new().fg(Color::Green)),
            HookStand::Failed => ("✗", Style::new().fg(Color::Red)),
            HookStand::Over => ("–", Style::new().add_modifier(Modifier::DIM)),
        };
        out.wrapped(&format!("  {sign} "), &hook.sentence(clock), style);
    }
}

fn git(out: &mut Text, detail: &Detail<'_>) {
    if detail.revision.is_none() && detail.pipeline.is_none() {
        return;
    }
    out.heading("Git");
    if let Some(revision) = &detail.revision {
        let commit = revision.commit.map_or("a commit that was not found yet", short);
        let author = revision
            .author
            .map(|author| format!(" by {author}"))
            .unwrap_or_default();
        let subject = revision
            .subject
            .map(|subject| format!(": {subject}"))
            .unwrap_or_default();
        let words = format!("{} from {commit}{author}{subject}", revision.name);
        out.wrapped("  ", &words, Style::new());
        if let Some(link) = &revision.link {
            out.plain(format!("  {link}"));
        }
    }
    if let Some(pipeline) = &detail.pipeline {
        answer(out, pipeline);
    }
}

fn answer(out: &mut Text, pipeline: &Pipeline<'_>) {
    let commit = pipeline.commit.map(|commit| format!(", commit {}", short(commit)));
    out.plain(format!(
        "  {} of {}{}",
        pipeline.kind,
        pipeline.revision,
        commit.unwrap_or_default()
    ));
    if let Some(link) = &pipeline.link {
        out.plain(format!("  {link}"));
    }
    for stage in &pipeline.stages {
        let (sign, style) = match stage.state {
            Reached::Done => ("✓", Style::new().fg(Color::Green)),
            Reached::Now => ("▶", Style::new().fg(Color::Cyan)),
            Reached::Ahead => ("·", Style::new()),
        };
        let at = stage.at.map(|at| format!("  {}", clock(at))).unwrap_or_default();
        out.spans(vec![
            Span::styled(format!("    {sign} {}", stage.name), style),
            Span::raw(at),
        ]);
    }
    if let Some(reason) = pipeline.reason {
        out.wrapped("    ", reason, Style::new());
    }
}

fn events(out: &mut Text, events: &[Told]) {
    if events.is_empty() {
        return;
    }
    out.heading("Events");
    for event in events {
        let at = event.at.map_or_else(|| "        ".to_owned(), clock);
        let style = if event.warns {
            Style::new().fg(Color::Yellow)
        } else {
            Style::new()
        };
        let sign = if event.warns { "!" } else { " " };
        out.wrapped(
            &format!("  {at} {sign} "),
            &format!("{}: {}", event.reason, event.message),
            style,
        );
    }
}

fn clock(at: Timestamp) -> String {
    at.strftime("%H:%M:%SZ").to_string()
}

fn span(of: SignedDuration) -> String {
    let whole = of.round(Unit::Second).unwrap_or(of);
    format!("{whole:#}")
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
