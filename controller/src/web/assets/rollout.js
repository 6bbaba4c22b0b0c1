// One rollout, live.
import { address, badge, byId, clock, el, follow, percent, show, span, time, until } from "./common.js";
import { charts } from "./overtime.js";

const [, , namespace, name] = location.pathname.split("/").map(decodeURIComponent);
const api = `/api/rollouts/${address(namespace, name)}`;
let next = null;

document.title = `${name} · Serin`;
byId("name").textContent = name;
byId("namespace").textContent = namespace;

const short = (commit) => (commit ? commit.slice(0, 10) : "");
const commit = (id, link) => (link ? el("a", { href: link, rel: "noreferrer" }, short(id)) : el("code", {}, short(id)));
const pair = (term, ...what) => [el("dt", {}, term), el("dd", {}, ...what)];

function update(said) {
  if (said.gone) {
    byId("message").textContent = "There is no such rollout (any more).";
    byId("phase").replaceChildren();
    return;
  }
  const it = said.rollout;
  next = it.next;
  document.title = `${it.phase}: ${it.name} · Serin`;
  show("phase", [it.tone, it.phase, it.verdict], () => [
    badge(it.tone, it.phase),
    it.verdict ? el("span", { class: `verdict ${it.verdict}` }, `verdict: ${it.verdict}`) : "",
  ]);
  show("message", it.message, (message) => message);
  const trouble = it.conditions.filter((one) => one.trouble);
  show("trouble", trouble, (all) => all.map((one) => el("li", {}, el("strong", {}, `${one.kind}: `), one.message || one.reason)));
  show("weight", [it.weight, it.share], weights);
  show("revision", [it.revision, it.stable], revision);
  const around = said.around ?? {};
  show("arms", [it.arms, around.stable, around.canary], ([all]) => all.map((one) => arm(one, around[one.name])));
  show("scaler", around.autoscaler, (scaler) => (scaler ? `Stable's autoscaler: ${scaler.present} pods of ${scaler.least} to ${scaler.most}.` : ""));
  const happened = said.happened ?? [];
  byId("told-section").hidden = !happened.length;
  show("told", happened, (all) => [...all].reverse().map(told));
  byId("told-note").hidden = !happened.some((one) => one.remembered);
  show("arms-note", it.arms, armsNote);
  show("plan", it.plan, plan);
  show("forecast", it.forecast, (forecast) => (forecast ? `Forecast: ${forecast}` : ""));
  byId("hooks-section").hidden = !it.hooks.length;
  show("hooks", it.hooks, (all) => all.map(hook));
  pipeline(it.pipeline);
  show("evidence", it.evidence, evidence);
  show("charts", [it.marks, it.samples, it.latencies], charts);
  show("commands", it.commands, commands);
  show("last-command", it.lastCommand, lastCommand);
  answered(it.lastCommand);
  history(it.history);
  conditions(it.conditions);
  tick();
}

function tick() {
  const seconds = next ? until(next) : 0;
  const words = next && seconds > 0 ? `Looks again in ${span(seconds)} at the latest, and at once when something changes.` : "";
  if (byId("next").textContent !== words) byId("next").textContent = words;
}
setInterval(tick, 1000);

function weights([weight, share]) {
  const figure = (term, what, more) =>
    el("div", {}, el("dt", {}, term), el("dd", {}, what, more ? el("span", { class: "quiet block" }, more) : null));
  if (!weight) return figure("wanted", "–");
  const arrives = share
    ? figure("arrives", share.percent === null ? "no calls" : `${share.percent.toFixed(1)} %`, `${share.canary} of ${share.all} calls, up to ${clock(share.at)}`)
    : figure("arrives", "–", "not sampled now");
  return [figure("wanted", percent(weight.wanted)), figure("on the route", percent(weight.observed)), arrives];
}

function revision([revision, stable]) {
  if (!revision) return pair("canary", "none");
  return [
    ...pair("canary", el("strong", {}, revision.name)),
    ...(revision.commit ? pair("commit", commit(revision.commit, revision.link), " ", revision.subject ?? "") : []),
    ...(revision.author ? pair("author", revision.author) : []),
    ...pair("stable", stable ?? "–"),
  ];
}

function told(one) {
  return el(
    "li",
    { class: one.warns ? "warns" : "" },
    time(one.at),
    " ",
    el("strong", {}, one.warns ? `! ${one.reason}` : one.reason),
    " ",
    one.message,
    one.remembered ? el("span", { class: "quiet" }, " (from status)") : null,
  );
}

function arm({ name, revision, calls, latency }, deployed) {
  const rate = !calls ? "no data" : calls.perSecond === null ? `${calls.requests} calls` : calls.perSecond.toFixed(1);
  const succeeded = typeof calls?.succeeded === "number" ? `${calls.succeeded.toFixed(2)} %` : "no data";
  const ms = (value) => el("td", {}, typeof value === "number" ? `≈ ${value} ms` : "no data");
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, name),
    el("td", {}, revision ?? "–"),
    el("td", {}, deployed?.image.split("/").at(-1) || "–"),
    el("td", {}, deployed ? `${deployed.ready} of ${deployed.wanted}` : "–"),
    el("td", {}, rate),
    el("td", {}, succeeded),
    ms(latency?.p50Ms),
    ms(latency?.p95Ms),
    ms(latency?.p99Ms),
  );
}

function armsNote(all) {
  const at = all.find((one) => one.calls)?.calls.at;
  return at ? `In the tick up to ${clock(at)}. Percentiles are of the last minute's calls, estimated within the bounds of Linkerd's histogram.` : "";
}

const PLACES = { done: "✓ done", now: "▶ now", ahead: "ahead" };

function plan(steps) {
  if (!steps.length) return el("li", {}, "The spec makes no sense; the conditions below say why.");
  return steps.map((step) =>
    el(
      "li",
      { class: step.place, "aria-current": step.place === "now" ? "step" : null },
      el("span", { class: "share" }, percent(step.weight)),
      el("span", { class: "place" }, PLACES[step.place] ?? ""),
      el("span", { class: "quiet block" }, `${step.hold} at least, ${step.atMost} at most; unproven it ${step.unproven}`),
      step.approval ? el("span", { class: "flag" }, "asks for approval") : null,
      step.forecast ? el("span", { class: "quiet block" }, step.forecast) : null,
    ),
  );
}

const HOOKS = { waits: "▶", passed: "✓", failed: "✕", over: "–" };

function hook(one) {
  const sign = Object.hasOwn(HOOKS, one.stand) ? HOOKS[one.stand] : "–";
  return el(
    "tr",
    { class: one.stand === "failed" ? "troubled" : "" },
    el("th", { scope: "row" }, one.name),
    el("td", {}, one.at),
    el("td", {}, el("span", { "aria-hidden": "true" }, sign), ` ${one.word}`),
    el("td", {}, time(one.since)),
    el("td", {}, one.until ? time(one.until) : "–"),
    el("td", {}, one.otherwise ?? "–"),
    el("td", {}, one.answer || "–"),
  );
}

function pipeline(pipeline) {
  byId("pipeline-section").hidden = !pipeline;
  if (!pipeline) return;
  byId("pipeline-title").textContent = `${pipeline.kind} of ${pipeline.revision}`;
  show("pipeline", pipeline, ({ stages, commit: id, link }) =>
    stages.map((stage) =>
      el(
        "li",
        { class: stage.state },
        el("span", { class: "place" }, PLACES[stage.state] ?? ""),
        el("strong", { class: "block" }, stage.name),
        stage.at ? time(stage.at) : el("span", { class: "quiet" }, stage.state === "done" ? (stage.skipped ? "not needed" : "not seen") : "–"),
        stage.name === "committed" && id ? el("span", { class: "block" }, commit(id, link)) : null,
      ),
    ),
  );
  show("pipeline-why", pipeline.reason, (reason) => (reason ? `Why: ${reason}` : ""));
}

const STANDS = {
  noData: "no data",
  counting: "counting",
  leaning: "leans towards a failure",
  failed: "failed",
  passed: "passed this step",
};

function evidence(all) {
  if (!all.length) return el("p", { class: "nodata" }, "Nothing is judged now.");
  return all.map((one) => {
    const stand = Object.hasOwn(STANDS, one.stand) ? one.stand : "noData";
    const otherArm = one.arm === "stable" ? "canary" : "stable";
    return el(
      "article",
      { class: `metric ${stand}` },
      el("h3", {}, one.metric, one.dryRun ? el("span", { class: "flag" }, "dry run") : null),
      el("p", { class: "stand" }, STANDS[stand]),
      el("p", { class: "sentence" }, one.sentence),
      stand === "noData" ? el("p", { class: "nodata" }, "nothing was counted yet: neither good nor bad") : [bar(one.metric, "towards fail", one.towardsFail, "fail"), bar(one.metric, "towards pass", one.towardsPass, "pass")],
      el("dl", { class: "pairs small" }, counts(one.arm, one.own), one.other.total ? counts(otherArm, one.other) : null),
      one.pods.length
        ? el("details", {}, el("summary", {}, "by pod"), el("ul", {}, one.pods.map((pod) => el("li", {}, `${pod.pod}: ${pod.bad} of ${pod.total}`))))
        : null,
    );
  });
}

function counts(arm, count) {
  if (!count.total) return pair(arm, el("span", { class: "nodata" }, "no data"));
  const range = count.range ? el("span", { class: "quiet block" }, `lies in ${count.range}`) : null;
  return pair(arm, `${count.bad} of ${count.total} (${count.rate})`, range);
}

function bar(metric, label, value, kind) {
  const inner = el("span", { class: "fill" });
  inner.style.inlineSize = `${value}%`;
  return el(
    "div",
    { class: `bar ${kind}` },
    el("span", { class: "label" }, label),
    el("span", { class: "track", role: "meter", "aria-label": `${metric}, ${label}`, "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": value }, inner),
    el("span", { class: "value" }, percent(value)),
  );
}

function commands(all) {
  if (!all.length) return el("li", {}, "None makes sense in this phase.");
  return all.map((one) => {
    const button = el("button", { type: "button", "aria-label": `Copy: ${one.text}` }, "Copy");
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(one.text);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Copy by hand";
      }
      setTimeout(() => (button.textContent = "Copy"), 2000);
    });
    return el("li", {}, el("code", {}, one.text), button, el("span", { class: "quiet block" }, one.does));
  });
}

function lastCommand(command) {
  if (!command) return "";
  const who = command.by ? ` by ${command.by}` : "";
  const why = command.reason ? ` (${command.reason})` : "";
  return `Last command: ${command.verb}${who}${why}: ${command.accepted ? "done" : "refused"}. ${command.message}`;
}

function history(entries) {
  show("history", entries, (all) => [
    byId("history").tHead,
    el("tbody", {}, all.length ? all.map(past) : el("tr", {}, el("td", { colspan: 7 }, "none yet"))),
  ]);
}

function past(one) {
  const sign = { Promoted: "good", RolledBack: "failed" }[one.outcome] ?? "rest";
  const commits = [[one.canaryCommit, one.canaryLink], [one.commit, one.link]].filter(([id]) => id);
  const way = commits.flatMap(([id, link], nth) => [nth ? " → " : null, commit(id, link)]);
  return el(
    "tr",
    {},
    el("th", { scope: "row" }, one.revision),
    el("td", {}, badge(sign, one.outcome)),
    el("td", {}, time(one.ended)),
    el("td", {}, one.duration),
    el("td", {}, String(one.requests)),
    el("td", {}, way.length ? way : "–"),
    el("td", {}, one.reason, behind(one)),
  );
}

const STAGES = { trafficAt: "traffic away", committedAt: "committed", pushedAt: "pushed", appliedAt: "applied", healthyAt: "healthy" };

/// The way of its commit, and what the metrics said at the end.
function behind(one) {
  const way = Object.entries(STAGES).filter(([key]) => one[key]);
  const said = one.evidence ?? [];
  if (!way.length && !said.length) return null;
  const stages = way.map(([key, words]) => el("li", {}, `${words} `, time(one[key])));
  return el("details", {}, el("summary", {}, "how"), el("ul", {}, stages, said.map((sentence) => el("li", {}, sentence))));
}

function conditions(conditions) {
  const row = (one) =>
    el(
      "tr",
      { class: one.trouble ? "troubled" : "" },
      el("th", { scope: "row" }, one.kind),
      el("td", {}, one.trouble ? `! ${one.status}` : one.status),
      el("td", {}, one.reason),
      el("td", {}, clock(one.since)),
      el("td", {}, one.message),
    );
  show("conditions", conditions, (all) => [
    byId("conditions").tHead,
    el("tbody", {}, [...all].sort((a, b) => Number(b.trouble) - Number(a.trouble)).map(row)),
  ]);
}

// Commands with a person's own token: it is kept in this variable only.
let token = null;
let waiting = null;

async function ask(options) {
  const headers = { authorization: `Bearer ${token}`, ...(options.body ? { "content-type": "application/json" } : {}) };
  const response = await fetch(`${api}/commands`, { credentials: "omit", cache: "no-store", ...options, headers });
  const said = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(said.error ?? `the server answered ${response.status}`);
  return said;
}

function answer(words) {
  byId("answer").textContent = words;
}

const VERBS = { promote: "Promote", "promote-full": "Promote fully", approve: "Approve", pause: "Pause", resume: "Resume", abort: "Abort", retry: "Retry" };

byId("token-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  byId("token").value = "";
  answer("Asking …");
  try {
    const { user } = await ask({ method: "GET" });
    byId("person").textContent = `You are ${user}.`;
    byId("buttons").replaceChildren(
      ...Object.entries(VERBS).map(([verb, words]) => {
        const button = el("button", { type: "button", class: verb === "abort" ? "danger" : "" }, words);
        button.addEventListener("click", () => give(verb, words));
        return button;
      }),
    );
    byId("token-form").hidden = true;
    byId("command-form").hidden = false;
    byId("reason").focus();
    answer("");
  } catch (error) {
    token = null;
    answer(error.message);
  }
});

async function give(verb, words) {
  if (["abort", "promote-full"].includes(verb) && !confirm(`${words} ${namespace}/${name}?`)) return;
  answer(`${words}: sending …`);
  try {
    waiting = await ask({ method: "POST", body: JSON.stringify({ verb, reason: byId("reason").value }) });
    answer(`${words}: given; waiting for the controller's answer …`);
  } catch (error) {
    waiting = null;
    answer(error.message);
  }
}

function answered(command) {
  if (!waiting || command?.id !== waiting.id) return;
  waiting = null;
  answer(`${command.accepted ? "Done" : "Refused"}: ${command.message}`);
}

byId("command-form").addEventListener("submit", (event) => event.preventDefault());
byId("forget").addEventListener("click", () => {
  token = null;
  waiting = null;
  byId("command-form").hidden = true;
  byId("token-form").hidden = false;
  byId("token").focus();
  answer("The token is forgotten.");
});

follow(`${api}/events`, update);
