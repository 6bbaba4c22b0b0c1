//! Which Argo CD an installation has: the stand-in, or the real one. It must not know what either does.

use super::{ArgoCd, Real};

/// An Argo CD, and how it is held up.
#[derive(Debug)]
pub enum Installed {
    /// The lab's own.
    StandIn(ArgoCd),
    /// That of `ARGOCD_BIN`.
    Real(Box<Real>),
}

impl Installed {
    /// Has it leave an Application alone, and waits until what goes on is done.
    ///
    /// # Errors
    /// When the real one can't be told, or goes on.
    pub async fn pause_application(&self, name: &str) -> anyhow::Result<()> {
        match self {
            Self::StandIn(argocd) => argocd.pause_application(name).await,
            Self::Real(argocd) => argocd.pause_application(name).await?,
        }
        Ok(())
    }

    /// Ends [`Self::pause_application`].
    ///
    /// # Errors
    /// When the real one can't be told.
    pub async fn resume_application(&self, name: &str) -> anyhow::Result<()> {
        match self {
            Self::StandIn(argocd) => argocd.resume_application(name),
            Self::Real(argocd) => argocd.resume_application(name).await?,
        }
        Ok(())
    }

    /// The real one.
    pub fn real(&self) -> Option<&Real> {
        match self {
            Self::StandIn(_) => None,
            Self::Real(argocd) => Some(argocd),
        }
    }
}
