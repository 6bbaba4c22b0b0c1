//! Preflight: whether Linkerd, the cluster and Prometheus would let a rollout work, one line a question, each with its reason
//! and what to do. Pure: facts in, lines out; must not know who read the facts or who reads the lines.

mod capacity;
mod causes;
mod facts;
mod ingress;
mod metrics;
mod pods;
mod route;
mod services;

use serde::Serialize;

pub use causes::causes;
pub use facts::{Facts, Proxy, Read, Route, Sight};

/// How a line ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it has to be.
    Pass,
    /// A rollout works, but not as well as it could, or it could not be told.
    Warn,
    /// A rollout does not work.
    Fail,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// What the question is about.
    pub group: &'static str,
    /// What should hold.
    pub claim: String,
    /// Whether it does.
    pub status: Status,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub todo: Option<String>,
}

impl Line {
    fn new(group: &'static str, claim: impl Into<String>) -> Self {
        Self {
            group,
            claim: claim.into(),
            status: Status::Pass,
            why: None,
            todo: None,
        }
    }

    /// The same line, which does not hold.
    fn but(self, status: Status, why: impl Into<String>, todo: impl Into<String>) -> Self {
        Self {
            status,
            why: Some(why.into()),
            todo: Some(todo.into()),
            ..self
        }
    }

    fn fail(self, why: impl Into<String>, todo: impl Into<String>) -> Self {
        self.but(Status::Fail, why, todo)
    }

    fn warn(self, why: impl Into<String>, todo: impl Into<String>) -> Self {
        self.but(Status::Warn, why, todo)
    }

    /// What could not be read can't be told.
    fn unread(self, why: &str) -> Self {
        self.warn(
            format!("it could not be read: {why}"),
            "grant what is missing to whoever checks, and check again",
        )
    }
}

/// All lines, in the order in which they are best put right.
pub fn check(facts: &Facts) -> Vec<Line> {
    let mut lines = vec![services::kind_is_served(facts)];
    lines.extend(services::check(facts));
    lines.extend(pods::check(facts));
    lines.push(ingress::check(facts));
    lines.extend(route::check(facts));
    lines.extend(metrics::check(facts));
    lines.extend(capacity::check(facts));
    lines
}

/// What stands in the way of a rollout: every line that fails, with what to do; `None` when none does.
pub fn refusal(lines: &[Line]) -> Option<String> {
    let failing = sentences(lines, Status::Fail);
    (!failing.is_empty()).then(|| failing.join("; "))
}

/// The lines that warn, each in a sentence.
pub fn warnings(lines: &[Line]) -> Vec<String> {
    sentences(lines, Status::Warn)
}

fn sentences(lines: &[Line], status: Status) -> Vec<String> {
    let of = |line: &Line| {
        let [why, todo] = [&line.why, &line.todo].map(|text| text.as_deref().unwrap_or_default());
        format!("not so: {}: {why}; {todo}", line.claim)
    };
    lines.iter().filter(|line| line.status == status).map(of).collect()
}

/// The lines as people read them, in the manner of `linkerd check`.
pub fn table(lines: &[Line]) -> String {
    let mut out = String::new();
    let mut group = "";
    for line in lines {
        if line.group != group {
            if !group.is_empty() {
                out.push('\n');
            }
            group = line.group;
            out.push_str(&format!("{group}\n{}\n", "-".repeat(group.chars().count())));
        }
        let sign = match line.status {
            Status::Pass => '√',
            Status::Warn => '‼',
            Status::Fail => '×',
        };
        out.push_str(&format!("{sign} {}\n", line.claim));
        for (lead, text) in [("    ", &line.why), ("    → ", &line.todo)] {
            if let Some(text) = text {
                out.push_str(&format!("{lead}{text}\n"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests;
