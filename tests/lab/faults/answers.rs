//! Answers: as they came, and wrong ones. It must not know what is asked.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::{Body, Fault, full};

/// The event with which a watch says that its resourceVersion is too old.
pub(super) const EXPIRED: &str = "{\"type\":\"ERROR\",\"object\":{\"kind\":\"Status\",\"apiVersion\":\"v1\",\"metadata\":{},\
    \"status\":\"Failure\",\"message\":\"too old resource version\",\"reason\":\"Expired\",\"code\":410}}\n";

/// An error, as an API server says it.
pub(super) fn status(code: StatusCode) -> Response<Body> {
    let reason = match code {
        StatusCode::CONFLICT => "Conflict",
        StatusCode::TOO_MANY_REQUESTS => "TooManyRequests",
        StatusCode::NOT_FOUND => "NotFound",
        _ => "InternalError",
    };
    let text = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "reason": reason,
        "message": "a fault of the lab's", "code": code.as_u16(),
    });
    let mut response = json_answer(&text);
    *response.status_mut() = code;
    if code == StatusCode::TOO_MANY_REQUESTS {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// A watch that ends before it begins.
pub(super) fn expired() -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(EXPIRED)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Whether the fault is one of an answer that is otherwise right.
pub(super) fn spoils(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::NoData | Fault::NotANumber | Fault::Warnings | Fault::Garbage
    )
}

/// A Prometheus's answer, spoiled.
pub(super) fn spoiled(answer: &[u8], fault: Fault) -> Response<Body> {
    let Ok(mut answer) = serde_json::from_slice::<Value>(answer) else {
        return Response::new(full(Bytes::copy_from_slice(answer)));
    };
    let series = |answer: &mut Value, change: &dyn Fn(&mut Vec<Value>)| {
        if let Some(series) = answer.pointer_mut("/data/result").and_then(Value::as_array_mut) {
            change(series);
        }
    };
    match fault {
        Fault::Garbage => return Response::new(full(Bytes::from_static(b"<html>please log in</html>"))),
        Fault::Warnings => {
            if let Some(answer) = answer.as_object_mut() {
                answer.insert("warnings".to_owned(), json!(["a store could not be asked"]));
            }
        }
        Fault::NoData => series(&mut answer, &Vec::clear),
        Fault::NotANumber => series(&mut answer, &|series| series.iter_mut().for_each(not_numbers)),
        _ => {}
    }
    json_answer(&answer)
}

fn not_numbers(series: &mut Value) {
    let nan = |sample: &mut Value| {
        if let Some(value) = sample.get_mut(1) {
            *value = json!("NaN");
        }
    };
    if let Some(value) = series.get_mut("value") {
        nan(value);
    }
    series
        .get_mut("values")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .for_each(nan);
}

/// The query of a form, asked about a minute earlier.
pub(super) fn a_minute_earlier(form: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(form);
    let earlier = text
        .split('&')
        .map(|field| match field.strip_prefix("time=").map(str::parse::<f64>) {
            Some(Ok(time)) => format!("time={:.3}", time - 60.0),
            _ => field.to_owned(),
        });
    Bytes::from(earlier.collect::<Vec<_>>().join("&"))
}

fn json_answer(value: &Value) -> Response<Body> {
    let mut response = Response::new(full(Bytes::from(value.to_string())));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer as it came.
pub(super) async fn whole(response: reqwest::Response) -> anyhow::Result<Response<Body>> {
    let (status, headers) = (response.status(), response.headers().clone());
    let mut answer = Response::new(full(response.bytes().await?));
    *answer.status_mut() = status;
    copy_headers(&headers, answer.headers_mut());
    Ok(answer)
}

/// Those that are about the answer, not about the connection.
pub(super) fn copy_headers(from: &HeaderMap<HeaderValue>, to: &mut HeaderMap<HeaderValue>) {
    for (name, value) in from {
        if ![header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name) {
            to.append(name, value.clone());
        }
    }
}
