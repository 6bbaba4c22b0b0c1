//! What a failed call to the host means, read out of git's, curl's and ssh's words. Pure text; it must not know what was asked.

use std::fmt;

/// Why a host did not do what it was asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It does not accept the credentials, or wants some.
    Unauthorized,
    /// It knows us, and does not let us.
    Forbidden,
    /// There is no such repository, or we may not know of it.
    NoRepository,
    /// Its SSH key is not among the known hosts.
    UnknownHost,
    /// Its SSH key is not the one that is known.
    ChangedHost,
    /// Its TLS certificate is signed by nobody whom we trust.
    Certificate,
    /// The given CA certificates cannot be read.
    Authority,
    /// The SSH key cannot be read.
    Key,
    /// No connection came about.
    Unreachable,
    /// It says that it cannot serve now.
    Unavailable,
    /// It ended the connection early.
    Dropped,
    /// It does not speak Git.
    Garbage,
}

/// Phrases in their order: the first that is found decides. What is more special stands first, as ssh and git add general
/// sentences to each failure.
const PHRASES: &[(&str, Fault)] = &[
    ("REMOTE HOST IDENTIFICATION HAS CHANGED", Fault::ChangedHost),
    ("host key is known for", Fault::UnknownHost),
    ("Host key verification failed", Fault::UnknownHost),
    ("error in libcrypto", Fault::Key),
    ("invalid format", Fault::Key),
    ("incorrect passphrase", Fault::Key),
    ("Permission denied (", Fault::Unauthorized),
    ("Too many authentication failures", Fault::Unauthorized),
    ("Authentication failed", Fault::Unauthorized),
    ("could not read Username", Fault::Unauthorized),
    ("could not read Password", Fault::Unauthorized),
    ("returned error: 401", Fault::Unauthorized),
    ("HTTP Basic: Access denied", Fault::Unauthorized),
    ("returned error: 403", Fault::Forbidden),
    ("returned error: 404", Fault::NoRepository),
    ("returned error: 429", Fault::Unavailable),
    ("returned error: 5", Fault::Unavailable),
    ("does not appear to be a git repository", Fault::NoRepository),
    ("Repository not found", Fault::NoRepository),
    ("error setting certificate", Fault::Authority),
    ("Problem with the SSL CA cert", Fault::Authority),
    ("error reading ca cert file", Fault::Authority),
    ("certificate verification failed", Fault::Certificate),
    ("SSL certificate problem", Fault::Certificate),
    ("server certificate", Fault::Certificate),
    ("does not match target host name", Fault::Certificate),
    ("Could not resolve host", Fault::Unreachable),
    ("Failed to connect", Fault::Unreachable),
    ("Couldn't connect to server", Fault::Unreachable),
    ("Connection refused", Fault::Unreachable),
    ("No route to host", Fault::Unreachable),
    ("Network is unreachable", Fault::Unreachable),
    ("Connection timed out", Fault::Unreachable),
    ("Name or service not known", Fault::Unreachable),
    ("name resolution", Fault::Unreachable),
    ("not valid: is this a git repository", Fault::Garbage),
    ("invalid server response", Fault::Garbage),
    ("bad line length", Fault::Garbage),
    ("protocol error", Fault::Garbage),
    ("HTTP/0.9", Fault::Garbage),
    ("Unsupported protocol", Fault::Garbage),
    ("Weird server reply", Fault::Garbage),
    ("wrong version number", Fault::Garbage),
    ("unexpected TLS packet", Fault::Garbage),
    ("unexpected message", Fault::Garbage),
    ("invalid characters", Fault::Garbage),
    ("Invalid SSH identification", Fault::Garbage),
    ("major versions differ", Fault::Garbage),
    ("Empty reply from server", Fault::Dropped),
    ("hung up unexpectedly", Fault::Dropped),
    ("unexpected disconnect", Fault::Dropped),
    ("early EOF", Fault::Dropped),
    ("transfer closed", Fault::Dropped),
    ("Connection closed by", Fault::Dropped),
    ("Connection reset by", Fault::Dropped),
    ("RPC failed", Fault::Dropped),
    ("TLS connection was non-properly terminated", Fault::Dropped),
    ("Recv failure", Fault::Dropped),
];

impl Fault {
    /// What the words of a failed call mean; none if they say nothing of the host.
    pub(super) fn of(words: &str) -> Option<Self> {
        // "fatal: repository '…' not found", with an address between.
        let has_no_repository = words
            .lines()
            .any(|line| line.contains("repository '") && line.ends_with("' not found"));
        if has_no_repository {
            return Some(Self::NoRepository);
        }
        PHRASES
            .iter()
            .find(|(phrase, _)| words.contains(phrase))
            .map(|(_, fault)| *fault)
    }

    /// Whether it is no use to try again before somebody has changed something.
    pub fn is_input(self) -> bool {
        match self {
            Self::Unauthorized
            | Self::Forbidden
            | Self::NoRepository
            | Self::UnknownHost
            | Self::ChangedHost
            | Self::Certificate
            | Self::Authority
            | Self::Key => true,
            Self::Unreachable | Self::Unavailable | Self::Dropped | Self::Garbage => false,
        }
    }

    /// The word for it in a condition.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unauthorized => "AuthenticationFailed",
            Self::Forbidden => "Forbidden",
            Self::NoRepository => "NoSuchRepository",
            Self::UnknownHost => "UnknownHostKey",
            Self::ChangedHost => "HostKeyChanged",
            Self::Certificate => "UntrustedCertificate",
            Self::Authority => "BadCertificateAuthority",
            Self::Key => "BadPrivateKey",
            Self::Unreachable => "HostUnreachable",
            Self::Unavailable => "HostUnavailable",
            Self::Dropped => "ConnectionDropped",
            Self::Garbage => "NotAGitServer",
        }
    }
}

/// What happened, and what to do.
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unauthorized => {
                "the host does not accept the credentials; put a valid token (`username`, `password`) or key (`identity`) into the Secret of git.secretRef"
            }
            Self::Forbidden => {
                "the host knows these credentials and does not allow it; give them the right to write to the repository"
            }
            Self::NoRepository => {
                "there is no such repository, or these credentials may not see it; check git.repository and their rights"
            }
            Self::UnknownHost => {
                "the host's SSH key is not in `known_hosts`; compare what ssh-keyscan prints with the host's published key, then add it to the Secret of git.secretRef"
            }
            Self::ChangedHost => {
                "the host's SSH key is not the one in `known_hosts`: somebody may stand between; only if the host published a new key, replace it in the Secret of git.secretRef"
            }
            Self::Certificate => {
                "the host's TLS certificate is signed by no trusted authority, or is for another name; put the authority's certificate into the Secret of git.secretRef as `ca.crt`"
            }
            Self::Authority => {
                "`ca.crt` in the Secret of git.secretRef cannot be read; it must hold certificates in PEM form"
            }
            Self::Key => {
                "the SSH key cannot be read; `identity` in the Secret of git.secretRef must be a whole private key without a passphrase"
            }
            Self::Unreachable => {
                "no connection to the host; check the address, DNS, network policies and proxies. It is tried again"
            }
            Self::Unavailable => "the host cannot serve now; look at its status page. It is tried again",
            Self::Dropped => {
                "the host ended the connection early; look at the host and at proxies between. It is tried again"
            }
            Self::Garbage => {
                "what answers there is no Git server; check that git.repository is the address for `git clone`, and no proxy's login page. It is tried again"
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_special_words_decide_and_not_the_general_ones_behind_them() {
        let general = "fatal: Could not read from remote repository.";
        for (words, fault) in [
            (
                "No ED25519 host key is known for [127.0.0.1]:22 and you have requested strict checking.\nHost key verification failed.",
                Fault::UnknownHost,
            ),
            (
                "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
                Fault::ChangedHost,
            ),
            ("git@host: Permission denied (publickey).", Fault::Unauthorized),
            (
                "kex_exchange_identification: Connection closed by remote host",
                Fault::Dropped,
            ),
            (
                "kex_exchange_identification: banner line contains invalid characters\nConnection closed by",
                Fault::Garbage,
            ),
            ("ssh: connect to host h port 22: Connection refused", Fault::Unreachable),
            (
                "fatal: '/x.git' does not appear to be a git repository",
                Fault::NoRepository,
            ),
            ("fatal: repository 'https://h/x.git/' not found", Fault::NoRepository),
            (
                "fatal: unable to access 'https://h/': The requested URL returned error: 503",
                Fault::Unavailable,
            ),
        ] {
            assert_eq!(Fault::of(&format!("{words}\n{general}")), Some(fault), "{words}");
        }
        assert_eq!(Fault::of("fatal: bad object 1234"), None);
    }
}
