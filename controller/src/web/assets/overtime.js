// What is drawn over time of one rollout.
import { chart } from "./charts.js";

const PERCENTILES = [["p50Ms", "Latency, p50"], ["p95Ms", "Latency, p95"], ["p99Ms", "Latency, p99"]];

export function charts([marks, samples, latencies]) {
  const at = (mark) => Date.parse(mark.at);
  const series = (name, value, more) => ({ name, points: marks.map((mark) => [at(mark), value(mark)]), ...more });
  const metrics = [...new Set(marks.flatMap((mark) => mark.evidence.map((one) => one.metric)))];
  const of = (metric, key) => (mark) => mark.evidence.find((one) => one.metric === metric)?.[key] ?? null;
  const all = [
    chart({ title: "Weight", unit: " %", top: 100, series: [series("wanted", (mark) => mark.wanted, { step: true }), series("on the route", (mark) => mark.observed, { step: true })] }),
    chart({ title: "Evidence towards fail", unit: " %", top: 100, line: { at: 100, name: "rolls back" }, series: metrics.map((metric) => series(metric, of(metric, "fail"))) }),
    chart({ title: "Evidence towards pass", unit: " %", top: 100, line: { at: 100, name: "passes the step" }, series: metrics.map((metric) => series(metric, of(metric, "pass"))) }),
  ];
  const ticks = samples?.ticks ?? [];
  const rate = (title, bad) => {
    const arm = (which) => ({
      name: which,
      dots: true,
      points: ticks.map((tick) => [Date.parse(tick.end), tick[which].requests ? (100 * bad(tick[which])) / tick[which].requests : null]),
    });
    return chart({ title, unit: " %", series: [arm("canary"), arm("stable")] });
  };
  all.push(rate("Failed calls", (arm) => arm.failures));
  (samples?.boundsMs ?? []).forEach((bound, nth) => all.push(rate(`Calls slower than ${bound} ms`, (arm) => arm.slow?.[nth] ?? 0)));
  const latency = ([key, title]) => {
    const arm = (which) => ({ name: which, dots: true, points: latencies.map((read) => [Date.parse(read.asOf), read[which]?.[key] ?? null]) });
    return chart({ title, unit: " ms", series: [arm("canary"), arm("stable")] });
  };
  if (latencies.length) all.push(...PERCENTILES.map(latency));
  return all;
}
