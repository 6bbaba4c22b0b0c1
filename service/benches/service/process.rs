//! The servers that are measured, as processes of their own. It must not know what is asked of them.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

/// A server that is ready; it ends when it is dropped.
pub(crate) struct Process {
    child: Child,
    address: String,
    time_to_ready: Duration,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// user-service as it is released, on this database.
    pub(crate) fn service(database: &str) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_user-service"));
        program.envs([
            ("DATABASE_URL", database),
            ("BIND_ADDRESS", "127.0.0.1"),
            ("GRPC_PORT", "0"),
            ("HTTP_PORT", "0"),
            ("MAX_CONCURRENT_CALLS", "2000"),
        ]);
        Self::start(program)
    }

    pub(crate) fn echo() -> Self {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.arg("echo");
        Self::start(program)
    }

    /// Its log says where it listens, and that it is ready.
    fn start(mut program: Command) -> Self {
        let begun = Instant::now();
        let mut child = program.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut address = None;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in &mut lines {
            let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
            address = address.or_else(|| line["grpc"].as_str().map(str::to_owned));
            if line["message"] == "ready" {
                break;
            }
        }
        let time_to_ready = begun.elapsed();
        std::thread::spawn(move || lines.for_each(drop));
        Self {
            child,
            address: address.expect("it says where it listens"),
            time_to_ready,
        }
    }

    pub(crate) fn time_to_ready(&self) -> Duration {
        self.time_to_ready
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Each channel is one connection.
    pub(crate) async fn connections(&self, count: usize) -> Vec<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address))
            .unwrap()
            .tcp_nodelay(true);
        let mut channels = Vec::new();
        for _ in 0..count {
            channels.push(endpoint.connect().await.unwrap());
        }
        channels
    }
}
