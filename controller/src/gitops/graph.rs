//! The mirror's commit-graph: which paths each commit changed, so that the walk along one rollout's file does not open the
//! trees of everybody's commits. It makes reads quicker and nothing else: without it all answers are the same.

use super::command::Call;
use super::error::Result;
use super::repository::Mirror;

/// Beside the objects: the head up to which the graph was written.
const WRITTEN: &str = "serin-graph";
/// So many commits outside of the graph cost a walk less than git's own start.
const WORTH_IT: usize = 500;
/// So many commits are read for it at once; of a longer history the newer part follows at later heads.
const AT_ONCE: &str = "--max-new-filters=50000";

impl Mirror {
    /// Brings the graph up to this head where that is worth it. One call at a time for a mirror, as for a fetch.
    pub(super) async fn keep_graph(&self, head: &str) -> Result<()> {
        let (doing, memory) = ("write the commit-graph of", self.dir.join(WRITTEN));
        let mut args = vec!["rev-list".to_owned(), "--count".to_owned()];
        args.extend([format!("--max-count={WORTH_IT}"), head.to_owned()]);
        if let Ok(written) = std::fs::read_to_string(&memory)
            && written.chars().all(|c| c.is_ascii_hexdigit())
        {
            args.push(format!("^{written}"));
        }
        let outside = self.text(Call::new(doing, args)).await?;
        if outside.trim().parse::<usize>().unwrap_or_default() < WORTH_IT {
            return Ok(());
        }
        let write = ["commit-graph", "write", "--reachable", "--changed-paths", AT_ONCE];
        self.text(Call::new(doing, write)).await?;
        std::fs::write(&memory, head).map_err(|source| self.disk(doing, source))
    }
}
