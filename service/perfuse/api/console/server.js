// The server at a glance: its metrics, read every two seconds, as numbers of now and lines of the last minutes.
import { get, getText } from "./http.js";
import { draw, facts, figure, find, make, percent, rows, whole } from "./elements.js";

const KEPT = 150;
const RECENT_SECONDS = 60;

/** The Prometheus text format as {name, labels, value}. */
export function parse(text) {
  return text.split("\n").map((each) => /^([a-z_]\w*)(?:\{(.*)\})? (\S+)/.exec(each)).filter(Boolean).map(([, name, labels, value]) => ({
    name, value: Number(value.replace("Inf", "Infinity")),
    labels: Object.fromEntries([...(labels ?? "").matchAll(/(\w+)="([^"]*)"/g)].map(([, key, word]) => [key, word])),
  }));
}

const fits = (labels, wanted) => Object.entries(wanted).every(([key, word]) => labels[key] === word);
const series = (scrape, name, wanted = {}) => scrape.samples.filter((each) => each.name === name && fits(each.labels, wanted));
/** The sum of a metric over the labels that are not asked for; NaN where it is not there. */
const value = (scrape, name, wanted) => {
  const found = series(scrape, name, wanted);
  return found.length ? found.reduce((total, each) => total + each.value, 0) : NaN;
};
const grown = (from, to, name, wanted) => (value(to, name, wanted) || 0) - (value(from, name, wanted) || 0);
const rate = (from, to, name, wanted) => grown(from, to, name, wanted) / (to.time - from.time);

/** A quantile of what a histogram has seen between two scrapes, interpolated within its bucket; NaN without any. */
function quantile(from, to, name, wanted, q) {
  const bounds = series(to, `${name}_bucket`, wanted).map((each) => each.labels.le);
  const counts = bounds.map((le) => grown(from, to, `${name}_bucket`, { ...wanted, le }));
  const target = q * (counts.at(-1) ?? 0);
  const i = counts.findIndex((count) => count >= target && count > 0);
  if (i < 0) return NaN;
  const [low, high] = [i ? Number(bounds[i - 1]) : 0, Number(bounds[i])];
  const below = i ? counts[i - 1] : 0;
  return Number.isFinite(high) ? low + (high - low) * (target - below) / (counts[i] - below) : low;
}

const TILES = [
  ["Requests", "per second", (a, b) => ["diffuse", "plan"].reduce((sum, kind) => sum + rate(a, b, "perfuse_requests_total", { kind }), 0),
    (now) => `${whole(value(now, "perfuse_requests_running") - 1)} running`],
  ["Backlog", "seconds of work", (a, b) => value(b, "perfuse_engine_backlog_seconds"),
    (now) => `${whole(value(now, "perfuse_engine_in_flight"))} in flight, ${whole(value(now, "perfuse_engine_held"))} held`],
  ["Batch", "rows per step", (a, b) => grown(a, b, "perfuse_engine_rows_total") / grown(a, b, "perfuse_engine_batches_total"),
    (now) => `${whole(value(now, "perfuse_engine_rows_total"))} rows in ${whole(value(now, "perfuse_engine_batches_total"))} steps`],
  ["Engines busy", "share of time", (a, b) => rate(a, b, "perfuse_engine_compute_seconds_total") / value(b, "perfuse_engines_ready"),
    (now) => `${whole(value(now, "perfuse_engines_ready"))} ready, ${whole(value(now, "perfuse_engine_deaths_total"))} died`, percent],
  ["Refused for load", "per second", (a, b) => rate(a, b, "perfuse_shed_total"),
    (now) => `${whole(value(now, "perfuse_shed_total") || 0)} refused, ${whole(value(now, "perfuse_client_gone_total") || 0)} gone, ${whole(value(now, "perfuse_engine_failed_total"))} failed`],
  ["Inbox", "items of feedback", (a, b) => value(b, "perfuse_inbox_items", { state: "waiting" }),
    (now) => `${whole(value(now, "perfuse_ledger_records_total", { outcome: "written" }))} generations recorded, ${whole(value(now, "perfuse_ledger_records_total", { outcome: "lost" }))} lost`],
];

/** A line of the last minutes; gaps where there is no number. */
function spark(values) {
  const [width, height] = [KEPT - 1, 32];
  const most = Math.max(...values.filter(Number.isFinite), 1e-9);
  const at = (i) => width - (values.length - 1 - i);
  let pen = "M";
  const path = values.map((each, i) => {
    if (!Number.isFinite(each)) { pen = "M"; return ""; }
    const step = `${pen}${at(i)} ${(height - 1 - (height - 3) * each / most).toFixed(1)}`;
    pen = "L";
    return step;
  }).join("");
  return draw("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", class: "spark", "aria-hidden": "true" }, draw("path", { d: path }));
}

export function serverView(view) {
  const scrapes = [];
  const tiles = TILES.map(([name, unit]) => make("div", { className: "panel tile" }, make("h2", {}, name),
    make("p", { className: "big" }, "–"), make("span", { className: "soft" }, unit), make("div"), make("small")));
  find("#tiles").append(...tiles);

  async function read() {
    const scrape = { time: performance.now() / 1000, samples: parse(await getText("metrics")) };
    scrapes.push(scrape);
    if (scrapes.length > KEPT) scrapes.shift();
    return scrape;
  }

  function show() {
    const now = scrapes.at(-1);
    const recent = scrapes.find((each) => now.time - each.time <= RECENT_SECONDS);
    TILES.forEach(([, , measure, note, format = figure], i) => {
      const values = scrapes.slice(1).map((each, k) => measure(scrapes[k], each));
      const [, big, , line, small] = tiles[i].children;
      big.textContent = format(values.findLast(Number.isFinite));
      line.replaceChildren(spark(values));
      small.textContent = note(now);
    });
    const kinds = [...new Set(series(now, "perfuse_requests_total").map((each) => each.labels.kind))]
      .filter((kind) => grown(recent, now, "perfuse_requests_total", { kind }) > 0 && kind !== "health" && kind !== "docs");
    rows(find("#kinds"), kinds.map((kind) => {
      const mean = (name) => 1000 * grown(recent, now, `${name}_sum`, { kind }) / grown(recent, now, `${name}_count`, { kind });
      const share = (q) => 1000 * quantile(recent, now, "perfuse_request_seconds", { kind }, q);
      return { cells: [kind, figure(rate(recent, now, "perfuse_requests_total", { kind })), figure(mean("perfuse_queue_seconds")),
        figure(mean("perfuse_compute_seconds")), figure(share(0.5)), figure(share(0.95))] };
    }));
    find("#kinds").parentElement.nextElementSibling.hidden = kinds.length > 0;
  }

  async function load() {
    await read();
    show();
    const [ready, version] = await Promise.all([get("readyz"), get("version")]);
    facts(find("#server-facts"), [["Status", ready.status], ["Version", version.version], ["Ledger", ready.ledger], ["Inbox", ready.inbox]]);
    const { models } = await get("models");
    rows(find("#models"), models.map((model) => ({ cells: [model.name, model.modality, whole(model.parameters), model.dtype, whole(model.limit)] })));
  }

  return { load, problem: find(".problem", view), backlog: async () => value(await read(), "perfuse_engine_backlog_seconds") };
}
