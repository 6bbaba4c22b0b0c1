//! The load generator against the service, in this process.

use std::{net::SocketAddr, path::Path, time::Duration};

use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use user_service::{Config, Server};

use super::{
    Args, Load,
    record::{Call, OVERFLOW, records},
};

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

/// A service that stops when the sender is dropped.
async fn service(port: u16, flags: &[&str]) -> (SocketAddr, oneshot::Sender<()>) {
    let port = format!("--grpc-port={port}");
    let common = [
        "user-service",
        "--bind-address=127.0.0.1",
        "--http-port=0",
        "--shutdown-drain=0s",
        "--database-url=sqlite::memory:",
        &port,
    ];
    let server = Server::bind(Config::read([&common, flags].concat()).unwrap())
        .await
        .unwrap();
    let address = server.grpc_address();
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    (address, stop)
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
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    let (address, _stop) = service(0, &["--service-revision=r1"]).await;
    let load = Load::start(&args(address, 200.0, &path)).unwrap();
    let calls = wait_for(&path, |calls| count(calls, "OK") > 100).await;
    load.stop().await.unwrap();
    let mut answered = calls.iter().filter(|call| call.code == "OK");
    assert!(answered.all(|call| call.revision.as_deref() == Some("r1")));
    for method in ["ListUsers", "CreateUser", "GetUser"] {
        assert!(calls.iter().any(|call| call.method == method), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_carry_the_revision_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    let faults = ["--service-revision=r2", "--fault-error-rate=1", "--fault-code=INTERNAL"];
    let (address, _stop) = service(0, &faults).await;
    let _load = Load::start(&args(address, 100.0, &path)).unwrap();
    let calls = wait_for(&path, |calls| count(calls, "INTERNAL") > 5).await;
    let mut failed = calls.iter().filter(|call| call.code == "INTERNAL");
    assert!(failed.all(|call| call.revision.as_deref() == Some("r2") && call.is_failure()));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_finds_a_service_that_comes_later_and_one_that_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    // A port that is free, and very likely stays so.
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let load = Load::start(&args(free, 50.0, &path)).unwrap();
    wait_for(&path, |calls| count(calls, "UNAVAILABLE") > 0).await;
    for revision in ["r1", "r2"] {
        let flag = format!("--service-revision={revision}");
        let (_, stop) = service(free.port(), &[&flag]).await;
        let answered = |calls: &[Call]| calls.iter().any(|call| call.revision.as_deref() == Some(revision));
        let before = wait_for(&path, answered).await.len();
        drop(stop);
        let gone = |calls: &[Call]| count(calls.get(before..).unwrap_or_default(), "UNAVAILABLE") > 0;
        wait_for(&path, gone).await;
    }
    load.stop().await.unwrap();
}

/// A server that takes connections and never answers: no call is made later than it was due, and all are counted.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_delays_no_call_and_what_is_too_much_is_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("calls");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = Args {
        max_in_flight: 10,
        ..args(listener.local_addr().unwrap(), 100.0, &path)
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
    let mut late = calls.iter().filter(|call| call.code == "DEADLINE_EXCEEDED");
    assert!(late.all(|call| call.latency() >= jiff::SignedDuration::from_millis(490)));
}
