//! Queries that users write into a rollout: their variables, and the form in which counters can be counted exactly. Text
//! only; it must not know a server, nor what is done with a number.

#[doc(hidden)]
pub mod fuzz;
mod scope;
mod selector;
mod template;

pub use template::{Piece, Problem, Template, VARIABLES, Variables, pieces};

/// The query of a counter: one or more selectors, whose raw samples are counted series by series and added up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterQuery(Template);

/// The query of a single value: anything that gives one number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueQuery(Template);

impl CounterQuery {
    /// Reads a counter's query.
    ///
    /// # Errors
    /// Unknown variables, a form that can't be counted exactly, and a query that says the same of both arms.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let template = Template::parse(text)?;
        for selector in selector::split(&template.render(&Variables::sample())?)? {
            scope::within(&selector, "namespace")?;
        }
        if !template.tells_arms_apart() {
            return Err(Problem::new(
                "it says the same of both arms; let it ask for the arm's own pods, with pod=~\"{{pods}}\", {{deployment}} or {{revision}}",
            ));
        }
        Ok(Self(template))
    }

    /// The selectors for one arm.
    ///
    /// # Errors
    /// A variable's value that can't stand in a query.
    pub fn render(&self, variables: &Variables<'_>) -> Result<Vec<String>, Problem> {
        selector::split(&self.0.render(variables)?)
    }

    /// As [`Self::render`], and whatever the query says, it reads the rollout's own namespace only.
    ///
    /// # Errors
    /// As [`Self::render`], and when it can't be told what the query reads.
    pub fn render_within(&self, variables: &Variables<'_>) -> Result<Vec<String>, Problem> {
        let kept = |selector: &String| scope::within(selector, variables.namespace);
        self.render(variables)?.iter().map(kept).collect()
    }
}

impl ValueQuery {
    /// Reads a value's query.
    ///
    /// # Errors
    /// Unknown variables, a query of nothing, and one of which can't be told what it reads.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        let query = Self(Template::parse(text)?);
        query.render_within(&Variables::sample())?;
        Ok(query)
    }

    /// Whether it asks for one arm's own.
    pub fn tells_arms_apart(&self) -> bool {
        self.0.tells_arms_apart()
    }

    /// The query for one arm, which reads the rollout's own namespace only, whatever it says.
    ///
    /// # Errors
    /// A variable's value that can't stand in a query, and a query of which can't be told what it reads.
    pub fn render_within(&self, variables: &Variables<'_>) -> Result<String, Problem> {
        scope::within(&self.0.render(variables)?, variables.namespace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        CounterQuery::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn a_counter_is_asked_for_arm_by_arm() {
        let query =
            CounterQuery::parse(r#"sum(checkout_errors_total{namespace="{{namespace}}",pod=~"{{pods}}"})"#).unwrap();
        let variables = Variables {
            deployment: "shop-canary",
            hash: Some("5d4f"),
            ..Variables::sample()
        };
        assert_eq!(
            query.render(&variables).unwrap(),
            [r#"checkout_errors_total{namespace="namespace",pod=~"shop-canary-5d4f-[a-z0-9]+"}"#]
        );
    }

    #[test]
    fn a_query_of_a_user_reads_his_own_namespace_only() {
        let mine = Variables {
            namespace: "mine",
            ..Variables::sample()
        };
        let counter = CounterQuery::parse(r#"sum(orders_total{namespace="theirs",pod=~"{{pods}}"})"#).unwrap();
        let [selector] = &counter.render_within(&mine).unwrap()[..] else {
            panic!()
        };
        assert!(
            selector.starts_with(r#"orders_total{namespace="mine",namespace="theirs","#),
            "{selector}"
        );
        let value = ValueQuery::parse(r#"max(secret{namespace="theirs"} or {__name__=~".+"})"#).unwrap();
        assert_eq!(
            value.render_within(&mine).unwrap(),
            r#"max(secret{namespace="mine",namespace="theirs"} or {namespace="mine",__name__=~".+"})"#
        );
        assert!(ValueQuery::parse("max(by)").is_err());
    }

    #[test]
    fn what_says_the_same_of_both_arms_is_refused() {
        assert!(problem(r#"errors_total{namespace="{{namespace}}"}"#).starts_with("it says the same of both arms"));
        assert!(ValueQuery::parse("max(queue_depth)").is_ok_and(|query| !query.tells_arms_apart()));
    }

    #[test]
    fn what_is_no_counter_is_refused() {
        assert!(problem(r#"sum(rate(errors_total{pod=~"{{pods}}"}[1m]))"#).contains("`rate`"));
        assert!(problem(r#"errors_total{pod=~"{{pods}}"} / 2"#).contains("can't be counted"));
    }
}
