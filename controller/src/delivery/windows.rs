//! The sync windows of Argo CD's AppProject that are about an Application, and what to say of them. It must not know the time: whether
//! a window is in the way is seen in what Argo CD does.

use serde_json::Value;

use super::{Blocked, list, text};

/// The windows about one Application.
pub(super) struct Windows<'v>(Vec<&'v Value>);

impl<'v> Windows<'v> {
    /// Those of the project; none where nobody may read it.
    pub(super) fn about(name: &str, application: &Value, project: Option<&'v Value>) -> Self {
        let all = project
            .into_iter()
            .flat_map(|project| list(project, "/spec/syncWindows"));
        Self(all.filter(|window| is_about(window, name, application)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A commit was compared, and no sync of it has begun.
    pub(super) fn keep_away(&self, name: &str) -> Blocked {
        let words = format!(
            "{} keeps Argo CD's Application {name} from syncing: wait until it lets syncs through, or {}sync with `argocd app sync {name}`",
            self.named(),
            self.allow_people()
        );
        Blocked::new("SyncWindow", words)
    }

    /// A sync has begun and waits, and nothing else is synced meanwhile, not by people either.
    pub(super) fn hold_up(&self, name: &str) -> Blocked {
        let words = format!(
            "a sync of Argo CD's Application {name} waits for {}, and takes no newer commit meanwhile: wait until it lets syncs through, or {}end this one with `argocd app terminate-op {name}` and sync with `argocd app sync {name}`",
            self.named(),
            self.allow_people()
        );
        Blocked::new("SyncWindow", words)
    }

    /// What comes before a sync by hand, unless it is allowed already.
    fn allow_people(&self) -> &'static str {
        let lets = |window: &&Value| window.get("manualSync") == Some(&Value::Bool(true));
        if !self.0.is_empty() && self.0.iter().all(lets) {
            ""
        } else {
            "set manualSync: true there and "
        }
    }

    fn named(&self) -> String {
        let one = |window: &&Value| {
            let field = |name: &str| text(window, &format!("/{name}"));
            let short = |words: &str| words.chars().take(40).collect::<String>();
            format!(
                "{} `{}` for {}",
                short(field("kind")),
                short(field("schedule")),
                short(field("duration"))
            )
        };
        // A condition is no list of everything.
        let some: Vec<_> = self.0.iter().take(3).map(one).collect();
        if some.is_empty() {
            "a sync window of its project".to_owned()
        } else {
            format!("a sync window of its project ({})", some.join(", "))
        }
    }
}

/// Whether one of the window's lists names the Application, or with andOperator each that it has.
fn is_about(window: &Value, name: &str, application: &Value) -> bool {
    let destination = |field: &str| text(application, &format!("/spec/destination/{field}"));
    let fits = |field: &str, texts: &[&str]| {
        let patterns: Vec<_> = list(window, &format!("/{field}")).filter_map(Value::as_str).collect();
        let fits = |pattern: &&str| texts.iter().any(|text| !text.is_empty() && is_like(pattern, text));
        (!patterns.is_empty()).then(|| patterns.iter().any(fits))
    };
    let lists = [
        fits("applications", &[name]),
        fits("clusters", &[destination("name"), destination("server")]),
        fits("namespaces", &[destination("namespace")]),
    ];
    let mut given = lists.into_iter().flatten().peekable();
    if window.get("andOperator") == Some(&Value::Bool(true)) {
        given.peek().is_some() && given.all(|fits| fits)
    } else {
        given.any(|fits| fits)
    }
}

/// `*` stands for any text, `?` for one character. It takes the product of both lengths at most, whatever a project says.
fn is_like(pattern: &str, text: &str) -> bool {
    let (mut wanted, mut rest) = (pattern.chars(), text.chars());
    // The last `*`: what follows it, and the text from which that is tried.
    let mut again = None;
    loop {
        let from = rest.clone();
        match (wanted.next(), rest.next()) {
            (Some('*'), _) => {
                rest = from;
                again = Some((wanted.clone(), rest.clone()));
            }
            (None, None) => return true,
            (Some('?'), Some(_)) => {}
            (Some(one), Some(is)) if one == is => {}
            _ => {
                // It may have stood for one character more.
                let Some((after, tried)) = &mut again else { return false };
                if tried.next().is_none() {
                    return false;
                }
                (wanted, rest) = (after.clone(), tried.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn about(window: &Value) -> bool {
        let application = json!({ "spec": { "destination": { "name": "in-cluster", "namespace": "prod" } } });
        let project = json!({ "spec": { "syncWindows": [window] } });
        !Windows::about("web-prod", &application, Some(&project)).is_empty()
    }

    #[test]
    fn a_window_is_about_those_whom_its_lists_name() {
        assert!(about(&json!({ "applications": ["*"] })));
        assert!(about(&json!({ "applications": ["api-*", "w?b-*"] })));
        assert!(!about(&json!({ "applications": ["web", "*-dev"] })));
        assert!(about(&json!({ "clusters": ["in-*"] })) && about(&json!({ "namespaces": ["prod"] })));
        assert!(!about(&json!({})), "it names nobody");
        assert!(about(&json!({ "applications": ["web-*"], "namespaces": ["dev"] })));
        assert!(!about(
            &json!({ "applications": ["web-*"], "namespaces": ["dev"], "andOperator": true })
        ));
        assert!(about(
            &json!({ "applications": ["web-*"], "namespaces": ["prod"], "andOperator": true })
        ));
    }

    #[test]
    fn a_pattern_with_many_stars_takes_no_longer_than_others() {
        let name = "a".repeat(253);
        assert!(is_like(&"*a".repeat(100), &name));
        assert!(!is_like(&format!("{}b", "*a".repeat(100)), &name));
        for (pattern, text, fits) in [
            ("", "", true),
            ("*", "", true),
            ("?", "", false),
            ("*-prod", "web-prod-prod", true),
            ("w*b?*d", "web-prod", true),
            ("w*b", "web-prod", false),
        ] {
            assert_eq!(is_like(pattern, text), fits, "{pattern} {text}");
        }
    }

    #[test]
    fn words_name_the_window_and_the_shortest_way_through() {
        let window = |manual: bool| json!({ "kind": "deny", "schedule": "0 0 24 12 *", "duration": "72h", "manualSync": manual });
        let (lets, stops) = (window(true), window(false));
        let words = Windows(vec![&lets]).keep_away("web").words;
        assert!(
            words.contains("(deny `0 0 24 12 *` for 72h)") && words.ends_with("or sync with `argocd app sync web`")
        );
        let words = Windows(vec![&lets, &stops]).keep_away("web").words;
        assert!(
            words.contains("or set manualSync: true there and sync with `argocd app sync web`"),
            "{words}"
        );
        let words = Windows(vec![&lets]).hold_up("web").words;
        assert!(
            words.contains("or end this one with `argocd app terminate-op web` and sync"),
            "{words}"
        );
    }
}
