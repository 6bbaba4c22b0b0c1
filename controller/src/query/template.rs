//! Variables in a query: `{{namespace}}` and the others. Must not know PromQL beyond its strings.

use std::fmt::Write as _;

/// The variables, with what each stands for.
pub const VARIABLES: [(&str, &str); 9] = [
    ("namespace", "the rollout's namespace"),
    ("service", "the apex Service"),
    ("stable", "stable's Deployment"),
    ("canary", "the canary's Deployment"),
    ("deployment", "the Deployment of the arm that is asked about"),
    ("pods", "a regular expression for the pods of that arm"),
    ("backend", "the Service of that arm, as the route names it"),
    ("revision", "the revision of that arm"),
    ("interval", "the length of a tick, such as 20s"),
];

/// What is wrong with a query, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Problem(String);

impl Problem {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What the variables stand for, for one arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variables<'a> {
    /// The rollout's namespace.
    pub namespace: &'a str,
    /// The apex Service.
    pub service: &'a str,
    /// Stable's Deployment.
    pub stable: &'a str,
    /// The canary's Deployment.
    pub canary: &'a str,
    /// The arm's Deployment.
    pub deployment: &'a str,
    /// The template hash of the arm's pods; `None`: whatever it is.
    pub hash: Option<&'a str>,
    /// The arm's Service.
    pub backend: &'a str,
    /// The arm's revision; `None`: nobody knows what it was called.
    pub revision: Option<&'a str>,
    /// The length of a tick, as PromQL writes durations.
    pub interval: &'a str,
}

impl Variables<'static> {
    /// Values that could be, to see what a query becomes.
    pub fn sample() -> Self {
        Self {
            namespace: "namespace",
            service: "service",
            stable: "stable",
            canary: "canary",
            deployment: "canary",
            hash: Some("5d4f8c7b9"),
            backend: "service-canary",
            revision: Some("revision"),
            interval: "20s",
        }
    }
}

/// A query with its variables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template(Vec<Part>);

/// A part of a text with `{{names}}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// As it stands.
    Text(&'a str),
    /// What stands between the braces.
    Name(&'a str),
}

/// Takes a text apart at its `{{names}}`.
///
/// # Errors
/// One that does not end.
pub fn pieces(text: &str) -> Result<Vec<Piece<'_>>, Problem> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            return Err(Problem::new(format!(
                "`{{{{{after}` is a variable that does not end; write `}}}}` behind it"
            )));
        };
        pieces.extend([Piece::Text(before), Piece::Name(name.trim())]);
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    Namespace,
    Service,
    Stable,
    Canary,
    Deployment,
    Pods,
    Backend,
    Revision,
    Interval,
}

impl Template {
    /// Reads a query.
    ///
    /// # Errors
    /// An unknown variable, one that does not end, or nothing at all.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if text.trim().is_empty() {
            return Err(Problem::new("it is empty; write a PromQL query"));
        }
        let parts = pieces(text)?.into_iter().map(|piece| match piece {
            Piece::Text(text) => Ok(Part::Text(text.to_owned())),
            Piece::Name(name) => Variable::named(name).map(Part::Variable),
        });
        let parts = parts.collect::<Result<Vec<_>, _>>()?;
        Ok(Self(parts))
    }

    /// Whether it can say something else of the canary than of stable.
    pub fn tells_arms_apart(&self) -> bool {
        let of_the_arm = |part: &Part| {
            matches!(
                part,
                Part::Variable(Variable::Deployment | Variable::Pods | Variable::Backend | Variable::Revision)
            )
        };
        self.0.iter().any(of_the_arm)
    }

    /// The query with these values in the variables' places.
    ///
    /// # Errors
    /// A value that would break out of its string.
    pub fn render(&self, variables: &Variables<'_>) -> Result<String, Problem> {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Variable(variable) => out.push_str(&variable.value(variables)?),
            }
        }
        Ok(out)
    }
}

impl Variable {
    fn named(name: &str) -> Result<Self, Problem> {
        Ok(match name {
            "namespace" => Self::Namespace,
            "service" => Self::Service,
            "stable" => Self::Stable,
            "canary" => Self::Canary,
            "deployment" => Self::Deployment,
            "pods" => Self::Pods,
            "backend" => Self::Backend,
            "revision" => Self::Revision,
            "interval" => Self::Interval,
            other => {
                let known: Vec<_> = VARIABLES.iter().map(|(name, _)| format!("{{{{{name}}}}}")).collect();
                return Err(Problem::new(format!(
                    "`{{{{{other}}}}}` is no variable; there are {}",
                    known.join(", ")
                )));
            }
        })
    }

    fn value(self, of: &Variables<'_>) -> Result<String, Problem> {
        let value = match self {
            Self::Namespace => of.namespace,
            Self::Service => of.service,
            Self::Stable => of.stable,
            Self::Canary => of.canary,
            Self::Deployment => of.deployment,
            Self::Pods => return Ok(pods(of.deployment, of.hash)),
            Self::Backend => of.backend,
            Self::Revision => of.revision.ok_or_else(|| {
                Problem::new("what the arm's revision was called is not known; use {{pods}}, or say it")
            })?,
            Self::Interval => of.interval,
        };
        // Names of objects can't have such signs; a revision's name is an annotation, and can have any.
        if value
            .chars()
            .any(|c| matches!(c, '"' | '\'' | '`' | '\\') || c.is_control())
        {
            return Err(Problem::new(format!(
                "the revision's name {value:?} has quotes or control characters and can't stand in a query; use {{{{pods}}}}"
            )));
        }
        Ok(value.to_owned())
    }
}

/// A regular expression for the names of a Deployment's pods; it can stand in any PromQL string, so it has no backslash.
fn pods(deployment: &str, hash: Option<&str>) -> String {
    let mut out = deployment.replace('.', "[.]");
    // Writing to a String can't fail.
    let _ = write!(out, "-{}-[a-z0-9]+", hash.unwrap_or("[a-z0-9]+"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str) -> String {
        Template::parse(text).unwrap().render(&Variables::sample()).unwrap()
    }

    #[test]
    fn every_variable_that_is_documented_is_known() {
        for (name, _) in VARIABLES {
            assert!(!rendered(&format!("{{{{{name}}}}}")).is_empty(), "{name}");
        }
        assert_eq!(rendered("a {{ service }} b {{interval}}"), "a service b 20s");
    }

    #[test]
    fn unknown_and_unfinished_variables_are_named() {
        let problem = |text: &str| Template::parse(text).unwrap_err().to_string();
        assert!(
            problem("up{pod=\"{{pod}}\"}")
                .starts_with("`{{pod}}` is no variable; there are {{namespace}}, {{service}}")
        );
        assert!(problem("up{pod=\"{{pods\"}").contains("does not end"));
        assert!(problem("  ").contains("empty"));
    }

    #[test]
    fn stables_pods_are_not_the_canarys() {
        let pattern = format!("^{}$", pods("user-service", None));
        assert_eq!(pattern, "^user-service-[a-z0-9]+-[a-z0-9]+$");
        assert_eq!(pods("a.b", Some("5d4f")), "a[.]b-5d4f-[a-z0-9]+");
    }

    #[test]
    fn no_value_breaks_out_of_its_string() {
        let evil = Variables {
            revision: Some("1\"} or up{x=\""),
            ..Variables::sample()
        };
        assert!(
            Template::parse("up{version=\"{{revision}}\"}")
                .unwrap()
                .render(&evil)
                .is_err()
        );
    }
}
