//! Reads the Secrets that are used in calls for a rollout: those of its namespace from the API server, the controller's own from where
//! they are mounted. It must not know what is in them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret as Object;
use kube::{Api, Client};

use super::{call, is_forbidden};
use crate::callout::{Secret, Secrets};

/// Read anew at each call: one that was exchanged is used at once. The folder has a folder for each of the controller's own.
pub(super) fn secrets(client: Client, folder: PathBuf) -> Secrets {
    Arc::new(move |namespace, name| {
        let (client, folder) = (client.clone(), folder.clone());
        Box::pin(async move {
            match namespace {
                Some(namespace) => of_namespace(client, &namespace, &name).await,
                None => mounted(folder.join(&name), &name).await,
            }
        })
    })
}

async fn of_namespace(client: Client, namespace: &str, name: &str) -> anyhow::Result<Secret> {
    let api: Api<Object> = Api::namespaced(client, namespace);
    let doing = || format!("reading the Secret {namespace}/{name} of a receiver or hook");
    let secret = match call(doing, api.get_opt(name)).await {
        Ok(Some(secret)) => secret,
        Ok(None) => anyhow::bail!("there is no Secret {namespace}/{name}; create it"),
        Err(error) if is_forbidden(&error) => {
            anyhow::bail!(
                "Serin may not read the Secret {namespace}/{name}; add its name to `secrets` of Serin's chart"
            )
        }
        Err(error) => return Err(error.into()),
    };
    let values = secret
        .data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, value.0));
    Ok(Secret::new(name, values.collect()))
}

async fn mounted(folder: PathBuf, name: &str) -> anyhow::Result<Secret> {
    let reading = || format!("reading the mounted Secret {name}; is it in `notify.secrets` of Serin's chart?");
    let mut values = BTreeMap::new();
    let mut entries = tokio::fs::read_dir(&folder).await.with_context(reading)?;
    while let Some(entry) = entries.next_entry().await.with_context(reading)? {
        let key = entry.file_name().to_string_lossy().into_owned();
        // The kubelet's own: links to the present version.
        if key.starts_with("..") || !tokio::fs::metadata(entry.path()).await.is_ok_and(|file| file.is_file()) {
            continue;
        }
        values.insert(key, tokio::fs::read(entry.path()).await.with_context(reading)?);
    }
    Ok(Secret::new(name, values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_mounted_secret_is_read_as_the_kubelet_lays_it_out_and_a_missing_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let slack = folder.path().join("slack");
        std::fs::create_dir_all(slack.join("..2026")).unwrap();
        std::fs::write(slack.join("..2026/slackToken"), "xoxb-1\n").unwrap();
        std::os::unix::fs::symlink("..2026", slack.join("..data")).unwrap();
        std::os::unix::fs::symlink("..data/slackToken", slack.join("slackToken")).unwrap();
        let read = mounted(slack, "slack").await.unwrap();
        let expected = BTreeMap::from([("slackToken".to_owned(), b"xoxb-1\n".to_vec())]);
        assert_eq!(read, Secret::new("slack", expected));
        let missing = mounted(folder.path().join("mail"), "mail").await.unwrap_err();
        assert!(
            format!("{missing:#}").starts_with("reading the mounted Secret mail"),
            "{missing:#}"
        );
    }
}
