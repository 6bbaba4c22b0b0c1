//! A headless Chromium, driven over WebDriver. It must not know the pages that it shows.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    net::Net,
    process::{Child, Output, Program},
    project_root,
    wait::eventually,
};

/// Its start, on a machine that does much else.
const START: Duration = Duration::from_secs(60);
/// Installing it, where that has not been done.
const SETUP: Duration = Duration::from_mins(10);

/// A browser with one window.
///
/// Five requests of W3C's WebDriver and Chromium's own one for all else are all that is needed of it: a client for the whole would bring
/// twenty crates, many of them in a second version.
#[derive(Debug)]
pub struct Browser {
    session: String,
    http: reqwest::Client,
    driver: Child,
    /// Its profile, gone with it.
    _home: TempDir,
}

impl Browser {
    /// Starts one, installed by the lab's own script.
    pub async fn start(net: &Net) -> anyhow::Result<Self> {
        let setup = Program::new(project_root().join("tests/lab/setup/browser.sh"));
        let printed = setup.output(SETUP).await.and_then(Output::text)?;
        let mut programs = printed.lines();
        let mut program = || {
            programs
                .next()
                .context("tests/lab/setup/browser.sh printed too few paths")
        };
        let (chromium, chromedriver) = (program()?, program()?);
        let home = tempfile::tempdir().context("making a folder for the browser")?;
        let port = net.free_port()?;
        let driver = Program::new(chromedriver)
            .arg(format!("--port={port}"))
            .env("HOME", home.path())
            .log(home.path().join("chromedriver.log"))
            .spawn()
            .await?;
        let (http, url) = (reqwest::Client::new(), format!("http://127.0.0.1:{port}"));
        eventually("the browser's driver listens", START, || async {
            let status = http.get(format!("{url}/status")).send().await;
            status
                .map(drop)
                .with_context(|| format!("asking {}", driver.log_path()))
        })
        .await?;
        let options = json!({
            "binary": chromium,
            // Its sandbox needs more of the kernel than containers give it; the pages are our own.
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1000,1600",
                format!("--user-data-dir={}", home.path().join("profile").display())],
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": options } } });
        let opened = post(&http, &format!("{url}/session"), &wanted)
            .await
            .context("opening a browser's window")?;
        let id = opened
            .get("sessionId")
            .and_then(Value::as_str)
            .context("the browser's window has no id")?;
        Ok(Self {
            session: format!("{url}/session/{id}"),
            http,
            driver,
            _home: home,
        })
    }

    /// Shows a page.
    pub async fn open(&self, url: &str) -> anyhow::Result<()> {
        let opened = post(&self.http, &format!("{}/url", self.session), &json!({ "url": url })).await;
        opened.map(drop).with_context(|| format!("opening {url}"))
    }

    /// What a script returns that runs in the page.
    pub async fn ask(&self, script: &str) -> anyhow::Result<Value> {
        let script = json!({ "script": script, "args": [] });
        let answer = post(&self.http, &format!("{}/execute/sync", self.session), &script).await;
        answer.context("running a script in the page")
    }

    /// Presses a key and lets go of it, as a person at the keyboard does.
    pub async fn press(&self, key: char) -> anyhow::Result<()> {
        let strokes = ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key }));
        let body = json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] });
        let pressed = post(&self.http, &format!("{}/actions", self.session), &body).await;
        pressed.map(drop).with_context(|| format!("pressing {key:?}"))
    }

    /// Says whether the reader's system is dark.
    pub async fn darken(&self, dark: bool) -> anyhow::Result<()> {
        let scheme = json!({ "name": "prefers-color-scheme", "value": if dark { "dark" } else { "light" } });
        let params = json!({ "features": [scheme] });
        self.command("Emulation.setEmulatedMedia", &params).await.map(drop)
    }

    /// Gives the window the width of a screen, in CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.command("Emulation.setDeviceMetricsOverride", &params)
            .await
            .map(drop)
    }

    /// What a screen reader is told of the page, in its order: nodes as Chromium gives them, without those that it leaves out.
    pub async fn told(&self) -> anyhow::Result<Vec<Value>> {
        self.command("Accessibility.enable", &json!({})).await?;
        let mut tree = self.command("Accessibility.getFullAXTree", &json!({})).await?;
        let nodes = tree.get_mut("nodes").map(Value::take);
        let Some(Value::Array(mut nodes)) = nodes else {
            bail!("the browser told nothing of what it tells a screen reader");
        };
        nodes.retain(|node| node.get("ignored") != Some(&json!(true)));
        Ok(nodes)
    }

    async fn command(&self, command: &str, params: &Value) -> anyhow::Result<Value> {
        let body = json!({ "cmd": command, "params": params });
        let done = post(&self.http, &format!("{}/goog/cdp/execute", self.session), &body).await;
        done.with_context(|| format!("giving the browser the command {command}"))
    }

    /// Keeps a picture of the whole page, as far down as it goes.
    pub async fn picture(&self, file: &Path) -> anyhow::Result<()> {
        let whole =
            "return { x: 0, y: 0, width: window.innerWidth, height: document.documentElement.scrollHeight, scale: 1 };";
        let clip = self.ask(whole).await?;
        let params = json!({ "captureBeyondViewport": true, "clip": clip });
        let taken = self.command("Page.captureScreenshot", &params).await?;
        let picture = taken
            .get("data")
            .and_then(Value::as_str)
            .context("a picture is no text")?;
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        let picture = STANDARD.decode(picture)?;
        std::fs::write(file, picture).with_context(|| format!("writing {}", file.display()))
    }

    /// Ends it, with all of its processes.
    pub async fn close(self) -> anyhow::Result<()> {
        answer(self.http.delete(&self.session))
            .await
            .context("closing the browser")?;
        self.driver.stop(Duration::from_secs(5)).await;
        Ok(())
    }
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> anyhow::Result<Value> {
    answer(http.post(url).json(body)).await
}

/// The value that the driver answers with, or its own words on what went wrong.
async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await.context("asking the browser's driver")?;
    let status = response.status();
    let mut said: Value = response
        .json()
        .await
        .context("reading what the browser's driver says")?;
    let value = said.get_mut("value").map(Value::take).unwrap_or_default();
    if !status.is_success() {
        bail!("the browser's driver says {status}: {value}");
    }
    Ok(value)
}
