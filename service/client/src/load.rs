//! An open-loop client of `user.UserService`: calls are due at a fixed rate, and a slow answer delays none of them. Latency
//! counts from when a call was due, so that calls which had to wait for others are not left out. It must not know the mesh
//! beyond its pod's proxy, nor what is being rolled out.

mod clock;
pub mod record;
mod schedule;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    net::Ipv4Addr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc},
    task::JoinHandle,
    time::{Instant, interval_at, sleep_until, timeout},
};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::{Channel, Endpoint},
};
use user_proto::{CreateUserRequest, GetUserRequest, ListUsersRequest, User, user_service_client::UserServiceClient};

use self::{
    record::{Call, OVERFLOW},
    schedule::{Mix, Order, Schedule},
    summary::Summary,
};

const CONNECT: Duration = Duration::from_secs(1);
const SUMMARY: Duration = Duration::from_secs(10);
const REVISION: &str = "x-served-by-revision";
const INSTANCE: &str = "x-served-by";

/// What to call, and how often.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The service: HOST:PORT.
    #[arg(long)]
    pub authority: String,
    /// Calls a second.
    #[arg(long)]
    pub rate: f64,
    /// How long a call may take, in milliseconds.
    #[arg(long, default_value_t = 2_000, value_name = "MS")]
    pub deadline_ms: u64,
    /// How many calls may be in flight; more are recorded as OVERFLOW and not made.
    #[arg(long, default_value_t = 2_000)]
    pub max_in_flight: usize,
    /// A header of every call. Can be given several times.
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    pub headers: Vec<(String, String)>,
    /// Dial this port of BIND_ADDRESS, where the pod's proxy is, instead of the service.
    #[arg(long, env = "USER_LOAD_PROXY_PORT")]
    pub proxy_port: Option<u16>,
    /// The pod's own address.
    #[arg(long, env = "BIND_ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    pub bind_address: Ipv4Addr,
    /// Append every finished call to this file.
    #[arg(long, env = "USER_LOAD_RECORD")]
    pub record: Option<PathBuf>,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// Makes calls until SIGTERM or SIGINT, and ends at once then.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let load = Load::start(&args)?;
    let mut summary = interval_at(Instant::now() + SUMMARY, SUMMARY);
    loop {
        tokio::select! {
            _ = term.recv() => break,
            _ = int.recv() => break,
            _ = summary.tick() => load.print_summary()?,
        }
        if load.is_finished() {
            break;
        }
    }
    load.print_summary()?;
    load.stop().await
}

/// A running load generator. It ends when it is dropped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    caller: JoinHandle<()>,
    recorder: Option<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug)]
struct Shared {
    client: UserServiceClient<Channel>,
    headers: MetadataMap,
    deadline: Duration,
    max_in_flight: usize,
    room: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rng: SmallRng,
    mix: Mix,
    summary: Summary,
    records: Option<mpsc::UnboundedSender<Call>>,
}

impl Load {
    /// Begins to call. Nobody needs to listen yet.
    pub fn start(args: &Args) -> anyhow::Result<Self> {
        ensure!(
            args.rate > 0.0 && args.rate.is_finite(),
            "--rate: not a number of calls a second above zero"
        );
        let mut headers = MetadataMap::new();
        for (name, value) in &args.headers {
            let name: AsciiMetadataKey = name
                .parse()
                .with_context(|| format!("--header {name}: not a header's name"))?;
            let value: AsciiMetadataValue = value.parse().with_context(|| format!("--header {name}: a bad value"))?;
            headers.append(name, value);
        }
        let (records, recorder) = match args.record.clone() {
            Some(path) => {
                let (sender, receiver) = mpsc::unbounded_channel();
                let recorder = tokio::spawn(async move { record::write(&path, receiver).await });
                (Some(sender), Some(recorder))
            }
            None => (None, None),
        };
        let run = rand::rng().random();
        let shared = Arc::new(Shared {
            client: UserServiceClient::new(channel(args)?),
            headers,
            deadline: Duration::from_millis(args.deadline_ms),
            max_in_flight: args.max_in_flight,
            room: Arc::new(Semaphore::new(args.max_in_flight)),
            state: Mutex::new(State {
                rng: SmallRng::seed_from_u64(run),
                mix: Mix::new(run),
                summary: Summary::new()?,
                records,
            }),
        });
        let caller = tokio::spawn(Arc::clone(&shared).call_on_schedule(Schedule::new(args.rate)));
        Ok(Self {
            shared,
            caller,
            recorder,
        })
    }

    /// Whether the calls can't be recorded any more, which ends the whole thing.
    fn is_finished(&self) -> bool {
        self.recorder.as_ref().is_some_and(JoinHandle::is_finished)
    }

    fn print_summary(&self) -> anyhow::Result<()> {
        let line = self.shared.state().summary.take(SUMMARY, self.shared.in_flight());
        eprintln!("{}", serde_json::to_string(&line)?);
        Ok(())
    }

    /// Ends at once; what has finished is recorded.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.caller.abort();
        self.shared.state().records = None;
        match self.recorder.take() {
            Some(recorder) => recorder.await.context("recording calls")?,
            None => Ok(()),
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.caller.abort();
        self.shared.state().records = None;
    }
}

/// A channel that connects when it is needed, and again whenever it has lost its connection.
fn channel(args: &Args) -> anyhow::Result<Channel> {
    let authority = &args.authority;
    let service = format!("http://{authority}");
    let origin = service
        .parse()
        .with_context(|| format!("--authority {authority}: not HOST:PORT"))?;
    let dialled = match args.proxy_port {
        Some(port) => format!("http://{}:{port}", args.bind_address),
        None => service,
    };
    let endpoint = Endpoint::from_shared(dialled)?.origin(origin);
    Ok(endpoint.connect_timeout(CONNECT).tcp_nodelay(true).connect_lazy())
}

impl Shared {
    /// No code panics while it holds the lock.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn in_flight(&self) -> usize {
        self.max_in_flight.saturating_sub(self.room.available_permits())
    }

    async fn call_on_schedule(self: Arc<Self>, schedule: Schedule) {
        let (begin, begun) = (Instant::now(), clock::now());
        // Ends with this task, and so do the calls.
        let mut calls = tokio::task::JoinSet::new();
        for call in 0.. {
            let due = schedule.due(call);
            sleep_until(begin + due).await;
            while calls.try_join_next().is_some() {}
            let start = begun + SignedDuration::try_from(due).unwrap_or_default();
            let order = {
                let mut state = self.state();
                let State { rng, mix, .. } = &mut *state;
                mix.next(rng)
            };
            match Arc::clone(&self.room).try_acquire_owned() {
                Ok(permit) => {
                    let shared = Arc::clone(&self);
                    calls.spawn(async move {
                        shared.call(start, order).await;
                        drop(permit);
                    });
                }
                Err(_) => self.finished(finished(start, order.method(), OVERFLOW, None, None)),
            }
        }
    }

    async fn call(&self, start: Timestamp, order: Order) {
        let method = order.method();
        let began = Instant::now();
        let answer = timeout(self.deadline, self.answer(order)).await;
        let late = || Status::deadline_exceeded("no answer in time");
        let (code, message, metadata) = match answer.unwrap_or_else(|_| Err(late())) {
            Ok(metadata) => (Code::Ok, None, metadata),
            // Tonic's own clock was quicker.
            Err(status) if status.code() == Code::Cancelled && began.elapsed() >= self.deadline => {
                (Code::DeadlineExceeded, None, MetadataMap::new())
            }
            Err(status) => (status.code(), said(&status), status.metadata().clone()),
        };
        self.finished(finished(start, method, code_name(code), message, Some(&metadata)));
    }

    /// The metadata of the answer.
    async fn answer(&self, order: Order) -> Result<MetadataMap, Status> {
        let mut client = self.client.clone();
        match order {
            Order::Create { email } => {
                let user = User {
                    email,
                    display_name: "Load".to_owned(),
                    ..User::default()
                };
                let message = CreateUserRequest {
                    user: Some(user),
                    ..CreateUserRequest::default()
                };
                let response = client.create_user(self.request(message)).await?;
                let (metadata, user, _) = response.into_parts();
                let mut state = self.state();
                let State { rng, mix, .. } = &mut *state;
                mix.remember(user.id, rng);
                Ok(metadata)
            }
            Order::Get { id } => {
                let response = client.get_user(self.request(GetUserRequest { id })).await?;
                Ok(response.metadata().clone())
            }
            Order::List => {
                let page = ListUsersRequest {
                    page_size: 10,
                    page_token: String::new(),
                };
                let response = client.list_users(self.request(page)).await?;
                Ok(response.metadata().clone())
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request.set_timeout(self.deadline);
        request
    }

    fn finished(&self, call: Call) {
        let mut state = self.state();
        state.summary.add(&call);
        if let Some(records) = &state.records {
            let _ = records.send(call);
        }
    }
}

/// The status's message with what is behind it, as of a connection that broke.
fn said(status: &Status) -> Option<String> {
    let mut text = status.message().to_owned();
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    (!text.is_empty()).then_some(text)
}

fn finished(
    start: Timestamp,
    method: &str,
    code: &str,
    message: Option<String>,
    metadata: Option<&MetadataMap>,
) -> Call {
    let word = |name: &str| Some(metadata?.get(name)?.to_str().ok()?.to_owned());
    Call {
        start,
        end: clock::now().max(start),
        method: method.to_owned(),
        code: code.to_owned(),
        message,
        revision: word(REVISION),
        instance: word(INSTANCE),
    }
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
