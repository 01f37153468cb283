// The console: four views of one server, chosen by the fragment of the address.
import { get, useKey } from "./http.js";
import { all, complain, figure, find } from "./elements.js";
import { learningView } from "./learning.js";
import { planView } from "./plan.js";
import { serverView } from "./server.js";
import { textView } from "./text.js";

const POLL_MS = 2000;
const views = { text: textView(find("#text")), plan: planView(find("#plan")),
  learning: learningView(find("#learning")), server: serverView(find("#server")) };
let [current, told] = ["text", null];
/** Has the view on show ask for what it shows; a refusal stands in the view until it works again. */
async function load(id) {
  const problem = find(`#${current} .problem`);
  try {
    await views[current].load?.(id);
    if (told === problem) told = complain(problem, null);
  } catch (error) {
    complain(told = problem, error);
  }
}
function route() {
  const [name, id] = location.hash.slice(1).split("/");
  if (name in views) current = name;
  for (const each of Object.keys(views)) find(`#${each}`).hidden = each !== current;
  for (const link of all("nav a")) link.ariaCurrent = link.hash === `#${current}` ? "page" : null;
  document.title = `${find(`#${current} h1`).textContent} · perfuse`;
  return load(id);
}
async function poll() {
  const [mark, text] = find("#status").children;
  try {
    const [{ status }, backlog] = await Promise.all([get("readyz"), views.server.read()]);
    [mark.className, text.textContent] = ["good", `${status}, queue ${figure(backlog)} s`];
  } catch (error) {
    [mark.className, text.textContent] = ["bad", (error.body?.title ?? "fault of this page").toLowerCase()];
  }
  if (current === "server" || current === "learning") await load();
  setTimeout(poll, POLL_MS);
}
function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  find("#theme").textContent = `Theme: ${wanted}`;
  localStorage.setItem("theme", wanted);
}

const say = (verdict) => () => views[current].judge?.say(verdict);
const keys = {
  ...Object.fromEntries(all("nav a").map((link, i) => [i + 1, () => link.click()])),
  a: say("accept"), r: say("reject"), c: say("correct"), t: () => find("#theme").click(),
  k() { find("#key").hidden = false; find("#key").focus(); },
};
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("textarea, select, input:not([type=radio], [type=checkbox], [type=range])");
  const chord = event.ctrlKey || event.metaKey || event.altKey;
  let act = typing || chord || !find("#single").checked ? undefined : keys[event.key.toLowerCase()];
  if (event.key === "Escape") act = views[current].cancel;
  if (event.key === "Enter" && chord) act = () => (event.target.form ?? find(`#${current} .ask`))?.requestSubmit();
  if (act) event.preventDefault();
  act?.();
});
find("#theme").onclick = () => theme({ auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme]);
find(".tools").onsubmit = (event) => event.preventDefault();
find("#key").onchange = ({ target }) => { useKey(target.value); target.blur(); load(); };
window.addEventListener("hashchange", route);
theme(localStorage.getItem("theme") ?? "auto");
await route();
poll();
