//! What a caller says about a repository and a rollout: plain values, checked once. It must not know Kubernetes types.

use super::credentials::{ApiToken, Credentials, Hand};
use super::error::{Error, Result};
use super::layout::Layout;

/// A branch of a config repository.
#[derive(Debug, Clone)]
pub struct RepoSpec {
    pub url: String,
    pub branch: String,
    pub credentials: Credentials,
    /// For the API of the repository's host, where it is not the token of the credentials.
    pub api_token: Option<ApiToken>,
    /// Certificates (PEM) of those who may sign an https host's, instead of the system's.
    pub ca: Option<String>,
    /// Who stands in commits, and what signs them.
    pub hand: Hand,
}

impl RepoSpec {
    /// Refuses what could mean something else to git than an address and a branch.
    pub fn check(&self) -> Result<()> {
        let invalid = |what, value: &str, why| {
            Err(Error::Invalid {
                what,
                value: value.to_owned(),
                why,
            })
        };
        let url = &self.url;
        let known = ["https://", "http://", "ssh://", "file://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        let is_scp = !url.contains("://")
            && !url.contains("::")
            && url.split_once(':').is_some_and(|(host, _)| host.contains('@'));
        if url.starts_with('-') || url.chars().any(|c| c.is_control() || c.is_whitespace()) || !(known || is_scp) {
            return invalid(
                "the repository",
                &redact_url(url),
                "use https://, ssh:// or user@host:path",
            );
        }
        if url.starts_with("http") && redact_url(url) != *url {
            return invalid(
                "the repository",
                &redact_url(url),
                "an address must not hold a password; give it as a credential",
            );
        }
        let branch = &self.branch;
        let bad = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
        let odd = branch.is_empty() || branch.contains("..") || branch.contains("@{") || branch.contains("//");
        if odd
            || branch.starts_with(['-', '/', '.'])
            || branch.ends_with(['/', '.'])
            || branch.strip_suffix(".lock").is_some()
            || branch.contains(bad)
        {
            return invalid("the branch", branch, "it is no branch name");
        }
        if let Some(authority) = &self.ca
            && !authority.contains("-----BEGIN CERTIFICATE-----")
        {
            return invalid("ca.crt", "", "it must hold certificates in PEM form");
        }
        match &self.credentials {
            Credentials::Ssh { known_hosts, .. } if known_hosts.trim().is_empty() => {
                invalid("known_hosts", "", "without it nobody knows which host gets the key")
            }
            Credentials::Ssh { .. } if !(is_scp || url.starts_with("ssh://")) => invalid(
                "the repository",
                &redact_url(url),
                "the Secret has an SSH key, so the address must begin with ssh:// or be user@host:path",
            ),
            Credentials::Token { .. } if is_scp || url.starts_with("ssh://") => invalid(
                "the repository",
                &redact_url(url),
                "the Secret has a user and a token, so the address must begin with https://",
            ),
            _ => Ok(()),
        }
    }

    /// Whether commits of both may be written and pushed by the same hand: one rollout's token must not push another's commit.
    pub(super) fn is_same_hand(&self, other: &Self) -> bool {
        (&self.credentials, &self.api_token, &self.ca, &self.hand)
            == (&other.credentials, &other.api_token, &other.ca, &other.hand)
    }

    /// The token for the API of the repository's host, however git itself logs in.
    pub(super) fn token_for_api(&self) -> Option<&str> {
        match (&self.api_token, &self.credentials) {
            (Some(ApiToken(token)), _) | (None, Credentials::Token { token, .. }) => Some(token),
            (None, Credentials::None | Credentials::Ssh { .. }) => None,
        }
    }

    /// The address without what may be secret in it.
    pub fn name(&self) -> String {
        redact_url(&self.url)
    }
}

/// The rollout that commits speak of, and where its arms stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The cluster's id: clusters that share a repository are told apart by it.
    pub cluster: String,
    pub namespace: String,
    pub name: String,
    /// The rollout's folder in the repository; empty is the top.
    pub path: String,
    /// The files below the folder, and where the arms stand in them.
    pub layout: Layout,
}

impl Subject {
    pub fn check(&self) -> Result<()> {
        let invalid = |what, value: &str, why| {
            Err(Error::Invalid {
                what,
                value: value.to_owned(),
                why,
            })
        };
        for (file, below) in self.files().iter().zip(self.layout.files()) {
            let escapes = file.split('/').any(|part| matches!(part, "" | "." | ".." | ".git"));
            if escapes || self.path.starts_with('/') || below.starts_with('/') || file.chars().any(char::is_control) {
                return invalid(
                    "the path of the arms' file",
                    file,
                    "it must be a plain path inside of the repository",
                );
            }
        }
        for (what, value) in [
            ("the cluster's id", &self.cluster),
            ("the namespace", &self.namespace),
            ("the rollout's name", &self.name),
        ] {
            if value.is_empty() || value.contains(|c: char| c.is_control() || c.is_whitespace() || c == '/') {
                return invalid(what, value, "it must be one word");
            }
        }
        self.layout.check()
    }

    /// `namespace/name`.
    pub fn rollout(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The files that hold the arms, from the top of the repository, in the layout's order.
    pub fn files(&self) -> Vec<String> {
        let path = self.path.trim_end_matches('/').trim_start_matches("./");
        let at = |file: &str| {
            if path.is_empty() || path == "." {
                file.to_owned()
            } else {
                format!("{path}/{file}")
            }
        };
        self.layout.files().into_iter().map(at).collect()
    }
}

/// Who stands in a commit as author and committer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    pub name: String,
    pub email: String,
}

impl Identity {
    pub fn new(name: impl Into<String>, email: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            email: email.into(),
        }
    }

    /// Reads `Name <mail>`.
    pub fn parse(text: &str) -> Result<Self> {
        let invalid = || Error::Invalid {
            what: "the author",
            value: text.to_owned(),
            why: "write it as: Name <mail@host>",
        };
        let (name, rest) = text.split_once('<').ok_or_else(invalid)?;
        let (email, end) = rest.split_once('>').ok_or_else(invalid)?;
        let (name, email) = (name.trim(), email.trim());
        if name.is_empty() || email.is_empty() || !end.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(invalid());
        }
        Ok(Self::new(name, email))
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self::new("Serin", "serin@serin.dev")
    }
}

/// A repository's host and its path there, whatever way leads to it: without user, scheme, a scheme's own port and `.git`.
pub fn place(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let (host, path) = match scheme {
        // git@host:path
        "" => rest.split_once(':').unwrap_or((rest, "")),
        _ => rest.split_once('/').unwrap_or((rest, "")),
    };
    let host = host.rsplit('@').next().unwrap_or(host).to_ascii_lowercase();
    let own = match scheme {
        "https" => ":443",
        "http" => ":80",
        _ => ":22",
    };
    let host = host.strip_suffix(own).unwrap_or(&host).to_owned();
    let path = path.trim_matches('/');
    (host, path.strip_suffix(".git").unwrap_or(path).to_owned())
}

/// Takes `user:password@` out of an address.
fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let slash = if rest.contains('/') { "/" } else { "" };
    match host.rsplit_once('@') {
        Some((_, host)) if scheme.starts_with("http") => format!("{scheme}://{host}{slash}{path}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(url: &str, branch: &str) -> RepoSpec {
        RepoSpec {
            url: url.into(),
            branch: branch.into(),
            credentials: Credentials::None,
            api_token: None,
            ca: None,
            hand: Hand::default(),
        }
    }

    #[test]
    fn addresses_that_could_run_something_or_hold_secrets_are_refused() {
        for url in [
            "https://git.example.com/x.git",
            "ssh://git@h/x",
            "git@h:x.git",
            "file:///srv/x",
        ] {
            assert!(repo(url, "main").check().is_ok(), "{url}");
        }
        for url in [
            "ext::sh -c x",
            "--upload-pack=x",
            "/srv/x",
            "https://u:secret@h/x.git",
            "https://h/x\ny",
            "",
        ] {
            let error = repo(url, "main").check().unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
        for branch in ["", "-x", "a..b", "a b", "x.lock", "a:b", "+a~1"] {
            assert!(repo("https://h/x", branch).check().is_err(), "{branch}");
        }
    }

    #[test]
    fn an_address_and_its_credentials_must_belong_together() {
        let token = Credentials::Token {
            username: "u".into(),
            token: "t".into(),
        };
        let key = |known_hosts: &str| Credentials::Ssh {
            private_key: "k".into(),
            known_hosts: known_hosts.into(),
        };
        let check = |url: &str, credentials: Credentials| {
            let spec = RepoSpec {
                credentials,
                ..repo(url, "main")
            };
            spec.check()
        };
        assert!(check("https://h/x", token.clone()).is_ok() && check("git@h:x", key("h")).is_ok());
        for (url, credentials) in [
            ("ssh://git@h/x", token.clone()),
            ("git@h:x", token),
            ("https://h/x", key("h")),
            ("git@h:x", key(" \n")),
        ] {
            assert!(check(url, credentials).is_err(), "{url}");
        }
    }

    #[test]
    fn a_path_never_leaves_the_repository() {
        let subject = |path: &str, file: &str| Subject {
            cluster: "c".into(),
            namespace: "n".into(),
            name: "r".into(),
            path: path.into(),
            layout: Layout::Helm {
                file: file.into(),
                stable: "stable".into(),
                canary: "canary".into(),
            },
        };
        assert_eq!(subject("a/b/", "values.yaml").files(), ["a/b/values.yaml"]);
        assert_eq!(subject(".", "values.yaml").files(), ["values.yaml"]);
        assert!(subject("a/b", "values.yaml").check().is_ok());
        for (path, file) in [
            ("../x", "v"),
            ("/etc", "v"),
            ("a", "../v"),
            ("a", ".git/config"),
            ("a", ""),
        ] {
            assert!(subject(path, file).check().is_err(), "{path} {file}");
        }
    }

    #[test]
    fn an_author_is_a_name_and_an_address() {
        assert_eq!(Identity::parse("A B <a@b>").unwrap(), Identity::new("A B", "a@b"));
        assert!(
            Identity::parse("A B").is_err()
                && Identity::parse("<a@b>").is_err()
                && Identity::parse("A\nB <a@b>").is_err()
        );
    }
}
