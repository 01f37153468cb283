// Text: the canvas as it fills.
import { all, figure, find, make, said } from "./elements.js";
import { asking, film } from "./generate.js";

const MASK = "░";
const EXAMPLES = [
  ["Write a function", { prompt: "Given numbers, keep those that are even, double each one and return them sorted." }],
  ["Write a longer one", {
    prompt: "Find the first word with more than 4 letters, put an exclamation mark after it and return it; without one return None.",
  }],
  ["Fill a gap", {
    prefix: "def sorted_doubled(numbers):\n    return sorted(", suffix: " for number in numbers)\n", length: "12",
  }],
  ["Place by place, by entropy", {
    prompt: "Given words, keep those longer than 3 letters and return them in upper case.", sampler: "entropy",
  }],
];

/** How many characters two texts have in common from the front. */
function shared(a, b) {
  let i = 0;
  while (i < a.length && i < b.length && a[i] === b[i]) i++;
  return i;
}

/** The canvas in runs of equal kind: given by the request, masked, written in this step, or settled before. */
function runs(canvas, before, { prefix = "", suffix = "" }) {
  const front = before === undefined ? canvas.length : shared(canvas, before);
  const turn = (text) => [...text].reverse().join("");
  const back = canvas.length - (before === undefined ? 0 : shared(turn(canvas), turn(before)));
  const kind = (i) => {
    if (canvas[i] === MASK) return "masked";
    if (i < prefix.length || i >= canvas.length - suffix.length) return "given";
    return i >= front && i < back ? "fresh" : "settled";
  };
  const found = [];
  for (let i = 0; i < canvas.length; i++) {
    const last = found.at(-1);
    if (last?.kind === kind(i)) last.text += canvas[i];
    else found.push({ kind: kind(i), text: canvas[i] });
  }
  return found;
}

export function textView(view) {
  const [canvas, outputs, empty] = [find("#canvas", view), find("#outputs", view), find(".empty", view)];
  const form = find("#text-form");
  let given = {};
  const reel = film(find(".film", view), (frame, before) => {
    canvas.replaceChildren(...runs(frame.canvas, before ? before.canvas : "", given)
      .map(({ kind, text }) => make("span", { className: kind, ariaHidden: kind === "masked" ? "true" : null }, text)));
  }, 160);

  function choose(result, i) {
    all("button", outputs).forEach((button, k) => button.setAttribute("aria-pressed", k === i));
    canvas.replaceChildren(...runs(result.outputs[i].text, undefined, given)
      .map(({ kind, text }) => make("span", { className: kind }, text)));
    generation.judge.output(i);
  }

  const generation = asking({
    view, path: "diffuse",
    ask: () => ({ modality: "text", ...said(form) }),
    begin(body) {
      given = body;
      empty.hidden = outputs.hidden = true;
      outputs.hidden = true;
      canvas.replaceChildren();
      reel.clear();
    },
    step: reel.add,
    finish(result) {
      const text = result.outputs[0].text;
      if (reel.last()?.canvas !== text) reel.add({ canvas: text });
      outputs.hidden = result.outputs.length < 2;
      outputs.replaceChildren(...result.outputs.map((output, i) => {
        const button = make("button", { type: "button" }, `Output ${i + 1}`, make("small", {}, figure(output.confidence)));
        button.addEventListener("click", () => choose(result, i));
        button.setAttribute("aria-pressed", i === 0);
        return button;
      }));
    },
    describe: ({ outputs: [first], steps_done: steps }) => [
      ["Finished", { complete: "complete", deadline: "at the deadline", length: "at the length", syntax: "invalid syntax" }[first.finish_reason]],
      ["Forwards", String(first.forwards)],
      ["Steps", String(steps)],
    ],
  });

  find("#examples", view).append(...EXAMPLES.map(([name, fields]) => {
    const button = make("button", { type: "button" }, name);
    button.addEventListener("click", () => {
      form.reset();
      for (const [field, value] of Object.entries(fields)) form.elements[field].value = value;
      generation.submit();
    });
    return make("li", {}, button, make("span", {}, fields.prompt ?? "between `sorted(` and `for number in numbers)`"));
  }));
  return generation;
}
