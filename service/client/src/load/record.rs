//! What is written of each finished call, so that one can tell later which revision every call met, and when. It must not
//! know how calls are made.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// The code of a call that was due while too many were in flight, so that it was never made.
pub const OVERFLOW: &str = "OVERFLOW";

/// Lines are written at the latest so long after their calls.
const FLUSH: Duration = Duration::from_millis(50);

/// One finished call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// When the call was due. It may have been made later, and the client did wait meanwhile.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub start: Timestamp,
    /// When the answer was complete.
    #[serde(with = "jiff::fmt::serde::timestamp::microsecond::required")]
    pub end: Timestamp,
    /// The method without the service's name.
    pub method: String,
    /// The name of the gRPC code, or [`OVERFLOW`].
    pub code: String,
    /// What was said of a call that did not succeed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The revision that answered; none when it was not the service that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<String>,
    /// The pod that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Call {
    /// How long the client waited.
    pub fn latency(&self) -> SignedDuration {
        self.end.duration_since(self.start)
    }

    /// Whether Linkerd takes the answer for a failure.
    pub fn is_failure(&self) -> bool {
        let failures = [
            "UNKNOWN",
            "DEADLINE_EXCEEDED",
            "PERMISSION_DENIED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
        ];
        failures.contains(&self.code.as_str())
    }
}

/// Reads what load generators have written. A last line that is being written is left out.
pub fn records(path: impl AsRef<Path>) -> anyhow::Result<Vec<Call>> {
    let path = path.as_ref();
    let reading = || format!("reading the calls in {}", path.display());
    let text = fs::read_to_string(path).with_context(reading)?;
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    whole
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()
        .with_context(reading)
}

/// Appends calls to a file. Several processes may write to the same one.
pub(super) async fn write(path: &Path, mut calls: mpsc::UnboundedReceiver<Call>) -> anyhow::Result<()> {
    let recording = || format!("recording calls in {}", path.display());
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(recording)?;
    let mut batch = Vec::new();
    while calls.recv_many(&mut batch, 4096).await > 0 {
        append(&mut file, &batch).with_context(recording)?;
        batch.clear();
        // Once the sender is gone, `recv_many` gives the rest without waiting.
        if !calls.is_closed() {
            tokio::time::sleep(FLUSH).await;
        }
    }
    Ok(())
}

/// One write for whole lines, so that those of other processes don't get between.
fn append(file: &mut File, calls: &[Call]) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for call in calls {
        serde_json::to_writer(&mut lines, call)?;
        lines.push(b'\n');
    }
    Ok(file.write_all(&lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(micros: i64, code: &str, revision: Option<&str>) -> Call {
        Call {
            start: Timestamp::from_microsecond(micros).unwrap(),
            end: Timestamp::from_microsecond(micros + 1_500).unwrap(),
            method: "GetUser".to_owned(),
            code: code.to_owned(),
            message: None,
            revision: revision.map(str::to_owned),
            instance: None,
        }
    }

    #[tokio::test]
    async fn calls_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("calls");
        let written = [call(1_000_000, "OK", Some("r1")), call(1_000_001, OVERFLOW, None)];
        for one in &written {
            let (sender, receiver) = mpsc::unbounded_channel();
            sender.send(one.clone()).unwrap();
            drop(sender);
            write(&path, receiver).await.unwrap();
        }
        fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"{\"start\":")
            .unwrap();
        assert_eq!(records(&path).unwrap(), written);
        assert_eq!(written[0].latency(), SignedDuration::from_micros(1_500));
    }

    #[test]
    fn a_line_is_compact() {
        let line = serde_json::to_string(&call(1_000_000, "OK", Some("r1"))).unwrap();
        let expected = r#"{"start":1000000,"end":1001500,"method":"GetUser","code":"OK","revision":"r1"}"#;
        assert_eq!(line, expected);
    }
}
