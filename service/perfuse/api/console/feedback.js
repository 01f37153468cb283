// Feedback on an answer: accepted, rejected, or corrected, with tests.
import { Problem, post } from "./http.js";
import { all, complain, find } from "./elements.js";
/** Tests as a person writes them, `[2, 3] -> 5` or `[null] raises TypeError`, as the cases of a verifier. */
function cases(text) {
  return text.split("\n").filter((line) => line.trim()).map((line) => {
    const [, args, sign, rest] = /^\s*(\[.*\])\s*(->|raises)\s*(.+?)\s*$/.exec(line) ?? [];
    try {
      return { args: JSON.parse(args), ...(sign === "raises" ? { raises: rest } : { expected: JSON.parse(rest) }) };
    } catch {
      const hint = "write [2, 3] -> 5, or [null] raises TypeError; both sides are JSON";
      throw new Problem({ title: "Test not understood", detail: line.trim(), field: "/tests", hint });
    }
  });
}
/** The form under an answer. */
export function feedback(form) {
  const [problem, status, details] = [find(".problem", form), find("[role=status]", form), find(".correction", form)];
  const { source, tests, entry_point: entry, correction } = form.elements;
  const correct = find("[value=correct]", form);
  let answer = null;
  async function send(verdict, words) {
    status.textContent = "";
    if (!source.reportValidity()) return;
    try {
      const kept = await post("feedback", { generation_id: answer.id, source: source.value, ...verdict() });
      complain(problem, null, form);
      status.textContent = `${words}; kept as ${kept.feedback_id}.`;
    } catch (error) {
      complain(problem, error, form);
    }
  }
  function corrected() {
    const verifier = { kind: "python_tests", entry_point: entry.value, cases: cases(tests.value) };
    return { correction: correction.value, ...(verifier.cases.length && { verifier }) };
  }
  function unfold(open) {
    [details.hidden, correct.ariaExpanded] = [!open, String(open)];
    if (open) correction.focus();
  }
  const say = {
    accept: () => send(() => ({ accepted: true }), "Accepted"),
    reject: () => send(() => ({ accepted: false }), "Rejected"),
    correct: () => correct.hidden || unfold(details.hidden),
  };
  for (const each of all("[type=button]", form)) each.onclick = say[each.value];
  form.onsubmit = (event) => { event.preventDefault(); send(corrected, "Correction sent"); };
  /** Makes the form speak of an answer; null: of none. A plan is accepted or rejected, not corrected. */
  function about(wanted) {
    answer = wanted?.recorded ? wanted : null;
    unfold(false);
    complain(problem, null, form);
    correction.value = wanted?.outputs?.[0].text ?? "";
    [form.hidden, correct.hidden, status.textContent, tests.value] = [!answer, !correction.value, "", ""];
    entry.value = /def\s+(\w+)/.exec(correction.value)?.[1] ?? "";
  }
  return { about, say: (verdict) => answer && say[verdict]() };
}
