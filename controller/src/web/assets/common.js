// What both pages need: elements made of text, live events, times. What comes from the cluster becomes text nodes and attribute
// values only; no markup is ever parsed.

const SVG = "http://www.w3.org/2000/svg";

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== undefined && value !== null && value !== false) element.setAttribute(name, String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

export const el = (name, attributes, ...children) => made(document.createElement(name), attributes, children);
export const svg = (name, attributes, ...children) => made(document.createElementNS(SVG, name), attributes, children);
export const byId = (id) => document.getElementById(id);

/// Fills an element anew only if what it shows has changed: focus, selection and scrolling stay. What had the focus in it has it again,
/// and what was open is open again: whoever reads by keyboard is not thrown out by each tick.
const shown = new Map();
export function show(id, value, build) {
  const text = JSON.stringify(value ?? null);
  if (shown.get(id) === text) return;
  shown.set(id, text);
  const place = byId(id);
  const find = (what) => [...place.querySelectorAll(what)];
  const focused = place.contains(document.activeElement) ? known(document.activeElement) : null;
  const open = new Set(find("details[open] > summary").map(known));
  place.replaceChildren(...[build(value)].flat());
  for (const one of find("details > summary")) one.parentElement.open = open.has(known(one));
  if (focused) find("a, button, summary").find((one) => known(one) === focused)?.focus({ preventScroll: true });
}

/// What an element is to a reader: its words, and those of what it is a part of.
const known = (one) => [one.tagName, one.textContent, one.closest("article, tr, li")?.querySelector("h3, th, code")?.textContent].join("\n");

const SIGNS = { rest: "○", works: "▶", waits: "❚❚", back: "↩", failed: "✕", good: "✓" };

/// A phase: a sign, a word and a colour.
export function badge(tone, phase) {
  const known = Object.hasOwn(SIGNS, tone) ? tone : "rest";
  const words = phase.replace(/([a-z])([A-Z])/g, "$1 $2");
  return el("span", { class: `badge ${known}` }, el("span", { "aria-hidden": "true" }, SIGNS[known]), ` ${words}`);
}

let behind = 0; // this computer's clock against the server's, in ms

export function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

export function time(at) {
  return at ? el("time", { datetime: at, title: at }, clock(at)) : "–";
}

/// The seconds from now until then.
export const until = (at) => Math.round((Date.parse(at) - (Date.now() - behind)) / 1000);

export function span(seconds) {
  const whole = Math.abs(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/// Live events of this address; what each says goes to `update`.
export function follow(address, update) {
  const line = byId("line");
  const say = (words, is) => {
    line.textContent = words;
    line.className = `line ${is}`;
  };
  const source = new EventSource(address);
  source.onmessage = (event) => {
    const said = JSON.parse(event.data);
    if (said.at) behind = Date.now() - Date.parse(said.at);
    say("● live", "live");
    if (said.replica) replica(said.replica, said.shard);
    update(said);
  };
  source.onerror = () => {
    say("○ the line is broken; what you see may be old. Trying again …", "broken");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(address, update), 5000);
  };
}

function replica({ identity, leads, leader, shards }, shard) {
  let words = leads
    ? `from ${identity}, which leads`
    : `from ${identity}, which follows; ${leader ? `${leader} leads` : "nobody leads"}. Counts may be a minute old here`;
  if (shards) {
    const own = shards.filter(({ holder }) => holder === identity).map((one) => one.shard);
    words = `from ${identity}, which has ${own.length ? `shards ${own.join(", ")}` : "none"} of ${shards.length}`;
    if (shard) words += `; this rollout is in shard ${shard.shard}, which ${shard.holder ?? "nobody"} has`;
    if ((shard ?? shards.find(({ holder }) => holder !== identity) ?? { holder: identity }).holder !== identity) {
      words += ". Counts of rollouts of others may be a minute old here";
    }
  }
  if (byId("replica").textContent !== words) byId("replica").textContent = words;
}

/// The address of a rollout's page.
export const address = (namespace, name) => `${encodeURIComponent(namespace)}/${encodeURIComponent(name)}`;

export const percent = (value) => `${value} %`;
