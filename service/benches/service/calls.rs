//! The calls that are measured: GetUser, over connections that are there. It must not know who answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::Channel;
use user_proto::user_service_client::UserServiceClient;
use user_proto::{CreateUserRequest, GetUserRequest, User};

/// What a round of calls came to.
pub(crate) struct Measured {
    pub(crate) per_second: f64,
    pub(crate) failed: u64,
    /// Microseconds; in an open loop from when a call was due.
    latency: Histogram<u64>,
}

impl Measured {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 microseconds")]
    pub(crate) fn ms(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1_000.0
    }

    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    fn of(parts: Vec<(Histogram<u64>, u64)>, time: Duration) -> Self {
        let mut latency = Histogram::new(3).unwrap();
        let mut failed = 0;
        for (part, failures) in parts {
            latency.add(part).unwrap();
            failed += failures;
        }
        Self {
            per_second: latency.len() as f64 / time.as_secs_f64(),
            failed,
            latency,
        }
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap()
}

/// Creates users, and returns their ids.
pub(crate) async fn fill(channels: &[Channel], count: usize) -> Vec<String> {
    let mut tasks = JoinSet::new();
    for (task, channel) in channels.iter().enumerate() {
        let (mut client, of) = (UserServiceClient::new(channel.clone()), channels.len());
        tasks.spawn(async move {
            let mut ids = Vec::new();
            for number in (task..count).step_by(of) {
                let user = User {
                    email: format!("user{number}@example.com"),
                    display_name: "Somebody".to_owned(),
                    ..User::default()
                };
                let request = CreateUserRequest {
                    user: Some(user),
                    ..CreateUserRequest::default()
                };
                ids.push(client.create_user(request).await.unwrap().into_inner().id);
            }
            ids
        });
    }
    tasks.join_all().await.concat()
}

async fn get(client: &mut UserServiceClient<Channel>, ids: &[String], rng: &mut SmallRng) -> bool {
    let id = ids[rng.random_range(0..ids.len())].clone();
    client.get_user(GetUserRequest { id }).await.is_ok()
}

/// Each connection makes the next call as soon as the one before is answered.
pub(crate) async fn at_will(channels: &[Channel], ids: &[String], time: Duration) -> Measured {
    let (ids, end) = (Arc::new(ids.to_vec()), Instant::now() + time);
    let mut tasks = JoinSet::new();
    for (seed, channel) in (0..).zip(channels) {
        let (mut client, ids) = (UserServiceClient::new(channel.clone()), Arc::clone(&ids));
        tasks.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut latency, mut failed) = (Histogram::new(3).unwrap(), 0);
            while Instant::now() < end {
                let begun = Instant::now();
                failed += u64::from(!get(&mut client, &ids, &mut rng).await);
                latency.record(micros(begun)).unwrap();
            }
            (latency, failed)
        });
    }
    Measured::of(tasks.join_all().await, time)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a positive number far below 2^52 calls"
)]
fn calls_in(rate: f64, time: Duration) -> u64 {
    (rate * time.as_secs_f64()) as u64
}

/// Calls are due at a fixed rate, whoever is slow: a call that waits for a free connection has waited since it was due.
pub(crate) async fn at_rate(channels: &[Channel], ids: &[String], rate: f64, time: Duration) -> Measured {
    let (ids, due) = (Arc::new(ids.to_vec()), Arc::new(Semaphore::new(0)));
    let begun = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 calls")]
    let due_at = move |call: u64| begun + Duration::from_secs_f64(call as f64 / rate);
    // A thread of its own: the runtime's timers tell milliseconds, and calls that are due within one would come in a burst.
    let (calls, connections) = (calls_in(rate, time), channels.len());
    let pacer = std::thread::spawn({
        let due = Arc::clone(&due);
        move || {
            for at in (0..calls).map(due_at) {
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                due.add_permits(1);
            }
            // Each connection learns that there are no more.
            due.add_permits(connections);
        }
    });
    let next = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for (seed, channel) in (0..).zip(channels) {
        let (mut client, ids) = (UserServiceClient::new(channel.clone()), Arc::clone(&ids));
        let (due, next) = (Arc::clone(&due), Arc::clone(&next));
        tasks.spawn(async move {
            let mut rng = SmallRng::seed_from_u64(seed);
            let (mut latency, mut failed) = (Histogram::new(3).unwrap(), 0);
            loop {
                due.acquire().await.unwrap().forget();
                let call = next.fetch_add(1, Ordering::Relaxed);
                if call >= calls {
                    return (latency, failed);
                }
                let due = due_at(call);
                failed += u64::from(!get(&mut client, &ids, &mut rng).await);
                latency.record(micros(due)).unwrap();
            }
        });
    }
    let measured = Measured::of(tasks.join_all().await, time);
    pacer.join().unwrap();
    measured
}
