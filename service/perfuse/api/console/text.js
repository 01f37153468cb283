// Text: the canvas as it fills.
import { button, find, make } from "./elements.js";
import { generating } from "./generate.js";

const EXAMPLES = {
  "A function": { prompt: "Given numbers, keep those that are even, double each one and return them sorted." },
  "A loop": { prompt: "Find the first word with more than 4 letters, put an exclamation mark after it and return it; "
    + "without one return None." },
  "A gap": { prefix: "def sorted_doubled(numbers):\n    return sorted(", suffix: " for number in numbers)\n", length: 12 },
  "By entropy": { prompt: "Given words, keep those longer than 3 letters and return them sorted.", sampler: "entropy" },
};
/** The canvas in runs of one kind: given by the request, masked, fresh in this frame, or settled before. */
function runs(canvas, before, { prefix = "", suffix = "" }) {
  let [front, back] = [0, 0];
  while (front < canvas.length && canvas[front] === before[front]) front++;
  while (back < canvas.length - front && canvas.at(-1 - back) === before.at(-1 - back)) back++;
  const kind = (i) => {
    if (i < prefix.length || i >= canvas.length - suffix.length) return "given";
    return canvas[i] === "░" ? "masked" : i >= front && i < canvas.length - back ? "fresh" : "settled";
  };
  const found = [];
  for (let i = 0; i < canvas.length; i++) {
    if (found.at(-1)?.className === kind(i) && i !== prefix.length) found.at(-1).textContent += canvas[i];
    else found.push({ className: kind(i), textContent: canvas[i], ariaHidden: kind(i) === "masked" ? "true" : null });
  }
  return found;
}
export function textView(view) {
  const [canvas, empty] = [find("#canvas", view), find(".empty", view)];
  let given = {};
  const generation = generating({
    view, path: "diffuse", pace: 180,
    ask: (fields) => ({ modality: "text", ...fields }),
    begin(body) {
      given = body;
      [empty.hidden, canvas.hidden] = [true, false];
      canvas.replaceChildren();
    },
    show(frame, before) {
      canvas.replaceChildren(...runs(frame.canvas, before?.canvas ?? "", given).map((run) => make("span", run)));
    },
    finish({ outputs: [{ text }] }, reel) { if (reel.last()?.canvas !== text) reel.add({ canvas: text }); },
    describe: ({ outputs: [first] }) => [["Finished", first.finish_reason], ["Forwards", String(first.forwards)]],
  });
  find("#examples", view).append(...Object.entries(EXAMPLES).map(([name, fields]) => make("li", {}, button(name, () => {
    generation.form.reset();
    for (const [field, value] of Object.entries(fields)) find(`[name=${field}]`, generation.form).value = value;
    generation.form.requestSubmit();
  }), make("span", {}, fields.prompt ?? `${fields.prefix} … ${fields.suffix}`))));
  return generation;
}
