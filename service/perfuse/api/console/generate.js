// What text and plan have in common: one request under way, its frames, its facts and its feedback.
import { Problem, events } from "./http.js";
import { all, calm, complain, facts, figure, find, make, percent, short } from "./elements.js";
import { feedback } from "./feedback.js";

/** Frames, shown one after another at a pace that can be followed, and again by hand. */
export function film(root, show, pace) {
  root.append(find("#film-parts").content.cloneNode(true));
  const [again, slider, label] = root.children;
  let frames = [];
  let at = -1;
  let timer = 0;
  const go = (i) => {
    at = i;
    show(frames[i], frames[i - 1]);
    slider.value = i;
    const { step, of } = frames[i];
    label.textContent = step === undefined ? "result" : `step ${step} of ${step === of ? "" : "at most "}${of}`;
  };
  const advance = () => {
    timer = 0;
    if (at < frames.length - 1) {
      go(at + 1);
      timer = setTimeout(advance, calm() ? 0 : pace);
    }
  };
  const stop = () => { clearTimeout(timer); timer = 0; };
  again.addEventListener("click", () => { stop(); at = -1; advance(); });
  slider.addEventListener("input", () => { stop(); go(slider.valueAsNumber); });
  return {
    clear() { stop(); frames = []; at = -1; label.textContent = ""; slider.max = 0; },
    add(frame) {
      frames.push(frame);
      slider.max = frames.length - 1;
      if (!timer) advance();
    },
    last: () => frames.at(-1),
    replay: () => again.click(),
  };
}

/** A view that asks for a generation: sends its form, follows the events, and shows what came. */
export function asking({ view, path, ask, begin, step, finish, describe }) {
  const form = find("form.ask", view);
  const filled = find(".filled", view);
  const problem = find(".answer > .problem", view);
  const [go, cancel] = [find(".primary", form), find("[data-cancel]", form)];
  const judge = feedback(find(".feedback", view));
  let running = null;

  async function run() {
    running?.abort();
    const mine = running = new AbortController();
    const busy = (on) => { cancel.disabled = !on; filled.setAttribute("aria-busy", on); go.classList.toggle("busy", on); };
    const body = ask();
    complain(problem, null, form);
    facts(find(".facts", filled), [["State", "waiting"]]);
    find(".sent", view).textContent = JSON.stringify(body, null, 2);
    judge.close();
    begin(body);
    busy(true);
    try {
      for await (const [name, data] of events(path, body, mine.signal)) {
        filled.hidden = false;
        if (name === "accepted") facts(find(".facts", filled), [["State", `${figure(data.backlog_seconds)} s of work ahead`]]);
        if (name === "restarted") facts(find(".facts", filled), [["State", "an engine died; begun again"]]);
        if (name === "preview") step(data);
        if (name === "result") {
          finish(data);
          facts(find(".facts", filled), [...describe(data), ...common(data)]);
          judge.open(data, body);
        }
      }
    } catch (error) {
      if (mine.signal.aborted) facts(find(".facts", filled), [["State", "cancelled"]]);
      else complain(problem, error instanceof Problem ? error : error, form);
    } finally {
      if (running === mine) { running = null; busy(false); }
    }
  }

  form.addEventListener("submit", (event) => { event.preventDefault(); run(); });
  cancel.addEventListener("click", () => running?.abort());
  return { submit: () => form.requestSubmit(), cancel: () => running?.abort(), judge };
}

function common(data) {
  const { queue, compute, total } = data.timing_ms;
  const learned = (data.attribution ?? []).map((each) => make("a", { href: `#learning/${each.id}` },
    `${each.state} `, short(each.id), each.gain === null ? "" : `, gain ${percent(each.gain)}`));
  return [
    ["Time", `${figure(total)} ms`],
    ["of it waiting, computing", `${figure(queue)}, ${figure(compute)} ms`],
    ["Confidence", percent(data.confidence)],
    ["Model", data.model],
    ["Learned", data.attribution ? (learned.length ? make("span", {}, ...learned) : "base model only") : null],
    ["Seed", String(data.seed)],
    ["Snapshot", String(data.snapshot)],
    ["Restarts", data.restarts || null],
    ["Id", short(data.id, 18)],
    ["Recorded", data.recorded ? null : "no: feedback cannot refer to it"],
  ];
}

/** Options of a form that the server takes as they are, without those of other fields. */
export const without = (values, ...names) => Object.fromEntries(Object.entries(values).filter(([name]) => !names.includes(name)));
export const buttons = (root) => all("button", root);
