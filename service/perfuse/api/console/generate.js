// What text and plans have in common: a request under way, its frames, its facts, and feedback on the answer.
import { events } from "./http.js";
import { calm, complain, facts, figure, find, make, percent, short } from "./elements.js";
import { feedback } from "./feedback.js";
/** Frames, shown one after another at a pace that can be followed, and again by hand. */
function film([again, slider, label], show, pace) {
  let [frames, at, playing] = [[], -1, true];
  const go = (i) => {
    const { step, of } = frames[i];
    label.textContent = step ? `step ${step} of ${step === of ? "" : "at most "}${of}` : "result";
    at = slider.value = i;
    show(frames[i], frames[i - 1]);
  };
  setInterval(() => { if (playing && at < frames.length - 1) go(at + 1); }, calm() ? 20 : pace);
  again.onclick = () => { [at, playing] = [-1, true]; };
  slider.oninput = () => { playing = false; go(slider.valueAsNumber); };
  const clear = () => { [frames, at, playing, label.textContent] = [[], -1, true, ""]; };
  return { clear, add(frame) { slider.max = frames.push(frame) - 1; }, last: () => frames.at(-1) };
}
/** What a form says: numbers as numbers, empty fields left out. */
function said(form) {
  const named = [...form.elements].filter((field) => field.name && field.type !== "radio" && field.value !== "");
  const value = { checkbox: (field) => field.checked, number: (field) => field.valueAsNumber };
  return Object.fromEntries(named.map((field) => [field.name, value[field.type]?.(field) ?? field.value]));
}

const link = ({ id, state, gain }) => make("a", { href: `#learning/${id}` }, `${state}, gain ${percent(gain ?? NaN)}`);
const learned = (by) => (by.length ? make("span", {}, ...by.map(link)) : "base model only");
const common = ({ timing_ms: time, attribution, ...data }) => [
  ["Time", `${figure(time.total)} ms`], ["Waiting, computing", `${figure(time.queue)}, ${figure(time.compute)} ms`],
  ["Confidence", percent(data.confidence)], ["Learned", attribution && learned(attribution)], ["Model", data.model],
  ["Seed", short(String(data.seed), 20)], ["Id", short(data.id)], ["Restarts", data.restarts],
];
/** A view that generates: `ask` makes the body, `begin`, `show` and `finish` draw, `describe` says what came. */
export function generating({ view, path, ask, begin, show, pace, finish, describe }) {
  const [form, answer] = [find(".ask", view), find(".answer", view)];
  answer.append(find("#answer").content.cloneNode(true));
  const [filled, problem, cancel] = [find(".filled", answer), find(".problem", answer), find(".cancel", form)];
  const [reel, judge] = [film(find(".film", filled).children, show, pace), feedback(find(".feedback", filled))];
  const state = (words) => facts(find(".facts", filled), [["State", words]]);
  let running = null;
  async function run() {
    running?.abort();
    const mine = running = new AbortController();
    const body = ask(said(form));
    complain(problem, null, form);
    judge.about(null);
    reel.clear();
    begin(body);
    state("waiting");
    find(".sent", filled).textContent = JSON.stringify(body, null, 2);
    [filled.hidden, cancel.disabled] = [false, false];
    try {
      for await (const [name, data] of events(path, body, mine.signal)) {
        if (name === "accepted") state(`admitted behind ${figure(data.backlog_seconds)} s of work`);
        if (name === "restarted") state("an engine died; begun again");
        if (name === "preview") reel.add(data);
        if (name !== "result") continue;
        finish(data, reel);
        facts(find(".facts", filled), [...describe(data), ...common(data)]);
        judge.about(data);
      }
    } catch (error) {
      state(mine.signal.aborted ? "cancelled" : "refused");
      if (!mine.signal.aborted) complain(problem, error, form);
    }
    if (running === mine) cancel.disabled = true;
  }
  form.onsubmit = (event) => { event.preventDefault(); run(); };
  cancel.onclick = () => running.abort();
  return { form, judge, cancel: () => running?.abort() };
}
