//! The text of the metrics, line by line.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn lines(metrics: &Metrics, start: &str) -> Vec<String> {
    let text = metrics.render(at(20));
    text.lines()
        .filter(|line| line.starts_with(start))
        .map(str::to_owned)
        .collect()
}

#[test]
fn responses_are_counted_by_status_and_class() {
    let metrics = Metrics::new(at(10));
    let series = metrics.http("direction=\"inbound\"");
    for status in [0, 0, 14] {
        series.request();
        series.response(Some(StatusCode::OK), Class::of(true, StatusCode::OK, Some(status)));
    }
    series.response(None, Broken::Reset.class());
    assert_eq!(
        lines(&metrics, "request_total"),
        ["request_total{direction=\"inbound\"} 3"]
    );
    assert_eq!(
        lines(&metrics, "response_total"),
        [
            r#"response_total{direction="inbound",classification="failure",grpc_status="",error="h2(INTERNAL_ERROR)"} 1"#,
            r#"response_total{direction="inbound",status_code="200",classification="success",grpc_status="0",error=""} 2"#,
            r#"response_total{direction="inbound",status_code="200",classification="failure",grpc_status="14",error=""} 1"#,
        ]
    );
}

#[test]
fn latency_has_linkerds_bounds_and_counts_whole_milliseconds() {
    let metrics = Metrics::new(at(10));
    let series = metrics.http("a=\"b\"");
    for micros in [900, 1_900, 7_000, 60_000_000] {
        series.first_frame(StatusCode::OK, Duration::from_micros(micros));
    }
    let text = lines(&metrics, "response_latency_ms");
    assert_eq!(text.len(), 28);
    let value = |le: &str| {
        let start = format!("response_latency_ms_bucket{{a=\"b\",status_code=\"200\",le=\"{le}\"}} ");
        text.iter()
            .find_map(|line| line.strip_prefix(&start))
            .unwrap()
            .to_owned()
    };
    let bounds = ["1", "2", "5", "10", "50000", "+Inf"];
    assert_eq!(bounds.map(value), ["2", "2", "2", "3", "3", "4"]);
    assert!(
        text.contains(&"response_latency_ms_sum{a=\"b\",status_code=\"200\"} 60008".to_owned()),
        "{text:?}"
    );
}

#[test]
fn route_metrics_name_the_status_and_have_their_own_bounds() {
    let metrics = Metrics::new(at(10));
    let backend = metrics.backend(Family::Grpc, "route_name=\"r\"", "backend_name=\"canary\"");
    backend.request();
    let status = status_label(Family::Grpc, Some(StatusCode::OK), Some(14));
    backend.response(status, None, Some(Duration::from_millis(60)));
    assert_eq!(
        lines(&metrics, "outbound_grpc_route_backend_response_statuses_total"),
        [
            r#"outbound_grpc_route_backend_response_statuses_total{route_name="r",backend_name="canary",grpc_status="UNAVAILABLE",error=""} 1"#
        ]
    );
    assert_eq!(
        lines(&metrics, "outbound_grpc_route_backend_requests_total"),
        [r#"outbound_grpc_route_backend_requests_total{route_name="r",backend_name="canary"} 1"#]
    );
    let buckets = lines(&metrics, "outbound_grpc_route_backend_response_duration_seconds_bucket");
    let bounds: Vec<_> = buckets.iter().map(|line| line.split('"').nth(1).unwrap()).collect();
    assert_eq!(bounds, ["0.025", "0.05", "0.1", "0.25", "0.5", "1.0", "10.0", "+Inf"]);
    assert!(buckets[1].ends_with(" 0") && buckets[2].ends_with(" 1"));
}

#[test]
fn a_route_that_was_not_called_has_no_metrics_and_a_request_has_fewer_bounds() {
    let metrics = Metrics::new(at(10));
    assert!(lines(&metrics, "outbound_").is_empty());
    let route = metrics.route(Family::Http, "route_name=\"http\"");
    let status = status_label(Family::Http, Some(StatusCode::OK), Some(14));
    route.response(status, None, Some(Duration::from_millis(1)));
    assert_eq!(
        lines(&metrics, "outbound_http_route_request_statuses_total"),
        [r#"outbound_http_route_request_statuses_total{route_name="http",hostname="",http_status="200",error=""} 1"#]
    );
    assert_eq!(
        lines(&metrics, "outbound_http_route_request_duration_seconds_bucket").len(),
        5
    );
}

#[test]
fn a_proxy_says_since_when_it_runs() {
    let metrics = Metrics::new(at(10));
    assert_eq!(
        lines(&metrics, "process_start_time_seconds"),
        ["process_start_time_seconds 10"]
    );
    assert_eq!(
        lines(&metrics, "process_uptime_seconds_total"),
        ["process_uptime_seconds_total 10"]
    );
    assert_eq!(lines(&metrics, "proxy_build_info{").len(), 1);
}
