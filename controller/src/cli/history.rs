//! `serin history`: how the last revisions of a rollout ended. Reads status; decides nothing.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::rollout::in_cluster;
use super::table::table;
use crate::api::HistoryEntry;
use crate::runtime::client;
use crate::view;

/// Which rollout.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rollout.
    name: String,
    /// The namespace; the kubeconfig's own when absent.
    #[arg(long, short)]
    namespace: Option<String>,
    /// How it is written.
    #[arg(long, short, value_enum, default_value = "table")]
    output: super::status::Output,
}

pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let client = client::connect().await?;
    let found = in_cluster(client, &args.name, args.namespace.as_deref()).await?;
    let history = found.rollout.status.clone().unwrap_or_default().history;
    if args.output == super::status::Output::Table {
        print!("{}", past(&found.rollout.spec.git.repository, &history));
        return Ok(());
    }
    super::status::print(args.output, &history)
}

/// The past as a table, the newest first; then how far each one's commit came when, what the metrics said at the end, and where
/// its commits are to be read.
fn past(repository: &str, history: &[HistoryEntry]) -> String {
    if history.is_empty() {
        return "No revision has ended yet.\n".to_owned();
    }
    let mut rows = vec![
        [
            "REVISION", "OUTCOME", "ENDED", "TOOK", "CALLS", "CANARY", "ANSWER", "REASON",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    rows.extend(history.iter().map(|entry| {
        vec![
            entry.revision.clone(),
            entry.outcome.clone(),
            minute(entry.ended),
            entry.duration.clone(),
            entry.requests.to_string(),
            short(entry.canary_commit.as_deref()),
            short(entry.commit.as_deref()),
            entry.reason.clone(),
        ]
    }));
    let mut out = table(&rows);
    for view::Past {
        entry,
        canary_link,
        link,
    } in view::past(repository, history)
    {
        let way = view::pipeline::times(entry, |at| at.strftime("%H:%M:%SZ").to_string());
        let links = [("canary", canary_link), ("answer", link)];
        if way.is_none() && entry.evidence.is_empty() && links.iter().all(|(_, link)| link.is_none()) {
            continue;
        }
        let way = way.as_deref().unwrap_or(match entry.commit {
            Some(_) => "its stages were not seen",
            None => "no commit of Serin's",
        });
        let _ = writeln!(out, "\n{}: {way}", entry.revision);
        for sentence in &entry.evidence {
            let _ = writeln!(out, "  {}", view::one_line(sentence));
        }
        for (which, link) in links {
            if let Some(link) = link {
                let _ = writeln!(out, "  {which} {link}");
            }
        }
    }
    out
}

fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn short(commit: Option<&str>) -> String {
    commit.map_or_else(|| "-".to_owned(), |id| id.chars().take(10).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_how_revisions_ended() {
        let history: Vec<HistoryEntry> = serde_json::from_value(serde_json::json!([
            {
                "revision": "1.2.0", "outcome": "RolledBack", "began": "2026-05-01T10:00:00Z", "ended": "2026-05-01T10:03:07Z",
                "duration": "3m 7s", "requests": 412, "reason": "9.1 % of 412 canary calls failed",
                "canaryCommit": "0123456789abcdef0123456789abcdef01234567", "commit": "89abcdef0123456789abcdef0123456789abcdef",
                "trafficAt": "2026-05-01T10:02:40Z", "committedAt": "2026-05-01T10:02:41Z", "pushedAt": "2026-05-01T10:02:42Z",
                "appliedAt": "2026-05-01T10:02:50Z", "healthyAt": "2026-05-01T10:02:55Z",
                "evidence": ["success-rate: 9.1 % of 412 canary calls failed", "latency-500ms: 0.2 % were slower"],
            },
            {
                "revision": "1.1.0", "outcome": "Superseded", "began": "2026-05-01T09:00:00Z", "ended": "2026-05-01T09:01:00Z",
                "duration": "1m", "reason": "1.2.0 took its place",
            },
        ]))
        .unwrap();
        insta::assert_snapshot!(past("https://github.com/shop/config.git", &history), @r"
        REVISION   OUTCOME      ENDED                  TOOK    CALLS   CANARY       ANSWER       REASON
        1.2.0      RolledBack   2026-05-01 10:03:07Z   3m 7s   412     0123456789   89abcdef01   9.1 % of 412 canary calls failed
        1.1.0      Superseded   2026-05-01 09:01:00Z   1m      0       -            -            1.2.0 took its place

        1.2.0: traffic away 10:02:40Z → committed 10:02:41Z → pushed 10:02:42Z → applied 10:02:50Z → healthy 10:02:55Z
          success-rate: 9.1 % of 412 canary calls failed
          latency-500ms: 0.2 % were slower
          canary https://github.com/shop/config/commit/0123456789abcdef0123456789abcdef01234567
          answer https://github.com/shop/config/commit/89abcdef0123456789abcdef0123456789abcdef
        ");
    }

    #[test]
    fn says_that_there_is_none() {
        assert_eq!(past("", &[]), "No revision has ended yet.\n");
    }
}
