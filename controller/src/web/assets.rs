//! The page's own files, as they were written: no build step, nothing from outside, nothing of the cluster in them.

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;

use super::Page;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// Path, type, text.
pub(super) const ASSETS: [(&str, &str, &str); 9] = [
    ("/", HTML, include_str!("assets/list.html")),
    (
        "/rollouts/{namespace}/{name}",
        HTML,
        include_str!("assets/rollout.html"),
    ),
    ("/assets/page.css", STYLE, include_str!("assets/page.css")),
    ("/assets/common.js", SCRIPT, include_str!("assets/common.js")),
    ("/assets/charts.js", SCRIPT, include_str!("assets/charts.js")),
    ("/assets/list.js", SCRIPT, include_str!("assets/list.js")),
    ("/assets/overtime.js", SCRIPT, include_str!("assets/overtime.js")),
    ("/assets/rollout.js", SCRIPT, include_str!("assets/rollout.js")),
    ("/assets/icon.svg", IMAGE, include_str!("assets/icon.svg")),
];

pub(super) fn router() -> Router<Page> {
    ASSETS.into_iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || async move { ([(CONTENT_TYPE, kind)], text) }))
    })
}
