//! That each fault is what its name says, over a server of which everything is known.

use std::sync::atomic::{AtomicU32, Ordering};

use axum::{Router, extract::State, routing::any};

use super::*;

static WATCHED: &str = "{\"type\":\"ADDED\"}\n{\"type\":\"MODIFIED\"}\n";

async fn answer(State(written): State<Arc<AtomicU32>>, method: Method, uri: http::Uri, body: String) -> String {
    if method == Method::PATCH {
        written.fetch_add(1, Ordering::SeqCst);
    }
    match uri.query() {
        Some("watch=true") => WATCHED.to_owned(),
        _ if method == Method::POST => {
            format!("{{\"asked\":\"{body}\",\"data\":{{\"result\":[{{\"values\":[[1,\"2\"]]}}]}}}}")
        }
        _ => "{}".to_owned(),
    }
}

async fn server() -> (String, Arc<AtomicU32>) {
    let written = Arc::new(AtomicU32::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().route("/{*path}", any(answer)).with_state(written.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, written)
}

async fn proxy(behind: Behind, target: &str) -> Proxy {
    crate::install_crypto();
    Proxy::start("127.0.0.1:0".parse().unwrap(), behind, target)
        .await
        .unwrap()
}

async fn ask(proxy: &Proxy, method: Method, path: &str) -> Result<(u16, String), reqwest::Error> {
    let url = format!("http://{}{path}", proxy.address());
    let request = reqwest::Client::new().request(method, url).body("query=up&time=100.5");
    let answer = request.send().await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

#[tokio::test]
async fn writes_are_refused_lost_and_made_twice() {
    let (server, written) = server().await;
    let proxy = proxy(Behind::Api, &server).await;
    let patch = async |fault: Fault| {
        proxy.set(Some(fault));
        let before = written.load(Ordering::SeqCst);
        let answer = ask(&proxy, Method::PATCH, "/x").await.map(|(code, _)| code).ok();
        (answer, written.load(Ordering::SeqCst) - before)
    };
    assert_eq!(patch(Fault::Conflict).await, (Some(409), 0));
    assert_eq!(patch(Fault::TooMany).await, (Some(429), 0));
    assert_eq!(patch(Fault::Broken).await, (Some(500), 0));
    assert_eq!(patch(Fault::Cut).await, (None, 0));
    assert_eq!(patch(Fault::LostReply).await, (None, 1));
    assert_eq!(patch(Fault::Twice).await, (Some(200), 2));
    proxy.set(Some(Fault::Conflict));
    assert_eq!(ask(&proxy, Method::GET, "/x").await.unwrap().0, 200);
    proxy.set(None);
    assert_eq!(ask(&proxy, Method::PATCH, "/x").await.unwrap().0, 200);
    assert_eq!(proxy.met().values().sum::<u64>(), 6);
}

#[tokio::test]
async fn watches_break_off_expire_and_say_things_twice() {
    let (server, _) = server().await;
    let proxy = proxy(Behind::Api, &server).await;
    let watch = async |fault: Option<Fault>| {
        proxy.set(fault);
        ask(&proxy, Method::GET, "/x?watch=true")
            .await
            .map(|(_, text)| text)
            .ok()
    };
    assert_eq!(watch(None).await.as_deref(), Some(WATCHED));
    assert_eq!(watch(Some(Fault::TruncatedWatch)).await, None);
    assert!(watch(Some(Fault::ExpiredWatch)).await.unwrap().contains("\"code\":410"));
    let twice = watch(Some(Fault::Twice)).await.unwrap();
    assert_eq!(twice.lines().count(), 4, "{twice}");
}

#[tokio::test]
async fn answers_of_prometheus_are_spoiled() {
    let (server, _) = server().await;
    let proxy = proxy(Behind::Prometheus, &server).await;
    let query = async |fault: Fault| {
        proxy.set(Some(fault));
        ask(&proxy, Method::POST, "/api/v1/query").await.unwrap().1
    };
    assert!(query(Fault::OldData).await.contains("query=up&time=40.500"));
    assert!(query(Fault::NoData).await.contains("\"result\":[]"));
    assert!(query(Fault::NotANumber).await.contains("[1,\"NaN\"]"));
    assert!(query(Fault::Warnings).await.contains("\"warnings\""));
    assert!(query(Fault::Garbage).await.contains("<html>"));
}
