// Learning: what was learned, what the gate measured, and what serves.
import { get, post } from "./http.js";
import { ago, complain, facts, figure, find, make, percent, rows, short, signed, sure } from "./elements.js";

const badge = (word) => make("span", { className: `badge ${word}` }, word);
const counts = (states) => Object.entries(states).map(([state, count]) => `${count} ${state}`).join(", ");

/** Pairs of answers to the same task, before and after: won, equal and lost, as a bar with its numbers. */
function pairs(name, { n, gained, lost }, note) {
  const part = (kind, size) => { const made = make("i", { className: kind }); made.style.flexGrow = size; return made; };
  return make("div", { className: "pairs" }, make("span", {}, name),
    make("div", { className: "bar", role: "img", ariaLabel: `${gained} won, ${lost} lost of ${n}` },
      part("won", gained), part("even", n - gained - lost), part("lost", lost)),
    make("small", {}, `${gained} won, ${lost} lost of ${n}${note}`));
}

function report(shown) {
  const measured = shown.report;
  if (!measured) return [make("p", { className: "empty" }, "It has not been at the gate.")];
  const list = make("dl", { className: "facts" });
  facts(list, [
    ["Gain in accuracy", signed(measured.gain)],
    ["Chance of no gain", measured.p_value < 0.001 ? measured.p_value?.toExponential(1) : figure(measured.p_value)],
    ["Likelihood of known text", `${signed(measured.nll_bits)} bits per token`],
    ["Time per forward", `× ${figure(measured.latency_ratio)}`],
    ["Memory of an engine", `× ${figure(measured.memory_ratio)}`],
  ]);
  return [
    pairs("Tasks kept back", measured.pairs ?? { n: 0, gained: 0, lost: 0 }, ""),
    ...Object.entries(measured.anchors ?? {}).map(([name, each]) =>
      pairs(`Anchors, ${name}`, each, `; at most ${percent(each.drop_at_most)} worse`)),
    list,
    ...(measured.reasons?.length ? [make("ul", { className: "reasons" }, ...measured.reasons.map((reason) => make("li", {}, reason)))] : []),
  ];
}

export function learningView(view) {
  const [problem, detail, none] = [find(".problem", view), find("#adaptation"), find("#no-adaptations")];
  let chosen = null;

  async function order(path, body) {
    try {
      await post(path, body);
      complain(problem, null);
    } catch (error) {
      complain(problem, error);
      problem.scrollIntoView({ block: "nearest" });
    }
    await load();
  }

  async function promote(shown) {
    const against = shown.outcome === "reject" || !shown.report;
    const text = "It becomes the champion of its cluster; the next request of that kind is answered by it.";
    const { yes, force } = await sure(`Promote ${shown.id.slice(0, 11)}…`, text, "Promote", { force: against });
    if (yes) await order(`adapters/${shown.id}/promote`, { force });
  }

  async function rollback(shown) {
    const text = "It leaves service now; the champion before it, or the base model, answers the next request.";
    if ((await sure(`Roll back ${shown.id.slice(0, 11)}…`, text, "Roll back")).yes) await order(`adapters/${shown.id}/rollback`);
  }

  function show(shown) {
    const action = (name, does, possible) => {
      const button = make("button", { type: "button", disabled: !possible }, name);
      button.addEventListener("click", () => does(shown));
      return button;
    };
    const lineage = make("dl", { className: "facts" });
    facts(lineage, [
      ["Cluster", short(shown.cluster, 24)], ["Trained on", `${shown.feedback} items of ${shown.sources.join(", ") || "nobody"}`],
      ["Base", short(shown.base, 18)], ["Parent", shown.parent && short(shown.parent, 18)], ["Rows", short(shown.dataset, 18)],
      ["Radius", figure(shown.radius)], ["Seed", String(shown.seed)], ["Created", ago(shown.created)],
      ["Why", shown.reason],
    ]);
    detail.replaceChildren(
      make("h2", {}, short(shown.id, 40)), make("p", { className: "actions" }, badge(shown.state), shown.outcome ? badge(shown.outcome) : "",
        action("Promote…", promote, ["candidate", "canary", "rejected"].includes(shown.state)),
        action("Roll back…", rollback, ["champion", "canary"].includes(shown.state))),
      ...report(shown), make("h3", {}, "Origin"), lineage,
      make("details", {}, make("summary", {}, "Training settings"), make("pre", { tabIndex: 0, ariaLabel: "Training settings" }, JSON.stringify(shown.config, null, 2))));
  }

  async function choose(id) {
    chosen = id;
    try {
      show(await get(`adapters/${encodeURIComponent(id)}`));
    } catch (error) {
      complain(problem, error);
    }
  }

  async function load() {
    const [evolution, { adapters }] = await Promise.all([get("evolution"), get("adapters")]);
    const { inbox, feedback } = evolution;
    facts(find("#learning-facts"), [
      ["Now", evolution.stage || "nothing to train"],
      ["Inbox", `${inbox.waiting} waiting${inbox.leased ? `, ${inbox.leased} at work` : ""}${inbox.dead ? `, ${inbox.dead} put aside` : ""}`],
      ["Feedback", counts(feedback) || "none yet"],
      ["Clusters", String(evolution.clusters.length)],
      ["Trainings", String(evolution.jobs.length)],
    ]);
    rows(find("#adaptations"), adapters.map((each) => {
      const open = make("a", { href: `#learning/${each.id}` }, short(each.id));
      return {
        className: each.id === chosen ? "chosen" : "",
        cells: [open, badge(each.state), short(each.cluster, 12), each.outcome ? badge(each.outcome) : "–", String(each.feedback), ago(each.changed)],
      };
    }));
    none.hidden = adapters.length > 0;
    rows(find("#clusters"), evolution.clusters.map((each) => ({
      cells: [short(each.cluster, 12), String(each.size), each.champion ? short(each.champion) : "base model",
        each.canary ? make("span", {}, short(each.canary), `, ${percent(each.share)}`) : "–"],
    })));
    rows(find("#jobs"), evolution.jobs.map((each) => ({
      title: each.reason,
      cells: [short(each.id), badge(each.state), short(each.cluster, 12), String(each.feedback), ago(each.changed)],
    })));
    if (chosen) await choose(chosen);
  }

  find("#revoke").addEventListener("submit", async (event) => {
    event.preventDefault();
    const [form, status] = [event.target, find("#revoke [role=status]")];
    const source = form.elements.source.value;
    if (!(await sure(`Take back ${source}`, "All its feedback and memories, and what was trained on them. There is no way back.", "Revoke")).yes) return;
    try {
      const taken = await post("evolution/revoke", { source });
      status.textContent = `${taken.feedback} items, ${taken.memories} memories and ${taken.retired.length} adaptations have left.`;
      complain(problem, null);
    } catch (error) {
      complain(problem, error);
    }
    await load();
  });

  return { load, problem, choose };
}
