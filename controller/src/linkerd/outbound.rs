//! The clients' view: what their proxies counted of each backend of the route. It sees what a server can't: connections that
//! fail, time-outs, a dead canary; and only meshed clients. Queries with variables; must not know who asks them.

/// The metric's name.
pub const OUTBOUND: &str = "outbound-success-rate";

const GRPC_ROUTE: &str = "outbound_grpc_route_backend_response_statuses_total";
const HTTP_ROUTE: &str = "outbound_http_route_backend_response_statuses_total";

/// What Linkerd takes for a failure. Names here: inbound metrics have numbers.
const GRPC_FAILURES: &str = "UNKNOWN|DEADLINE_EXCEEDED|PERMISSION_DENIED|INTERNAL|UNAVAILABLE|DATA_LOSS";

/// The counter of a kind of route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counter {
    /// Of GRPCRoutes.
    GrpcRoute,
    /// Of HTTPRoutes.
    HttpRoute,
}

impl Counter {
    /// The counter whose query for all answers this is.
    pub fn of_total(query: &str) -> Option<Self> {
        let all = [(Self::GrpcRoute, grpc_route()), (Self::HttpRoute, http_route())];
        let found = all.into_iter().find(|(_, [_, total])| total == query);
        found.map(|(counter, _)| counter)
    }

    /// Its metric.
    pub fn metric(self) -> &'static str {
        match self {
            Self::GrpcRoute => GRPC_ROUTE,
            Self::HttpRoute => HTTP_ROUTE,
        }
    }

    /// Whether a series with these labels is one of bad answers: what the query for the bad ones selects.
    pub fn is_bad<'a>(self, label: impl Fn(&str) -> &'a str) -> bool {
        let status = match self {
            Self::GrpcRoute => label("grpc_status"),
            Self::HttpRoute => label("http_status"),
        };
        let failed = match self {
            Self::GrpcRoute => GRPC_FAILURES.split('|').any(|failure| failure == status),
            Self::HttpRoute => status.starts_with('5') && status.chars().count() == 3,
        };
        failed || (status.is_empty() && !label("error").is_empty())
    }
}

/// The bad answers of a GRPCRoute's backend, and all of them; per attempt, retries included.
pub fn grpc_route() -> [String; 2] {
    let metric = GRPC_ROUTE;
    let failures = format!(",grpc_status=~\"{GRPC_FAILURES}\"");
    // What ended in an error of the proxy's own has no status.
    [
        format!(
            "{} + {}",
            of(metric, &failures),
            of(metric, ",grpc_status=\"\",error!=\"\"")
        ),
        of(metric, ""),
    ]
}

/// The same of an HTTPRoute's, by HTTP status: every gRPC failure that a server answers is a 200 there.
pub fn http_route() -> [String; 2] {
    let metric = HTTP_ROUTE;
    [
        format!(
            "{} + {}",
            of(metric, ",http_status=~\"5..\""),
            of(metric, ",http_status=\"\",error!=\"\"")
        ),
        of(metric, ""),
    ]
}

fn of(metric: &str, more: &str) -> String {
    format!(
        "{metric}{{parent_kind=\"Service\",parent_namespace=\"{{{{namespace}}}}\",parent_name=\"{{{{service}}}}\",\
         backend_namespace=\"{{{{namespace}}}}\",backend_name=\"{{{{backend}}}}\"{more}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_bad_where_the_query_for_bad_ones_selects_it() {
        let bad = |counter: Counter, status: (&'static str, &'static str), error: &'static str| {
            counter.is_bad(|name| {
                if name == status.0 {
                    status.1
                } else if name == "error" {
                    error
                } else {
                    ""
                }
            })
        };
        for (status, error, expected) in [
            ("OK", "", false),
            ("UNAVAILABLE", "", true),
            ("UNIMPLEMENTED", "", false),
            ("", "", false),
            ("", "FAIL_FAST", true),
        ] {
            assert_eq!(
                bad(Counter::GrpcRoute, ("grpc_status", status), error),
                expected,
                "{status} {error}"
            );
        }
        for (status, error, expected) in [
            ("200", "", false),
            ("503", "", true),
            ("50", "", false),
            ("", "x", true),
        ] {
            assert_eq!(
                bad(Counter::HttpRoute, ("http_status", status), error),
                expected,
                "{status} {error}"
            );
        }
        let [_, total] = http_route();
        assert_eq!(Counter::of_total(&total), Some(Counter::HttpRoute));
        assert_eq!(Counter::of_total("errors_total"), None);
    }

    #[test]
    fn failures_are_among_all_of_the_arms_backend() {
        let [bad, total] = grpc_route();
        insta::assert_snapshot!(total, @r#"outbound_grpc_route_backend_response_statuses_total{parent_kind="Service",parent_namespace="{{namespace}}",parent_name="{{service}}",backend_namespace="{{namespace}}",backend_name="{{backend}}"}"#);
        assert_eq!(bad.matches("backend_name=\"{{backend}}\"").count(), 2, "{bad}");
    }
}
