// Line charts as inline SVG. Series differ by dashes and by their names in the legend, not by colour alone.
import { el, svg } from "./common.js";

const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [480, 180, 44, 10, 10, 24];

/// `series`: [{name, points: [[ms, value or null]], step}]. A null is a gap: nothing was counted there.
export function chart({ title, unit, series, top, line }) {
  const drawn = series.filter((one) => one.points.some(([, value]) => value !== null));
  const figure = (inside) => el("figure", { class: "chart" }, el("figcaption", {}, title), inside);
  const times = drawn.flatMap((one) => one.points.map(([at]) => at));
  if (!times.length) return figure(el("p", { class: "nodata" }, "no data yet"));
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const values = drawn.flatMap((one) => one.points.map(([, value]) => value)).filter((value) => value !== null);
  const most = top ?? (nice(Math.max(...values, line?.at ?? 0)) || 1);
  const x = (at) => LEFT + ((WIDTH - LEFT - RIGHT) * (at - from)) / Math.max(to - from, 1);
  const y = (value) => HEIGHT - BOTTOM - ((HEIGHT - TOP - BOTTOM) * Math.min(value, most)) / most;
  const grid = [0, 0.5, 1].map((part) => part * most).map((value) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(value), y2: y(value) }),
    svg("text", { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end" }, `${round(value)}${unit}`),
  ]);
  const ends = [
    svg("text", { x: LEFT, y: HEIGHT - 6 }, short(from)),
    svg("text", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, short(to)),
  ];
  const limit = line
    ? [
        svg("line", { class: "limit", x1: LEFT, x2: WIDTH - RIGHT, y1: y(line.at), y2: y(line.at) }),
        svg("text", { class: "limit-name", x: LEFT + 4, y: y(line.at) + (y(line.at) < TOP + 14 ? 12 : -4) }, line.name),
      ]
    : [];
  const lines = drawn.map((one, nth) => curve(one, nth % 6, x, y));
  const latest = drawn.map((one) => {
    const value = one.points.at(-1)[1];
    return `${one.name} ${value === null ? "no data" : `${round(value)}${unit}`}`;
  });
  const names = { role: "img", "aria-label": `${title}; at last: ${latest.join(", ")}` };
  const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, ...names }, grid.flat(), ends, limit, lines.flat());
  return figure([picture, legend(drawn, latest)]);
}

function curve(one, nth, x, y) {
  let path = "";
  let open = false;
  let before = null;
  const dots = [];
  for (const [at, value] of one.points) {
    if (value === null) {
      open = false;
      continue;
    }
    if (!open) path += `M${fix(x(at))} ${fix(y(value))}`;
    else if (one.step) path += `H${fix(x(at))}V${fix(y(value))}`;
    else path += `L${fix(x(at))} ${fix(y(value))}`;
    if (!open || one.dots) dots.push(svg("circle", { class: `s${nth}`, cx: fix(x(at)), cy: fix(y(value)), r: 2 }));
    open = true;
    before = at;
  }
  return before === null ? [] : [svg("path", { class: `curve s${nth}`, d: path }), ...dots];
}

function legend(drawn, latest) {
  const key = (nth) =>
    svg("svg", { viewBox: "0 0 24 8", width: 24, height: 8, "aria-hidden": "true" }, svg("path", { class: `curve s${nth % 6}`, d: "M0 4H24" }));
  return el("ul", { class: "legend" }, drawn.map((one, nth) => el("li", {}, key(nth), ` ${latest[nth]}`)));
}

const fix = (value) => Math.round(value * 10) / 10;
const round = (value) => (value >= 10 ? Math.round(value) : Math.round(value * 100) / 100);
const short = (at) => new Date(at).toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });

function nice(value) {
  if (!(value > 0)) return 0;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value);
}
