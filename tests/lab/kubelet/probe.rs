//! Probes: how one is asked, and what a row of answers means. It must not know what follows from a result.

use std::{net::Ipv4Addr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, ExecAction, GRPCAction, HTTPGetAction, Probe, TCPSocketAction},
    apimachinery::pkg::util::intstr::IntOrString,
};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::process::Program;

/// How often a probe is tried again while it has never succeeded.
const EAGER: Duration = Duration::from_millis(100);

/// One way to ask, with names and defaults resolved.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Http {
        url: String,
        headers: Vec<(String, String)>,
    },
    Tcp {
        host: String,
        port: u16,
    },
    Grpc {
        host: String,
        port: u16,
        service: String,
    },
    Exec(Program),
    /// It can't be asked; it always fails, with this message.
    Broken(String),
}

/// What actions need to know of the container.
pub(super) struct Place<'a> {
    pub(super) ip: Ipv4Addr,
    pub(super) container: &'a Container,
    /// The container's environment and folder; exec actions run with it.
    pub(super) program: &'a Program,
}

impl Place<'_> {
    fn port(&self, port: &IntOrString) -> Option<u16> {
        match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => {
                let named = self
                    .container
                    .ports
                    .iter()
                    .flatten()
                    .find(|p| p.name.as_deref() == Some(name));
                named
                    .map(|p| p.container_port)
                    .or_else(|| name.parse().ok())
                    .and_then(|n| u16::try_from(n).ok())
            }
        }
    }

    pub(super) fn http(&self, action: &HTTPGetAction) -> Action {
        let Some(port) = self.port(&action.port) else {
            return unknown_port(&action.port);
        };
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.ip.to_string());
        let path = action.path.as_deref().unwrap_or("/");
        let slash = if path.starts_with('/') { "" } else { "/" };
        let headers = action
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect();
        Action::Http {
            url: format!("{scheme}://{host}:{port}{slash}{path}"),
            headers,
        }
    }

    pub(super) fn exec(&self, action: &ExecAction) -> Action {
        match action.command.as_deref().unwrap_or_default().split_first() {
            Some((program, args)) => Action::Exec(self.program.with_command(program, args)),
            None => Action::Broken("the exec action has no command".to_owned()),
        }
    }

    fn tcp(&self, action: &TCPSocketAction) -> Action {
        let Some(port) = self.port(&action.port) else {
            return unknown_port(&action.port);
        };
        let host = action
            .host
            .clone()
            .filter(|host| !host.is_empty())
            .unwrap_or_else(|| self.ip.to_string());
        Action::Tcp { host, port }
    }

    fn grpc(&self, action: &GRPCAction) -> Action {
        let Ok(port) = u16::try_from(action.port) else {
            return unknown_port(&IntOrString::Int(action.port));
        };
        Action::Grpc {
            host: self.ip.to_string(),
            port,
            service: action.service.clone().unwrap_or_default(),
        }
    }

    fn of(&self, probe: &Probe) -> Action {
        if let Some(action) = &probe.http_get {
            self.http(action)
        } else if let Some(action) = &probe.tcp_socket {
            self.tcp(action)
        } else if let Some(action) = &probe.grpc {
            self.grpc(action)
        } else if let Some(action) = &probe.exec {
            self.exec(action)
        } else {
            Action::Broken("the probe has no action".to_owned())
        }
    }
}

fn unknown_port(port: &IntOrString) -> Action {
    let port = match port {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(name) => name.clone(),
    };
    Action::Broken(format!("the container has no port {port}"))
}

impl Action {
    /// Asks once; the error says why not.
    pub(super) async fn ask(&self, http: &reqwest::Client, deadline: Duration) -> Result<(), String> {
        let asked = async {
            match self {
                Self::Http { url, headers } => ask_http(http, url, headers).await,
                Self::Tcp { host, port } => TcpStream::connect((host.as_str(), *port))
                    .await
                    .map(drop)
                    .map_err(|e| e.to_string()),
                Self::Grpc { host, port, service } => ask_grpc(host, *port, service).await,
                Self::Exec(program) => {
                    let output = program.output(deadline).await.map_err(|e| format!("{e:#}"))?;
                    output.text().map(drop).map_err(|e| e.to_string())
                }
                Self::Broken(message) => Err(message.clone()),
            }
        };
        timeout(deadline, asked)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {deadline:?}")))
    }
}

async fn ask_http(http: &reqwest::Client, url: &str, headers: &[(String, String)]) -> Result<(), String> {
    let request = headers
        .iter()
        .fold(http.get(url), |request, (name, value)| request.header(name, value));
    let response = request.send().await.map_err(|e| e.to_string())?;
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(format!("statuscode: {status}"))
    }
}

async fn ask_grpc(host: &str, port: u16, service: &str) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("http://{host}:{port}")).map_err(|e| e.to_string())?;
    let channel = endpoint.connect().await.map_err(|e| e.to_string())?;
    let request = HealthCheckRequest {
        service: service.to_owned(),
    };
    let response = HealthClient::new(channel)
        .check(request)
        .await
        .map_err(|e| e.to_string())?;
    match response.into_inner().status() {
        ServingStatus::Serving => Ok(()),
        other => Err(format!("service {service:?} is {}", other.as_str_name())),
    }
}

/// A probe of a container, ready to be watched.
#[derive(Debug)]
pub(super) struct Watch {
    action: Action,
    initial_delay: Duration,
    period: Duration,
    timeout: Duration,
    tally: Tally,
}

impl Watch {
    pub(super) fn new(probe: &Probe, place: &Place<'_>) -> Self {
        Self {
            action: place.of(probe),
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            tally: Tally::new(count(probe.success_threshold, 1), count(probe.failure_threshold, 3)),
        }
    }

    /// Asks as the spec says and calls `changed` with each change of the result, until it says that it is enough.
    ///
    /// The first period begins half a period after the delay, as it does on average in Kubernetes. Until the first success
    /// it asks between the periods too, and only a success counts there: pods get ready as soon as they are, and no
    /// deadline moves.
    pub(super) async fn run(mut self, http: &reqwest::Client, mut changed: impl FnMut(Result<(), String>) -> Next) {
        sleep(self.initial_delay).await;
        let mut due = Instant::now() + self.period / 2;
        let mut never = true;
        loop {
            let answer = if never && self.eager(http, due).await {
                Ok(())
            } else {
                sleep_until(due).await;
                due = (due + self.period).max(Instant::now());
                self.action.ask(http, self.timeout).await
            };
            never &= answer.is_err();
            if self.tally.record(answer.is_ok()) && changed(answer) == Next::Stop {
                return;
            }
        }
    }

    /// True as soon as there is a success before it is due.
    async fn eager(&self, http: &reqwest::Client, due: Instant) -> bool {
        let succeeded = async {
            while self.action.ask(http, self.timeout).await.is_err() {
                sleep(EAGER).await;
            }
        };
        timeout_at(due, succeeded).await.is_ok()
    }
}

/// Whether a probe is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Continue,
    Stop,
}

/// Counts answers in a row.
#[derive(Debug)]
struct Tally {
    success_threshold: u32,
    failure_threshold: u32,
    last: bool,
    run: u32,
    /// None before a threshold was reached for the first time.
    result: Option<bool>,
}

impl Tally {
    fn new(success_threshold: u32, failure_threshold: u32) -> Self {
        Self {
            success_threshold,
            failure_threshold,
            last: false,
            run: 0,
            result: None,
        }
    }

    /// Takes an answer; true when it changes the result.
    fn record(&mut self, success: bool) -> bool {
        self.run = if success == self.last {
            self.run.saturating_add(1)
        } else {
            1
        };
        self.last = success;
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        let changes = self.run >= threshold && self.result != Some(success);
        if changes {
            self.result = Some(success);
        }
        changes
    }
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    // The API server has put the defaults in already, and 0 means the default except for the delay, whose default it is.
    let seconds = value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    Duration::from_secs(seconds.unwrap_or(default))
}

fn count(value: Option<i32>, default: u32) -> u32 {
    value
        .and_then(|v| u32::try_from(v).ok())
        .filter(|v| *v > 0)
        .unwrap_or(default)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(tally: &mut Tally, answers: &[bool]) -> Vec<bool> {
        answers.iter().map(|answer| tally.record(*answer)).collect()
    }

    #[test]
    fn the_first_success_counts_at_once() {
        assert_eq!(
            changes(&mut Tally::new(1, 3), &[false, true, true]),
            [false, true, false]
        );
    }

    #[test]
    fn only_failures_in_a_row_change_a_good_result() {
        let mut tally = Tally::new(1, 3);
        assert_eq!(
            changes(&mut tally, &[true, false, false, true, false, false]),
            [true, false, false, false, false, false]
        );
        assert_eq!(changes(&mut tally, &[false, false, true]), [true, false, true]);
    }

    #[test]
    fn a_first_answer_counts_as_one() {
        assert_eq!(changes(&mut Tally::new(2, 2), &[false, false]), [false, true]);
        assert_eq!(changes(&mut Tally::new(2, 2), &[true, true]), [false, true]);
    }

    #[test]
    fn ports_are_found_by_name_and_the_host_is_the_pod() {
        let container: Container =
            serde_json::from_value(json!({"name": "a", "ports": [{"name": "http", "containerPort": 8080}]})).unwrap();
        let program = Program::new("true");
        let place = Place {
            ip: Ipv4Addr::new(127, 20, 1, 1),
            container: &container,
            program: &program,
        };
        let action = |value| place.of(&serde_json::from_value(value).unwrap());
        let Action::Http { url, .. } = action(json!({"httpGet": {"path": "/ready", "port": "http"}})) else {
            panic!()
        };
        assert_eq!(url, "http://127.20.1.1:8080/ready");
        let Action::Broken(message) = action(json!({"tcpSocket": {"port": "grpc"}})) else {
            panic!()
        };
        assert!(message.contains("grpc"));
    }

    #[tokio::test]
    async fn an_exec_probe_runs_the_command_in_the_containers_environment() {
        let container: Container = serde_json::from_value(json!({"name": "a"})).unwrap();
        let program = Program::new("true").env("WORD", "yes");
        let place = Place {
            ip: Ipv4Addr::LOCALHOST,
            container: &container,
            program: &program,
        };
        let command = |script: &str| ExecAction {
            command: Some(vec!["sh".into(), "-c".into(), script.into()]),
        };
        crate::install_crypto();
        let (http, deadline) = (reqwest::Client::default(), Duration::from_secs(10));
        place
            .exec(&command("test $WORD = yes"))
            .ask(&http, deadline)
            .await
            .unwrap();
        let error = place
            .exec(&command("echo no >&2; exit 1"))
            .ask(&http, deadline)
            .await
            .unwrap_err();
        assert!(error.contains("no"), "{error}");
    }
}
