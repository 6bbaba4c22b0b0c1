//! The load generator against a service in this process.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::time::{Instant, sleep};
use tonic::Code;

use super::{
    Args, Load,
    record::{Call, OVERFLOW, records},
    stub::Stub,
};
use crate::net::Net;

fn args(address: SocketAddr, rate: f64, record: &Path) -> Args {
    Args {
        authority: address.to_string(),
        rate,
        deadline_ms: 500,
        max_in_flight: 100,
        headers: Vec::new(),
        proxy_port: None,
        bind_address: std::net::Ipv4Addr::LOCALHOST,
        record: Some(record.to_owned()),
    }
}

/// Waits until calls as these are in the file.
async fn wait_for(path: &Path, wanted: impl Fn(&[Call]) -> bool) -> Vec<Call> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let calls = records(path).unwrap_or_default();
        if wanted(&calls) {
            return calls;
        }
        assert!(
            Instant::now() < end,
            "{} calls, the last {:?}",
            calls.len(),
            calls.last()
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn count(calls: &[Call], code: &str) -> usize {
    calls.iter().filter(|call| call.code == code).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_recorded_with_the_revision_that_answered() {
    let (net, dir) = (Net::choose().unwrap(), tempfile::tempdir().unwrap());
    let (address, path) = (SocketAddr::from((net.infra(), 50_051)), dir.path().join("calls"));
    let stub = Stub::start(address, "r1", Code::Ok).await;
    let load = Load::start(&args(address, 200.0, &path)).unwrap();
    let calls = wait_for(&path, |calls| count(calls, "OK") > 100).await;
    load.stop().await.unwrap();
    assert!(
        calls
            .iter()
            .filter(|call| call.code == "OK")
            .all(|call| call.revision.as_deref() == Some("r1"))
    );
    assert!(calls.iter().any(|call| call.method == "ListUsers"));
    assert!(calls.iter().any(|call| call.method == "CreateUser"));
    drop(stub);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_the_revision_too() {
    let (net, dir) = (Net::choose().unwrap(), tempfile::tempdir().unwrap());
    let (address, path) = (SocketAddr::from((net.infra(), 50_051)), dir.path().join("calls"));
    let _stub = Stub::start(address, "r2", Code::Internal).await;
    let _load = Load::start(&args(address, 100.0, &path)).unwrap();
    let calls = wait_for(&path, |calls| count(calls, "INTERNAL") > 5).await;
    let failed: Vec<_> = calls.iter().filter(|call| call.code == "INTERNAL").collect();
    assert!(
        failed
            .iter()
            .all(|call| call.revision.as_deref() == Some("r2") && call.is_failure())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_a_service_that_comes_later() {
    let (net, dir) = (Net::choose().unwrap(), tempfile::tempdir().unwrap());
    let (address, path) = (SocketAddr::from((net.infra(), 50_051)), dir.path().join("calls"));
    let load = Load::start(&args(address, 50.0, &path)).unwrap();
    wait_for(&path, |calls| count(calls, "UNAVAILABLE") > 0).await;
    for revision in ["r1", "r2"] {
        let stub = Stub::start(address, revision, Code::Ok).await;
        let answered = |calls: &[Call]| calls.iter().any(|call| call.revision.as_deref() == Some(revision));
        wait_for(&path, answered).await;
        drop(stub);
    }
    load.stop().await.unwrap();
}

/// A server that takes connections and never answers: no call is made later than it was due, and all are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_delays_no_call_and_what_is_too_much_is_recorded() {
    let (net, dir) = (Net::choose().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().join("calls");
    let listener = net.listen().await.unwrap();
    let address = listener.local_addr().unwrap();
    let args = Args {
        max_in_flight: 10,
        ..args(address, 100.0, &path)
    };
    let load = Load::start(&args).unwrap();
    let calls = wait_for(&path, |calls| count(calls, "DEADLINE_EXCEEDED") >= 10).await;
    load.stop().await.unwrap();
    assert!(count(&calls, OVERFLOW) > 0, "{calls:?}");
    let mut starts: Vec<_> = calls.iter().map(|call| call.start).collect();
    starts.sort_unstable();
    // Those that are still in flight are not recorded yet.
    let on_time = |pair: &[jiff::Timestamp]| pair[1].duration_since(pair[0]).as_millis() % 10 == 0;
    assert!(starts.windows(2).all(on_time), "{starts:?}");
    let late = calls.iter().filter(|call| call.code == "DEADLINE_EXCEEDED");
    assert!(
        late.clone()
            .all(|call| call.latency() >= jiff::SignedDuration::from_millis(490))
    );
}
