// Learning: what was learned, what the gate measured, and what serves.
import { get, post } from "./http.js";
import { ago, button, complain, draw, facts, figure, find, make, percent, short, table } from "./elements.js";

const badge = (word) => (word ? make("span", { className: `badge ${word}` }, word) : "–");
const signed = (value) => (value > 0 ? "+" : "") + figure(value);
/** Answers of two models to the same tasks: how many only one of them got right, as a bar and in numbers. */
function pairs(name, { n, gained, lost, drop_at_most: drop }) {
  const part = (kind, x, width) => draw("rect", { class: kind, x, width, height: 1 });
  const box = { class: "bar", viewBox: `0 0 ${n} 1`, preserveAspectRatio: "none", "aria-hidden": "true" };
  const words = `${gained} won, ${lost} lost of ${n}${drop === undefined ? "" : `; at most ${percent(drop)} worse`}`;
  return make("div", { className: "pairs" }, make("span", {}, name),
    draw("svg", box, part("won", 0, gained), part("lost", n - lost, lost)), make("small", {}, words));
}
function gate(report) {
  if (!report?.pairs) return [make("p", { className: "empty" }, "The gate has not measured it.")];
  const { p_value: p, anchors, reasons } = report;
  return [pairs("Tasks kept back", report.pairs), ...Object.entries(anchors).map(([name, each]) => pairs(`Anchors: ${name}`, each)),
    facts(make("dl", { className: "facts" }), [["Gain in accuracy", signed(report.gain)],
      ["p of no gain", p < 0.001 ? p.toExponential(1) : figure(p)], ["Known text, bits per token", signed(report.nll_bits)],
      ["Time per forward", `× ${figure(report.latency_ratio)}`], ["Memory", `× ${figure(report.memory_ratio)}`]]),
    ...reasons.map((reason) => make("p", {}, reason))];
}
export function learningView(view) {
  const [problem, detail, revoke] = [find(".problem", view), find("#adaptation"), find("#revoke")];
  let [chosen, drawn] = ["", ""];
  /** Asks first; does what changes the server, shows a refusal, and then what is so now. */
  async function order(question, work) {
    if (!confirm(question)) return;
    try {
      await work();
      complain(problem, null);
      await load();
    } catch (error) {
      complain(problem, error);
      problem.scrollIntoView({ block: "nearest" });
    }
  }
  function promote({ id, outcome, report }) {
    const against = outcome === "reject" ? "The gate rejected it. " : report ? "" : "The gate has not seen it. ";
    order(`${against}Make it the champion of its cluster with the next request?`,
      () => post(`adapters/${id}/promote`, { force: against !== "" }));
  }
  const rollback = ({ id }) => order("Take it out of service? What served before it, or the base model, answers instead.",
    () => post(`adapters/${id}/rollback`));
  async function show() {
    const shown = await get(`adapters/${encodeURIComponent(chosen)}`);
    if (drawn === JSON.stringify(shown)) return; // what has the focus keeps it
    drawn = JSON.stringify(shown);
    const act = (name, does, ...states) => button(name, () => does(shown), !states.includes(shown.state));
    detail.replaceChildren(make("h2", {}, short(shown.id, 40)), make("p", { className: "actions" }, badge(shown.state),
      act("Promote…", promote, "candidate", "canary", "rejected"), act("Roll back…", rollback, "champion", "canary")),
    make("p", {}, shown.reason), ...gate(shown.report), make("h2", {}, "Origin"), facts(make("dl", { className: "facts" }), [
      ["Cluster", short(shown.cluster)], ["Sources", shown.sources.join(", ")], ["Feedback", String(shown.feedback)],
      ["Rows", short(shown.dataset)], ["Base", short(shown.base)], ["Radius", figure(shown.radius)],
      ["Settings", Object.entries(shown.config).map((each) => each.join(" ")).join(", ")], ["Made", ago(shown.created)]]));
  }
  async function load(id = chosen) {
    chosen = id;
    const [{ inbox, feedback, clusters, jobs, stage }, { adapters }] = await Promise.all([get("evolution"), get("adapters")]);
    const counted = (counts) => Object.entries(counts).map(([state, count]) => `${count} ${state}`).join(", ") || "none yet";
    const states = jobs.reduce((counts, { state }) => ({ ...counts, [state]: (counts[state] ?? 0) + 1 }), {});
    facts(find(".facts", view), [["Now", stage || "nothing to train"], ["Inbox", `${inbox.waiting} waiting`],
      ["Feedback", counted(feedback)], ["Trainings", counted(states)]]);
    table(find("#adaptations"), ["Adaptation", "State", "Gate", "#Feedback", "#Changed"], adapters.map((each) => Object.assign([
      make("a", { href: `#learning/${each.id}` }, short(each.id, 10)), badge(each.state), badge(each.outcome),
      String(each.feedback), ago(each.changed)], { chosen: each.id === chosen })),
    "None yet. They are trained on corrections with tests, sent as feedback.");
    const serving = (name, note) => make("span", {}, short(name, 10), note);
    table(find("#clusters"), ["Cluster", "#Feedback", "Champion", "Canary"], clusters.map((each) => [
      short(each.cluster), String(each.size), each.champion ? serving(each.champion, "") : "base model",
      each.canary ? serving(each.canary, ` ${percent(each.share)}`) : "–"]), "None yet. Feedback like itself gathers here.");
    if (chosen) await show();
  }
  revoke.addEventListener("click", () => {
    const source = prompt("Source whose feedback and memories are taken back, with all that was trained on them:");
    if (source) order(`Take back all that ${source} has said? There is no way back.`, async () => {
      const { feedback, memories, retired } = await post("evolution/revoke", { source });
      revoke.nextElementSibling.textContent = `${feedback} items, ${memories} memories, ${retired.length} adaptations have left.`;
    });
  });
  return { load };
}
