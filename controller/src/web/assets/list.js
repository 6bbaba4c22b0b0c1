// The list of all rollouts: trouble first, then what is under way.
import { address, badge, byId, el, follow } from "./common.js";

const RANK = { back: 1, waits: 2, works: 3, failed: 4, good: 5, rest: 6 };
let last = null;

const rank = (row) => (row.trouble.length ? 0 : RANK[row.tone] ?? 9);

function weight(row) {
  if (!row.weight) return "–";
  const { wanted, observed } = row.weight;
  return wanted === observed ? `${observed} %` : `${observed} → ${wanted} %`;
}

function line(row) {
  const cell = (label, ...children) => el("td", { "data-label": label }, ...children);
  return el(
    "tr",
    {},
    el(
      "th",
      { scope: "row", "data-label": "Rollout" },
      el("a", { href: `/rollouts/${address(row.namespace, row.name)}` }, row.name),
      el("span", { class: "quiet block" }, row.namespace),
    ),
    cell("Phase", badge(row.tone, row.phase)),
    cell("Step", row.step ?? "–"),
    cell("Weight", weight(row)),
    cell("Revision", row.revision ?? "–"),
    cell("What happens", row.trouble.map((one) => [el("span", { class: "flag" }, one), " "]).flat(), row.message),
  );
}

function draw() {
  if (!last) return;
  const words = byId("words").value.toLowerCase().split(/\s+/).filter(Boolean);
  const busy = byId("busy").checked;
  const all = last.rollouts;
  const matches = (row) => {
    const text = [row.namespace, row.name, row.revision, row.phase].join(" ").toLowerCase();
    return words.every((word) => text.includes(word)) && (!busy || rank(row) < 4);
  };
  const rows = all.filter(matches).sort((a, b) => rank(a) - rank(b));
  const focused = document.activeElement?.getAttribute("href");
  const body = byId("rollouts").tBodies[0];
  body.replaceChildren(...rows.map(line));
  byId("rollouts").hidden = rows.length === 0;
  if (focused) [...body.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
  const trouble = all.filter((row) => row.trouble.length).length;
  const busyOnes = all.filter((row) => ["works", "waits", "back"].includes(row.tone)).length;
  const summary = last.filled
    ? `${rows.length} of ${all.length} shown; ${busyOnes} under way, ${trouble} in trouble`
    : "The rollouts are being read …";
  if (byId("summary").textContent !== summary) byId("summary").textContent = summary;
}

byId("filters").addEventListener("input", draw);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
follow("/api/events", (said) => {
  last = said;
  draw();
});
