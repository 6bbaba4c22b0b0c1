//! The config repository that a rollout names, with the Secrets that it takes: read anew for each job, so that a token that was
//! exchanged is used at once. It must not know what is asked of the repository.

use anyhow::Context as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt as _};
use serin_core::rollout::FieldError;

use super::{Error, call, is_forbidden};
use crate::api::CanaryRollout;
use crate::gitops::{ApiToken, AppKey, Credentials, GitOps, Hand, Identity, RepoSpec, SigningKey};
use crate::runtime::clock;

/// The repository as the rollout's spec and Secrets say it now; a GitHub App is logged in.
pub(super) async fn of(client: &Client, gitops: &GitOps, rollout: &CanaryRollout) -> anyhow::Result<RepoSpec> {
    let (mut repo, app) = read(client, rollout).await?;
    if let Some(key) = app {
        repo.credentials = gitops.log_in(&repo, &key, clock::now()).await?;
    }
    Ok(repo)
}

/// The repository, and the App that has yet to log in.
async fn read(client: &Client, rollout: &CanaryRollout) -> anyhow::Result<(RepoSpec, Option<AppKey>)> {
    let git = &rollout.spec.git;
    let namespace = rollout.namespace().unwrap_or_default();
    let (credentials, app, api_token, ca) = match &git.secret_ref {
        None => (Credentials::None, None, None, None),
        Some(reference) => {
            let keys = Keys::read(client, &namespace, &reference.name, "spec.git.secretRef.name").await?;
            let (ca, api_token) = (keys.text(&["ca.crt"])?, keys.api_token()?);
            match keys.app()? {
                Some(app) => (Credentials::None, Some(app), api_token, ca),
                None => (keys.credentials()?, None, api_token, ca),
            }
        }
    };
    let signing = match &git.signing {
        None => None,
        Some(signing) => {
            let keys = Keys::read(
                client,
                &namespace,
                &signing.secret_ref.name,
                "spec.git.signing.secretRef.name",
            )
            .await?;
            Some(keys.signing()?)
        }
    };
    let identity = |text: &Option<String>| text.as_deref().map(Identity::parse).transpose();
    let repo = RepoSpec {
        url: git.repository.clone(),
        branch: git.branch.clone(),
        credentials,
        api_token,
        ca,
        hand: Hand {
            author: identity(&git.author)?,
            committer: identity(&git.committer)?,
            signing,
        },
    };
    Ok((repo, app))
}

/// What is wrong with the repository's address and Secrets, if anything is; the host itself is not asked.
pub(super) async fn problems(client: &Client, rollout: &CanaryRollout) -> Result<Vec<FieldError>, Error> {
    let git = &rollout.spec.git;
    if git.secret_ref.is_none() && !git.repository.starts_with("file://") {
        let lacks = "Serin commits to the repository and has no credentials for it; name a Secret with `username` and `password`, with `identity` and `known_hosts`, or of a GitHub App";
        return Ok(vec![FieldError::new("spec.git.secretRef", lacks)]);
    }
    let error = match read(client, rollout).await {
        Ok((repo, _)) => match repo.check() {
            Ok(()) => return Ok(Vec::new()),
            Err(error) => return Ok(vec![FieldError::new("spec.git", error.to_string())]),
        },
        Err(error) => error,
    };
    Ok(vec![match error.downcast::<BadSecret>() {
        Ok(bad) => FieldError::new(bad.field(), bad.to_string()),
        Err(error) => match error.downcast::<Error>() {
            Ok(error) => return Err(error),
            Err(error) => FieldError::new("spec.git", format!("{error:#}")),
        },
    }])
}

/// A Secret that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadSecret {
    #[error("there is no Secret {name}, which {field} names; create it")]
    Missing { name: String, field: &'static str },
    #[error("Serin may not read the Secret {name}, which {field} names; add its name to `secrets` of Serin's chart")]
    Forbidden { name: String, field: &'static str },
    #[error("the Secret {name} cannot be used for {field}: {why}")]
    Unfit {
        name: String,
        field: &'static str,
        why: String,
    },
}

impl BadSecret {
    fn field(&self) -> &'static str {
        match self {
            Self::Missing { field, .. } | Self::Forbidden { field, .. } | Self::Unfit { field, .. } => field,
        }
    }
}

/// What a Secret holds, by the keys that users of Argo CD and Flux know.
struct Keys {
    secret: Secret,
    name: String,
    field: &'static str,
}

impl Keys {
    async fn read(client: &Client, namespace: &str, name: &str, field: &'static str) -> anyhow::Result<Self> {
        let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
        let doing = || format!("reading the Secret {namespace}/{name} of {field}");
        let secret = call(doing, api.get_opt(name)).await;
        let name = format!("{namespace}/{name}");
        match secret {
            Ok(Some(secret)) => Ok(Self { secret, name, field }),
            Ok(None) => Err(BadSecret::Missing { name, field }.into()),
            Err(error) if is_forbidden(&error) => Err(BadSecret::Forbidden { name, field }.into()),
            Err(error) => Err(error.into()),
        }
    }

    fn unfit(&self, why: impl Into<String>) -> anyhow::Error {
        let (name, field, why) = (self.name.clone(), self.field, why.into());
        BadSecret::Unfit { name, field, why }.into()
    }

    /// The value of the first of these keys that is there and not empty.
    fn text(&self, keys: &[&str]) -> anyhow::Result<Option<String>> {
        let data = self.secret.data.as_ref();
        let found = keys.iter().find_map(|key| Some((key, data?.get(*key)?)));
        let Some((key, value)) = found.filter(|(_, value)| !value.0.trim_ascii().is_empty()) else {
            return Ok(None);
        };
        let text = String::from_utf8(value.0.clone())
            .ok()
            .with_context(|| format!("the key {key} is not UTF-8"))
            .map_err(|error| self.unfit(error.to_string()))?;
        Ok(Some(text))
    }

    fn app(&self) -> anyhow::Result<Option<AppKey>> {
        let names = [
            ["githubAppPrivateKey", "github-app-private-key"],
            ["githubAppID", "github-app-id"],
            ["githubAppInstallationID", "github-app-installation-id"],
        ];
        let [key, id, installation] = names;
        let Some(private_key) = self.text(&key)? else {
            return Ok(None);
        };
        let need = |[name, other]: [&str; 2]| {
            let text = self.text(&[name, other])?;
            text.map(|text| text.trim().to_owned())
                .ok_or_else(|| self.unfit(format!("it has a GitHub App's private key but no `{name}`")))
        };
        Ok(Some(AppKey {
            app: need(id)?,
            installation: need(installation)?,
            private_key,
        }))
    }

    fn credentials(&self) -> anyhow::Result<Credentials> {
        if let Some(private_key) = self.text(&["identity", "sshPrivateKey", "ssh-privatekey"])? {
            let known_hosts = self.text(&["known_hosts", "knownHosts"])?.ok_or_else(|| {
                self.unfit(
                    "it has an SSH key but no `known_hosts`; add the host's public key, as ssh-keyscan prints it",
                )
            })?;
            return Ok(Credentials::Ssh {
                private_key,
                known_hosts,
            });
        }
        if let Some(token) = self.text(&["password", "bearerToken"])? {
            let username = self.text(&["username"])?.unwrap_or_else(|| "git".to_owned());
            return Ok(Credentials::Token {
                username: username.trim().to_owned(),
                token: token.trim().to_owned(),
            });
        }
        if self.text(&["ca.crt"])?.is_some() {
            return Ok(Credentials::None);
        }
        Err(self.unfit(
            "it has neither `password` (a token, with `username`) nor `identity` (an SSH key, with `known_hosts`) nor `githubAppPrivateKey` nor `ca.crt`",
        ))
    }

    /// For the host's API, where git itself logs in with a key, or with a token that may not do so much.
    fn api_token(&self) -> anyhow::Result<Option<ApiToken>> {
        let token = self.text(&["apiToken"])?;
        Ok(token.map(|token| ApiToken(token.trim().to_owned())))
    }

    fn signing(&self) -> anyhow::Result<SigningKey> {
        let keys = ["git.asc", "identity", "sshPrivateKey", "ssh-privatekey"];
        let Some(key) = self.text(&keys)? else {
            return Err(self.unfit("it has neither `git.asc` (an OpenPGP secret key) nor `identity` (an SSH key)"));
        };
        let passphrase = self.text(&["passphrase"])?;
        let passphrase = passphrase.map(|text| text.trim_end_matches(['\r', '\n']).to_owned());
        SigningKey::parse(key, passphrase).map_err(|error| self.unfit(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn keys(entries: &[(&str, &str)]) -> Keys {
        let data = entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())))
            .collect();
        Keys {
            secret: Secret {
                data: Some(data),
                ..Secret::default()
            },
            name: "prod/config-repo".to_owned(),
            field: "spec.git.secretRef.name",
        }
    }

    #[test]
    fn reads_a_token_or_a_key_by_the_names_of_argo_cd_and_flux() {
        let token = keys(&[("username", "ci"), ("password", "t0ken\n")])
            .credentials()
            .unwrap();
        assert!(matches!(token, Credentials::Token { username, token } if username == "ci" && token == "t0ken"));
        for entries in [
            [("sshPrivateKey", "k"), ("knownHosts", "h")],
            [("identity", "k"), ("known_hosts", "h")],
        ] {
            let key = keys(&entries).credentials().unwrap();
            assert!(
                matches!(key, Credentials::Ssh { private_key, known_hosts } if private_key == "k" && known_hosts == "h")
            );
        }
        let with = keys(&[("identity", "k"), ("known_hosts", "h"), ("apiToken", "t0ken\n")]);
        assert!(matches!(with.credentials(), Ok(Credentials::Ssh { .. })));
        assert_eq!(with.api_token().unwrap(), Some(ApiToken("t0ken".to_owned())));
        assert_eq!(keys(&[("password", "t0ken")]).api_token().unwrap(), None);
        let open = keys(&[("ca.crt", "pem")]);
        assert!(matches!(open.credentials(), Ok(Credentials::None)));
        assert_eq!(open.text(&["ca.crt"]).unwrap().as_deref(), Some("pem"));
    }

    #[test]
    fn reads_a_github_app_by_the_names_of_argo_cd_and_flux() {
        let entries = [
            ("githubAppID", "7\n"),
            ("githubAppInstallationID", "42"),
            ("githubAppPrivateKey", "pem"),
        ];
        let app = keys(&entries).app().unwrap().unwrap();
        assert_eq!((app.app.as_str(), app.installation.as_str()), ("7", "42"));
        assert!(!format!("{app:?}").contains("pem"));
        let error = keys(&entries[1..]).app().unwrap_err().to_string();
        assert!(
            error.contains("githubAppID") && error.contains("prod/config-repo"),
            "{error}"
        );
        assert!(keys(&entries[..2]).app().unwrap().is_none());
    }

    #[test]
    fn says_what_a_secret_lacks_and_which_secret_it_is() {
        let missing = keys(&[("identity", "k"), ("known_hosts", " ")])
            .credentials()
            .unwrap_err();
        let missing = missing.to_string();
        assert!(
            missing.contains("known_hosts") && missing.contains("prod/config-repo"),
            "{missing}"
        );
        let empty = keys(&[]).credentials().unwrap_err().to_string();
        assert!(
            empty.contains("`password`") && empty.contains("spec.git.secretRef"),
            "{empty}"
        );
    }

    #[test]
    fn tells_the_two_kinds_of_signing_keys_apart() {
        let pgp = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n…";
        let key = keys(&[("git.asc", pgp), ("passphrase", "secret\n")]).signing().unwrap();
        assert!(matches!(key, SigningKey::OpenPgp { passphrase: Some(p), .. } if p == "secret"));
        let ssh = "-----BEGIN OPENSSH PRIVATE KEY-----\n…";
        assert!(matches!(
            keys(&[("identity", ssh)]).signing(),
            Ok(SigningKey::Ssh { .. })
        ));
        assert!(keys(&[("identity", "ssh-ed25519 AAAA")]).signing().is_err());
        assert!(keys(&[]).signing().is_err());
    }
}
