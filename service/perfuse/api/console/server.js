// The server at a glance: its metrics, read every two seconds, as numbers of now and lines of the last minutes.
import { get, getText } from "./http.js";
import { draw, facts, figure, find, make, percent, table } from "./elements.js";

const [KEPT, RECENT_SECONDS] = [90, 60];
/** The Prometheus text format as {name, labels, value}. */
function parse(text) {
  const parts = (labels) => [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, name, word]) => [name, word]);
  return [...text.matchAll(/^perfuse_([a-z_]+)(?:\{(.*)\})? (\S+)$/gm)].map(([, name, labels = "", value]) =>
    ({ name, value: Number(value), labels: Object.fromEntries(parts(labels)) }));
}
const series = ({ samples }, name, wanted = {}) => samples.filter((each) =>
  each.name === name && Object.entries(wanted).every(([key, word]) => each.labels[key] === word));
/** The sum of a metric over the labels that are not asked for. */
const value = (scrape, name, wanted) => series(scrape, name, wanted).reduce((sum, each) => sum + each.value, 0);
const grown = (from, to, name, wanted) => value(to, name, wanted) - value(from, name, wanted);
const rate = (from, to, name, wanted) => grown(from, to, name, wanted) / (to.time - from.time);
/** Each tile: name, unit, number between two scrapes, note on the later one, format. */
const TILES = [
  ["Generations", "per second", (a, b) => rate(a, b, "queue_seconds_count"), (now) => `${now("queue_seconds_count")} in all`],
  ["Queue", "seconds of work", (a, b) => value(b, "engine_backlog_seconds"),
    (now) => `${now("engine_in_flight")} in flight, ${now("engine_held")} held back`],
  ["Batch", "rows per step", (a, b) => grown(a, b, "engine_rows_total") / grown(a, b, "engine_batches_total"),
    (now) => `${now("engine_rows_total")} rows in ${now("engine_batches_total")} steps`],
  ["Engines busy", "of the time", (a, b) => rate(a, b, "engine_compute_seconds_total") / value(b, "engines_ready"),
    (now) => `${now("engines_ready")} ready, ${now("engine_deaths_total")} died`, percent],
  ["Refused for load", "per second", (a, b) => rate(a, b, "shed_total"),
    (now) => `${now("shed_total")} in all; ${now("client_gone_total")} clients left`],
  ["Inbox", "items of feedback", (a, b) => value(b, "inbox_items", { state: "waiting" }),
    (now) => `${now("feedback_total")} taken; ${now("ledger_records_total", { outcome: "lost" })} records lost`],
];
const BOX = { viewBox: `0 0 ${KEPT} 32`, preserveAspectRatio: "none", "aria-hidden": "true" };
/** A line of the last minutes, with gaps where there is no number. */
function spark(values) {
  const most = Math.max(...values.filter(Number.isFinite), 1e-9);
  const pen = (i) => (Number.isFinite(values[i - 1]) ? "L" : "M");
  const at = (each, i) => `${pen(i)}${KEPT - values.length + i} ${30 - 28 * each / most}h.01`;
  return draw("svg", BOX, draw("path", { d: values.map((each, i) => (Number.isFinite(each) ? at(each, i) : "")).join("") }));
}
export function serverView(view) {
  const scrapes = [];
  const tiles = TILES.map(([name, unit]) => make("div", { className: "panel tile" }, make("h2", {}, name),
    make("p", {}, "–"), make("span", {}, unit), make("div"), make("small")));
  find("#tiles").append(...tiles);
  /** Reads the metrics; gives the seconds of work that wait. */
  async function read() {
    scrapes.push({ time: performance.now() / 1000, samples: parse(await getText("metrics")) });
    if (scrapes.length > KEPT) scrapes.shift();
    return value(scrapes.at(-1), "engine_backlog_seconds");
  }
  async function load() {
    const [ready, { version }, { models }] = await Promise.all([get("readyz"), get("version"), get("models")]);
    facts(find(".facts", view), [["Version", version], ["Ledger", ready.ledger], ["Inbox", ready.inbox]]);
    table(find("#models"), ["Name", "Modality", "#Parameters", "Type", "#Limit"], models.map((each) =>
      [each.name, each.modality, figure(each.parameters), each.dtype, figure(each.limit)]), "None is loaded.");
    if (!scrapes.length) return;
    const now = scrapes.at(-1);
    const before = scrapes.find((each) => now.time - each.time <= RECENT_SECONDS);
    TILES.forEach(([, , measure, note, format = figure], i) => {
      const values = scrapes.slice(1).map((each, k) => measure(scrapes[k], each));
      const [, big, , line, small] = tiles[i].children;
      line.replaceChildren(spark(values));
      [big.textContent, small.textContent] = [format(values.findLast(Number.isFinite)), note((...of) => figure(value(now, ...of)))];
    });
    const kinds = series(now, "queue_seconds_count").map((each) => each.labels)
      .filter((kind) => grown(before, now, "queue_seconds_count", kind));
    table(find("#kinds"), ["Kind", "#per second", "#waiting, ms", "#computing, ms", "#in all, ms"], kinds.map((kind) => {
      const change = (name) => grown(before, now, name, kind);
      const mean = (name) => figure(1000 * change(`${name}_seconds_sum`) / change(`${name}_seconds_count`));
      return [kind.kind, figure(rate(before, now, "queue_seconds_count", kind)), ...["queue", "compute", "request"].map(mean)];
    }), "Nothing was generated.");
  }
  return { load, read };
}
