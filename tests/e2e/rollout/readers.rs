//! The page for those who read it otherwise than by mouse on a wide, bright screen: in the dark, by keyboard alone, by a screen reader, on
//! a phone. It is served here over made-up rollouts of all kinds; that what it shows is true is the story of [`super::page`].

#[path = "../../../controller/examples/page/rollouts.rs"]
mod rollouts;
mod scripts;

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, ensure};
use lab::{Lab, browser::Browser, clock, net::Net, project_root};
use serde::Deserialize;
use serde_json::{Value, json};
use serin::{
    api::CanaryRollout,
    board::{Board, Key},
    web::router,
};

use self::scripts::{FOCUS, HEADINGS, PLACES, SCROLLS, SEE};
use crate::story::{SOON, eventually};

/// WebDriver's names of keys.
const TAB: char = '\u{E004}';
const ENTER: char = '\u{E007}';
const SPACE: char = ' ';
/// The narrowest screens that are looked at; WCAG's own bound is the first.
const NARROW: [u32; 2] = [320, 360];
const WIDE: (u32, u32) = (1000, 1600);
/// More than any page has places to go to.
const MANY: usize = 120;

pub(super) async fn story(lab: Arc<Lab>) -> anyhow::Result<()> {
    let board = Board::default();
    rollouts::fill(&board);
    board.put(endless()?, clock::now());
    let address = serve(&lab.net, board.clone()).await?;
    let reader = Reader {
        browser: Browser::start(&lab.net).await?,
        address,
    };
    let mut pages = vec!["/".to_owned()];
    pages.extend(board.all().iter().map(|rollout| {
        let key = Key::of(rollout);
        format!("/rollouts/{}/{}", key.namespace, key.name)
    }));
    for page in &pages {
        reader.browser.resize(WIDE.0, WIDE.1).await?;
        reader.open(page).await?;
        for dark in [false, true] {
            reader
                .sees(page, dark)
                .await
                .with_context(|| format!("{page}, dark: {dark}"))?;
        }
        reader.hears(page).await.with_context(|| format!("{page} by ear"))?;
        for width in NARROW {
            let reads = reader.reads_on_a_phone(page, width).await;
            reads.with_context(|| format!("{page} at {width} px"))?;
        }
    }
    reader.browser.resize(WIDE.0, WIDE.1).await?;
    reader.goes_by_keyboard(&board).await?;
    reader.browser.close().await
}

/// The page over a board, with nobody behind it who takes commands.
async fn serve(net: &Net, board: Board) -> anyhow::Result<String> {
    let page = rollouts::page(board)?;
    let listener = net.listen().await?;
    let address = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, router(page)).await });
    Ok(address)
}

/// Whose names and words nowhere end.
fn endless() -> anyhow::Result<CanaryRollout> {
    let word = |count: usize| "endless".repeat(count);
    let (name, at) = (word(36), clock::now());
    let rollout = json!({
        "apiVersion": "serin.dev/v1alpha1", "kind": "CanaryRollout", "metadata": { "namespace": word(9), "name": name },
        "spec": {
            "service": { "name": "web", "port": 80 }, "stable": { "deployment": "web" }, "canary": { "deployment": "web-canary" },
            "git": { "repository": format!("https://git.example.com/{}.git", word(20)), "path": word(20), "secretRef": { "name": "s" } },
        },
        "status": {
            "phase": "Paused", "step": "1/4", "verdict": "inconclusive", "message": word(40), "stable": word(18),
            "weight": { "wanted": 5, "observed": 5 },
            "revision": { "name": word(18), "commit": "f".repeat(40), "author": word(14), "subject": word(14) },
            "evidence": [{
                "metric": word(9), "arm": "canary", "bad": 1, "total": 9, "otherBad": 1, "otherTotal": 9, "towardsFail": 1,
                "towardsPass": 1, "sentence": word(30), "pods": [{ "pod": word(30), "bad": 1, "total": 9 }],
            }],
            "hooks": [{ "name": word(9), "point": "Step", "step": 1, "state": "Asked", "since": at, "onFailure": "Pause", "answer": word(30) }],
            "rollback": { "revision": word(18), "reason": word(30), "trafficAt": at, "commit": "e".repeat(40) },
            "history": [{
                "revision": word(18), "outcome": "RolledBack", "began": at, "ended": at, "duration": "5m", "requests": 9, "reason": word(40),
                "evidence": [word(30)],
            }],
            "lastCommand": { "id": "x", "verb": "pause", "by": word(20), "reason": word(20), "accepted": true, "message": word(20) },
            "conditions": [{
                "type": "GitPending", "status": "True", "reason": word(9), "message": word(40), "lastTransitionTime": at,
            }],
        },
    });
    serde_json::from_value(rollout).context("making a rollout up")
}

#[derive(Debug, Deserialize)]
struct Seen {
    texts: usize,
    poor: Vec<String>,
    background: f64,
}

/// Roles of what is worth nothing to who listens without a name.
const NAMED: [&str; 12] = [
    "RootWebArea",
    "link",
    "button",
    "searchbox",
    "textbox",
    "checkbox",
    "image",
    "meter",
    "table",
    "region",
    "columnheader",
    "rowheader",
];

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Focus {
    nth: i64,
    id: String,
    tag: String,
    text: String,
    href: Option<String>,
    /// It can be seen that it has the focus …
    outlined: bool,
    /// … as it is on the screen.
    inside: bool,
}

struct Reader {
    browser: Browser,
    address: String,
}

impl Reader {
    async fn open(&self, page: &str) -> anyhow::Result<()> {
        self.browser.open(&format!("{}{page}", self.address)).await?;
        self.is_live().await
    }

    async fn is_live(&self) -> anyhow::Result<()> {
        let script = "return document.getElementById('line')?.textContent ?? '';";
        eventually("the page is live", SOON, async || {
            let line = self.browser.ask(script).await?;
            ensure!(line.as_str().is_some_and(|line| line.contains("live")), "{line}");
            Ok(())
        })
        .await
    }

    async fn sees(&self, page: &str, dark: bool) -> anyhow::Result<()> {
        self.browser.darken(dark).await?;
        let seen: Seen = serde_json::from_value(self.browser.ask(SEE).await?)?;
        ensure!(seen.texts > 10, "there is hardly anything to be read: {seen:?}");
        let is_dark = seen.background < 0.05;
        ensure!(is_dark == dark && (dark || seen.background > 0.8), "{seen:?}");
        ensure!(seen.poor.is_empty(), "hard to read: {:#?}", seen.poor);
        self.picture(page, if dark { "dark" } else { "light" }).await
    }

    /// What a screen reader says has a name, and a way through it.
    async fn hears(&self, page: &str) -> anyhow::Result<()> {
        let nodes = self.browser.told().await?;
        let text = |node: &Value, of: &str| {
            let value = node.pointer(&format!("/{of}/value"));
            value.and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let all: Vec<(String, String)> = nodes
            .iter()
            .map(|node| (text(node, "role"), text(node, "name")))
            .collect();
        let named = |role: &str| {
            all.iter()
                .filter(|(of, _)| of == role)
                .map(|(_, name)| name.as_str())
                .collect::<Vec<_>>()
        };
        let nameless: Vec<_> = all
            .iter()
            .filter(|(role, name)| NAMED.contains(&role.as_str()) && name.trim().is_empty())
            .collect();
        ensure!(nameless.is_empty(), "without a name: {nameless:?}");
        for landmark in ["banner", "main"] {
            ensure!(named(landmark).len() == 1, "{landmark}: {:?}", named(landmark));
        }
        let lang = self.browser.ask("return document.documentElement.lang;").await?;
        ensure!(lang == json!("en"), "{lang}");
        let levels: Vec<i64> = serde_json::from_value(self.browser.ask(HEADINGS).await?)?;
        let tops = levels.iter().filter(|level| **level == 1).count();
        let leaps = levels
            .iter()
            .zip(levels.iter().skip(1))
            .any(|(one, next)| *next > one + 1);
        ensure!(tops == 1 && !leaps, "headings of levels {levels:?}");
        ensure!(named("status").len() == 1, "who listens hears of no broken line");
        let meters: BTreeSet<_> = named("meter").into_iter().collect();
        ensure!(
            meters.len() == named("meter").len(),
            "meters of one name: {:?}",
            named("meter")
        );
        if page == "/" {
            ensure!(
                named("table") == ["All rollouts, those in trouble first"],
                "{:?}",
                named("table")
            );
            ensure!(named("searchbox") == ["Filter"], "{:?}", named("searchbox"));
            return Ok(());
        }
        ensure!(named("navigation") == ["Where this is"], "{:?}", named("navigation"));
        for region in [
            "What happens now",
            "Weight",
            "Arms",
            "Plan",
            "Evidence",
            "Over time",
            "Commands",
            "Conditions",
        ] {
            ensure!(
                named("region").contains(&region),
                "no region {region}: {:?}",
                named("region")
            );
        }
        if page.ends_with("/checkout") {
            let meter = nodes
                .iter()
                .find(|node| text(node, "name") == "success-rate, towards fail");
            let value = meter.and_then(|meter| meter.pointer("/value/value"));
            ensure!(value.and_then(Value::as_f64) == Some(100.0), "{meter:?}");
            let latency = named("image")
                .into_iter()
                .find(|name| name.starts_with("Latency, p99; at last: canary "));
            ensure!(
                latency.is_some_and(|name| name.contains(" ms, stable ")),
                "{:?}",
                named("image")
            );
        }
        if page.ends_with("/user-service") {
            ensure!(
                named("button").iter().any(|name| name.starts_with("Copy: serin ")),
                "{:?}",
                named("button")
            );
        }
        Ok(())
    }

    async fn reads_on_a_phone(&self, page: &str, width: u32) -> anyhow::Result<()> {
        self.browser.resize(width, 640).await?;
        let said = self.browser.ask(SCROLLS).await?;
        let number = |key: &str| said.get(key).and_then(Value::as_u64).unwrap_or(u64::MAX);
        ensure!(
            number("wide") == u64::from(width) && number("scrolls") <= u64::from(width),
            "it scrolls sideways: {said:#}"
        );
        ensure!(said.get("over") == Some(&json!([])), "over the edge: {said:#}");
        ensure!(
            said.get("stuck") == Some(&json!([])),
            "no keyboard scrolls this: {said:#}"
        );
        self.picture(page, &width.to_string()).await
    }

    /// From the list to a rollout's page, and to a command that is refused.
    async fn goes_by_keyboard(&self, board: &Board) -> anyhow::Result<()> {
        self.open("/").await?;
        let skip = self.tab().await?;
        ensure!(
            skip.href.as_deref() == Some("#main") && skip.outlined && skip.inside,
            "{skip:?}"
        );
        self.browser.press(ENTER).await?;
        ensure!(
            self.focus().await?.is_some_and(|at| at.id == "main"),
            "it skips to {:?}",
            self.focus().await?
        );
        let words = self.tab().await?;
        ensure!(words.id == "words", "{words:?}");
        for letter in "check".chars() {
            self.browser.press(letter).await?;
        }
        let busy = self.tab().await?;
        ensure!(busy.id == "busy", "{busy:?}");
        self.browser.press(SPACE).await?;
        let busy = self
            .browser
            .ask("return document.getElementById('busy').checked;")
            .await?;
        ensure!(busy == json!(true), "the space bar ticks it");
        let link = self.tab().await?;
        ensure!(link.href.as_deref() == Some("/rollouts/shop-prod/checkout"), "{link:?}");
        self.browser.press(ENTER).await?;
        eventually("the rollout's page is there", SOON, async || {
            let path = self.browser.ask("return location.pathname;").await?;
            ensure!(path == json!("/rollouts/shop-prod/checkout"), "{path}");
            Ok(())
        })
        .await?;
        self.is_live().await?;
        self.goes_everywhere().await?;
        self.keeps_its_place(board).await?;
        self.commands().await
    }

    /// Each place on the page is come to, in its order, seen where it is, and left again.
    async fn goes_everywhere(&self) -> anyhow::Result<()> {
        let places: Vec<i64> = serde_json::from_value(self.browser.ask(PLACES).await?)?;
        let mut met = vec![];
        for _ in 0..MANY {
            self.browser.press(TAB).await?;
            let Some(at) = self.focus().await? else { break };
            ensure!(at.outlined && at.inside, "who is here does not see it: {at:?}");
            met.push(at.nth);
        }
        ensure!(places.len() > 10 && met == places, "of {places:?} it comes to {met:?}");
        Ok(())
    }

    /// The page goes on meanwhile, and takes the focus from nobody.
    async fn keeps_its_place(&self, board: &Board) -> anyhow::Result<()> {
        let pods = self.walk("by pod").await?;
        self.browser.press(ENTER).await?;
        let key = Key {
            namespace: "shop-prod".to_owned(),
            name: "checkout".to_owned(),
        };
        let (rollout, _) = board.one(&key).context("it is gone")?;
        let mut rollout = CanaryRollout::clone(&rollout);
        let status = rollout.status.as_mut().context("it has no status")?;
        let evidence = status.evidence.first_mut().context("it has no evidence")?;
        "something was counted".clone_into(&mut evidence.sentence);
        board.put(rollout, clock::now());
        eventually("the page has gone on", SOON, async || {
            let text = self
                .browser
                .ask("return document.getElementById('evidence').textContent;")
                .await?;
            ensure!(
                text.as_str().is_some_and(|text| text.contains("something was counted")),
                "{text}"
            );
            Ok(())
        })
        .await?;
        let now = self.focus().await?;
        ensure!(now.as_ref() == Some(&pods), "from {pods:?} the focus went to {now:?}");
        let open = self
            .browser
            .ask("return document.activeElement.parentElement.open;")
            .await?;
        ensure!(open == json!(true), "what was open is closed");
        Ok(())
    }

    /// Whoever has no token that counts is told so where the screen reader hears it.
    async fn commands(&self) -> anyhow::Result<()> {
        self.walk("Give commands here").await?;
        self.browser.press(ENTER).await?;
        let token = self.tab().await?;
        ensure!(token.id == "token", "{token:?}");
        self.browser.press('x').await?;
        self.browser.press(ENTER).await?;
        let script = "const answer = document.getElementById('answer'); return [answer.getAttribute('role'), answer.textContent];";
        eventually("it is refused", SOON, async || {
            let answer = self.browser.ask(script).await?;
            let text = answer.get(1).and_then(Value::as_str).unwrap_or_default();
            ensure!(answer.get(0) == Some(&json!("status")), "{answer}");
            ensure!(!text.is_empty() && !text.starts_with("Asking"), "{answer}");
            Ok(())
        })
        .await
    }

    /// On by the Tab key until the focus is on this.
    async fn walk(&self, to: &str) -> anyhow::Result<Focus> {
        for _ in 0..MANY {
            self.browser.press(TAB).await?;
            if let Some(at) = self.focus().await?.filter(|at| at.text == to) {
                return Ok(at);
            }
        }
        anyhow::bail!("the Tab key never comes to {to:?}")
    }

    async fn tab(&self) -> anyhow::Result<Focus> {
        self.browser.press(TAB).await?;
        self.focus().await?.context("the focus is nowhere")
    }

    async fn focus(&self) -> anyhow::Result<Option<Focus>> {
        Ok(serde_json::from_value(self.browser.ask(FOCUS).await?)?)
    }

    /// For people who want to see it.
    async fn picture(&self, page: &str, how: &str) -> anyhow::Result<()> {
        let name = page
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("list");
        let name: String = name.chars().take(20).collect();
        let file = project_root().join("target/page").join(format!("{name}-{how}.png"));
        self.browser.picture(&file).await
    }
}
