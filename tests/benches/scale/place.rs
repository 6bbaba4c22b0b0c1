//! What a run takes place in: an API server with all objects of its rollouts, their repositories, the source that answers as Prometheus
//! does, and how to start the controller. It must not know what is measured there.

use std::sync::Arc;
use std::time::Duration;

use lab::control_plane::ControlPlane;
use lab::net::Net;
use lab::tools::Tools;
use tempfile::TempDir;

use crate::account::account;
use crate::controller::Start;
use crate::objects::{Arm, Rollout, shape};
use crate::repositories::Repositories;
use crate::source::Source;
use crate::{fill, program, say};

pub(crate) struct Place {
    pub(crate) cluster: ControlPlane,
    pub(crate) repositories: Arc<Repositories>,
    pub(crate) source: Source,
    pub(crate) start: Start,
    /// The rollouts.
    pub(crate) count: usize,
    /// How long it took to create their objects.
    pub(crate) set_up: Duration,
    folder: TempDir,
}

impl Place {
    /// Makes it, in a folder whose name begins so, with this policy of the audit log.
    pub(crate) async fn make(prefix: &str, count: usize, audit_policy: &str) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir()?;
        let (tools, net) = (Tools::load()?, Net::choose()?);
        let crds = lab::project_root().join("crds");
        let cluster = ControlPlane::bare(&tools, &net, folder.path(), &crds, audit_policy).await?;
        let repositories = Arc::new(Repositories::make(&folder.path().join("repositories"), count)?);
        let source = Source::new(shape().scrape);
        for of in progressing(count) {
            source.begin(of, &of.hash(Arm::Canary), None);
        }
        let listener = net.listen().await?;
        let prometheus = format!("http://{}", listener.local_addr()?);
        source.serve(listener);
        let client = cluster.client();
        account(&client).await?;
        let set_up = fill::fill(&client, count, &repositories).await?;
        say(&format!("{count} rollouts created in {:.0} s", set_up.as_secs_f64()));
        let start = Start {
            program: program()?,
            kubeconfig: cluster.kubeconfig_for_service_account("serin", "serin").await?,
            prometheus,
            folder: folder.path().to_owned(),
            address: net.infra(),
            port: net.free_port()?,
        };
        Ok(Self {
            cluster,
            repositories,
            source,
            start,
            count,
            set_up,
            folder,
        })
    }

    pub(crate) fn progressing(&self) -> impl Iterator<Item = Rollout> {
        progressing(self.count)
    }

    /// Ends it; the folder is kept where something failed, or where it is asked for.
    pub(crate) async fn clear(self, has_failed: bool) {
        self.cluster.stop().await;
        if has_failed || std::env::var_os("SCALE_KEEP").is_some() {
            say(&format!("the folder is kept: {}", self.folder.keep().display()));
        }
    }
}

fn progressing(count: usize) -> impl Iterator<Item = Rollout> {
    (0..count).map(Rollout).filter(|of| of.is_progressing())
}
