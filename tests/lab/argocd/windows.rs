//! When an AppProject lets its Applications be synced: `spec.syncWindows`, reckoned as Argo CD does. Pure, the time is an argument. It
//! must not know what is synced.

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde::Deserialize;

use super::{project::glob, spec::Destination};

/// All windows of a project.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub(super) struct Windows(Vec<Window>);

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Window {
    kind: Kind,
    /// Five fields of cron: when it begins.
    schedule: String,
    /// As Go writes it, `1h30m`.
    duration: String,
    #[serde(default)]
    applications: Vec<String>,
    #[serde(default)]
    clusters: Vec<String>,
    #[serde(default)]
    namespaces: Vec<String>,
    /// All lists that are there have to fit, not one of them.
    #[serde(default)]
    and_operator: bool,
    /// People may sync all the same.
    #[serde(default)]
    manual_sync: bool,
    #[serde(default)]
    time_zone: String,
    /// Without effect: here a sync takes a moment, and none runs into a window or out of one.
    #[serde(default, rename = "syncOverrun")]
    _sync_overrun: bool,
    #[serde(default, rename = "description")]
    _description: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Allow,
    Deny,
}

impl Windows {
    /// Whether all of them can be read.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        self.0
            .iter()
            .try_for_each(|window| window.is_open(Timestamp::UNIX_EPOCH).map(drop))
    }

    /// Whether this Application may be synced now, by people or by itself.
    pub(super) fn admit(
        &self,
        application: &str,
        to: &Destination,
        is_manual: bool,
        now: Timestamp,
    ) -> anyhow::Result<bool> {
        let (mut open, mut shut) = (Vec::new(), Vec::new());
        for window in self.0.iter().filter(|window| window.is_about(application, to)) {
            let list = if window.is_open(now)? { &mut open } else { &mut shut };
            list.push(window);
        }
        let of = |kind: Kind, all: &[&Window]| all.iter().any(|window| window.kind == kind);
        // People pass only if each window in their way lets them.
        let pass = |kind: Kind, all: &[&Window]| {
            let mut in_the_way = all.iter().filter(|window| window.kind == kind);
            is_manual && in_the_way.all(|window| window.manual_sync)
        };
        Ok(if of(Kind::Deny, &open) {
            pass(Kind::Deny, &open)
        } else if of(Kind::Allow, &open) || !of(Kind::Allow, &shut) {
            true
        } else {
            pass(Kind::Allow, &shut)
        })
    }
}

impl Window {
    fn is_about(&self, application: &str, to: &Destination) -> bool {
        let fits = |patterns: &[String], texts: &[&str]| {
            let named = texts.iter().filter(|text| !text.is_empty());
            named
                .flat_map(|text| patterns.iter().map(move |pattern| glob(pattern, text)))
                .any(|fits| fits)
        };
        let lists = [
            (&self.applications, fits(&self.applications, &[application])),
            (&self.clusters, fits(&self.clusters, &[&to.name, &to.server])),
            (&self.namespaces, fits(&self.namespaces, &[&to.namespace])),
        ];
        let mut given = lists.iter().filter(|(patterns, _)| !patterns.is_empty()).peekable();
        if self.and_operator {
            given.peek().is_some() && given.all(|(_, fits)| *fits)
        } else {
            given.any(|(_, fits)| *fits)
        }
    }

    /// Whether it began less than its duration ago. Argo CD reads the schedule on the zone's clock as that differs from UTC now, and takes
    /// UTC for a zone that it does not know.
    fn is_open(&self, now: Timestamp) -> anyhow::Result<bool> {
        let Self { schedule, duration, .. } = self;
        let reading = || format!("reading the sync window `{schedule}` of `{duration}`");
        let duration: SignedDuration = duration.parse().with_context(reading)?;
        let crontab = cronexpr::parse_crontab(&format!("{schedule} UTC")).with_context(reading)?;
        let zone = TimeZone::get(&self.time_zone).unwrap_or(TimeZone::UTC);
        let ahead = SignedDuration::from_secs(zone.to_offset(now).seconds().into());
        let wall = now.checked_add(ahead)?;
        let begins = crontab.find_next(wall.checked_sub(duration)?).with_context(reading)?;
        Ok(begins.timestamp() < wall)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Whether people, and whether Argo CD itself, may sync web-prod at that time.
    fn admits(windows: Value, now: &str) -> (bool, bool) {
        let windows: Windows = serde_json::from_value(windows).unwrap();
        windows.check().unwrap();
        let to: Destination = serde_json::from_value(json!({
            "server": "https://kubernetes.default.svc", "namespace": "prod",
        }))
        .unwrap();
        let now = now.parse().unwrap();
        let may = |is_manual| windows.admit("web-prod", &to, is_manual, now).unwrap();
        (may(true), may(false))
    }

    /// A deny window from ten to twelve, each day, that differs in this.
    fn deny(differs: &Value) -> Value {
        let mut window = json!({ "kind": "deny", "schedule": "0 10 * * *", "duration": "2h", "applications": ["*"] });
        for (key, value) in differs.as_object().unwrap() {
            window[key] = value.clone();
        }
        window
    }

    const ALL: (bool, bool) = (true, true);
    const NOBODY: (bool, bool) = (false, false);
    const PEOPLE: (bool, bool) = (true, false);

    #[test]
    fn a_deny_window_is_shut_for_its_duration_and_for_no_longer() {
        for (time, who) in [
            ("09:59:59", ALL),
            ("10:00:01", NOBODY),
            ("11:59:59", NOBODY),
            ("12:00:00", ALL),
        ] {
            let now = format!("2026-12-24T{time}Z");
            assert_eq!(admits(json!([deny(&json!({}))]), &now), who, "{time}");
        }
        let freeze = deny(&json!({ "schedule": "0 0 24 12 *", "duration": "72h" }));
        assert_eq!(admits(json!([freeze]), "2026-12-26T23:59:00Z"), NOBODY);
        assert_eq!(admits(json!([freeze]), "2026-12-27T00:01:00Z"), ALL);
    }

    #[test]
    fn people_pass_where_all_windows_in_their_way_let_them() {
        let (now, lets) = ("2026-12-24T11:00:00Z", deny(&json!({ "manualSync": true })));
        assert_eq!(admits(json!([lets]), now), PEOPLE);
        assert_eq!(admits(json!([lets, deny(&json!({}))]), now), NOBODY);
        let shut = deny(&json!({ "schedule": "0 20 * * *" }));
        assert_eq!(
            admits(json!([lets, shut]), now),
            PEOPLE,
            "the other one is not in their way"
        );
    }

    #[test]
    fn where_there_are_allow_windows_one_has_to_be_open_and_deny_goes_over_it() {
        let allow = |schedule: &str, manual: bool| {
            deny(&json!({ "kind": "allow", "schedule": schedule, "manualSync": manual }))
        };
        let now = "2026-12-24T11:00:00Z";
        assert_eq!(admits(json!([allow("0 20 * * *", false)]), now), NOBODY);
        assert_eq!(admits(json!([allow("0 20 * * *", true)]), now), PEOPLE);
        assert_eq!(
            admits(json!([allow("0 20 * * *", false), allow("0 10 * * *", false)]), now),
            ALL
        );
        assert_eq!(
            admits(json!([allow("0 10 * * *", true), deny(&json!({}))]), now),
            NOBODY
        );
    }

    #[test]
    fn a_window_is_about_those_whom_one_of_its_lists_names_or_all_of_them() {
        let about = |lists: Value| {
            let mut window = deny(&lists);
            if window["applications"] == json!(["*"]) {
                window["applications"] = json!([]);
            }
            admits(json!([window]), "2026-12-24T11:00:00Z") == NOBODY
        };
        assert!(!about(json!({})), "without a list it is about nobody");
        assert!(about(json!({ "applications": ["api-*", "web-*"] })));
        assert!(!about(json!({ "applications": ["web"] })));
        assert!(about(json!({ "namespaces": ["prod"] })));
        assert!(about(json!({ "clusters": ["https://kubernetes.*"] })));
        assert!(
            !about(json!({ "clusters": ["in-cluster"] })),
            "the Application does not call it so"
        );
        let both =
            |namespace: &str| json!({ "applications": ["web-*"], "namespaces": [namespace], "andOperator": true });
        assert!(about(both("prod")) && !about(both("dev")));
        assert!(about(json!({ "applications": ["web-*"], "namespaces": ["dev"] })));
    }

    #[test]
    fn a_schedule_is_read_on_the_clock_of_its_zone() {
        let berlin = deny(&json!({ "timeZone": "Europe/Berlin" }));
        assert_eq!(admits(json!([berlin]), "2026-12-24T09:30:00Z"), NOBODY);
        assert_eq!(admits(json!([berlin]), "2026-12-24T11:30:00Z"), ALL);
        assert_eq!(
            admits(json!([berlin]), "2026-07-24T08:30:00Z"),
            NOBODY,
            "in summer, too"
        );
        let nowhere = deny(&json!({ "timeZone": "Nowhere/Such" }));
        assert_eq!(
            admits(json!([nowhere]), "2026-12-24T11:30:00Z"),
            NOBODY,
            "then it is UTC"
        );
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        for (differs, says) in [
            (json!({ "schedule": "0 25 * * *" }), "`0 25 * * *`"),
            (json!({ "duration": "long" }), "`long`"),
            (json!({ "kind": "perhaps" }), "perhaps"),
            (json!({ "every": "day" }), "every"),
        ] {
            let read = serde_json::from_value::<Windows>(json!([deny(&differs)])).map_err(anyhow::Error::from);
            let error = read.and_then(|windows| windows.check()).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{error:#}");
        }
    }
}
