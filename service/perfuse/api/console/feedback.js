// Feedback on an answer: accepted, rejected, or corrected with tests.
import { Problem, post } from "./http.js";
import { all, complain, find } from "./elements.js";

/** Tests as a person writes them, `[2, 3] -> 5` or `[null] raises TypeError`, as the cases of a verifier. */
export function cases(text) {
  return text.split("\n").filter((line) => line.trim()).map((line, i) => {
    const [, args, sign, rest] = /^(.*?\])\s*(->|→|raises)\s*(.+)$/.exec(line.trim()) ?? [];
    try {
      return sign === "raises" ? { args: JSON.parse(args), raises: rest.trim() } : { args: JSON.parse(args), expected: JSON.parse(rest) };
    } catch {
      throw new Problem({ title: "Test not understood", detail: `line ${i + 1}: ${line}`, hint: "write [2, 3] -> 5 with JSON on both sides" });
    }
  });
}

/** The form under an answer. `open` says which generation it is about, `output` which of its outputs. */
export function feedback(root) {
  root.append(find("#feedback-parts").content.cloneNode(true));
  const form = find("form", root);
  const [problem, status, correction] = [find(".problem", root), find("[role=status]", root), find(".correction", root)];
  const field = (name) => form.elements[name];
  let about = null;

  async function send(verdict, words) {
    complain(problem, null, form);
    status.textContent = "";
    if (!about || !field("source").reportValidity()) return;
    try {
      const body = { generation_id: about.data.id, output: about.output, source: field("source").value, ...verdict() };
      const { feedback_id: id } = await post("feedback", body);
      status.textContent = `${words}: kept as ${id}`;
    } catch (error) {
      complain(problem, error, form);
    }
  }

  function corrected() {
    const tests = cases(field("tests").value);
    const verifier = { kind: "python_tests", entry_point: field("entry_point").value, cases: tests };
    return { correction: field("correction").value, ...(tests.length ? { verifier } : {}) };
  }

  function unfold(open) {
    correction.hidden = !open;
    find("[data-says=correct]", form).setAttribute("aria-expanded", open);
    if (open) field("correction").focus();
  }

  const says = {
    accept: () => send(() => ({ accepted: true }), "Accepted"),
    reject: () => send(() => ({ accepted: false }), "Rejected"),
    correct: () => unfold(correction.hidden),
  };
  for (const button of all("[data-says]", form)) button.addEventListener("click", says[button.dataset.says]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (!correction.hidden) send(corrected, "Corrected");
  });

  const fill = () => {
    const text = about.data.outputs?.[about.output].text;
    find("[data-says=correct]", form).hidden = text === undefined; // plans are accepted or rejected
    field("correction").value = text ?? "";
    field("entry_point").value = /def\s+(\w+)/.exec(text)?.[1] ?? "";
  };
  return {
    close() { about = null; root.hidden = true; unfold(false); },
    open(data) {
      about = { data, output: 0 };
      root.hidden = !data.recorded;
      status.textContent = "";
      field("tests").value = "";
      complain(problem, null, form);
      fill();
    },
    output(i) { if (about) { about.output = i; fill(); } },
    say(what) { if (about && !find(`[data-says=${what}]`, form).hidden) says[what](); },
  };
}
