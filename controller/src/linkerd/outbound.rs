//! The clients' view: what their proxies counted of each backend of the route. It sees what a server can't: connections that
//! fail, time-outs, a dead canary; and only meshed clients. Queries with variables; must not know who asks them.

/// The metric's name.
pub const OUTBOUND: &str = "outbound-success-rate";

/// What Linkerd takes for a failure. Names here: inbound metrics have numbers.
const GRPC_FAILURES: &str = "UNKNOWN|DEADLINE_EXCEEDED|PERMISSION_DENIED|INTERNAL|UNAVAILABLE|DATA_LOSS";

/// The bad answers of a GRPCRoute's backend, and all of them; per attempt, retries included.
pub fn grpc_route() -> [String; 2] {
    let metric = "outbound_grpc_route_backend_response_statuses_total";
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
    let metric = "outbound_http_route_backend_response_statuses_total";
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
    fn failures_are_among_all_of_the_arms_backend() {
        let [bad, total] = grpc_route();
        insta::assert_snapshot!(total, @r#"outbound_grpc_route_backend_response_statuses_total{parent_kind="Service",parent_namespace="{{namespace}}",parent_name="{{service}}",backend_namespace="{{namespace}}",backend_name="{{backend}}"}"#);
        assert_eq!(bad.matches("backend_name=\"{{backend}}\"").count(), 2, "{bad}");
    }
}
