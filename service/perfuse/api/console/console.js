// The console: four views of one server, chosen by the fragment of the address.
import { get, hasKey, useKey } from "./http.js";
import { all, complain, facts, figure, find, make } from "./elements.js";
import { learningView } from "./learning.js";
import { planView } from "./plan.js";
import { serverView } from "./server.js";
import { textView } from "./text.js";

const POLL_MS = 2000;
const NAMES = ["text", "plan", "learning", "server"];
const views = {
  text: textView(find("#text")), plan: planView(find("#plan")),
  learning: learningView(find("#learning")), server: serverView(find("#server")),
};
let current = "";

/** Has the view on show ask for what it shows; a refusal stands in the view. */
async function load() {
  const { load: wanted, problem = find(`#${current} .problem`) } = views[current];
  try {
    await wanted?.();
    if (problem.dataset.of === "load") complain(problem, null);
  } catch (error) {
    complain(problem, error);
    problem.dataset.of = "load";
  }
}

async function route() {
  const [name, id] = location.hash.slice(1).split("/");
  current = NAMES.includes(name) ? name : "text";
  for (const each of NAMES) find(`#${each}`).hidden = each !== current;
  for (const link of all("nav a")) link.toggleAttribute("aria-current", link.hash === `#${current}`);
  document.title = `${find(`#${current} h1`).textContent} · perfuse`;
  if (id && current === "learning") await views.learning.choose(id);
  await load();
}

async function status() {
  const [mark, text] = find("#status").children;
  try {
    const ready = await get("readyz");
    const backlog = current === "server" ? "" : `, ${figure(await views.server.backlog())} s backlog`;
    mark.className = "good";
    text.textContent = `${ready.status}${backlog}`;
  } catch (error) {
    mark.className = "bad";
    text.textContent = error.body?.title.toLowerCase() ?? "fault";
  }
}

async function poll() {
  if (!document.hidden) {
    await status();
    if (current === "server" || current === "learning") await load();
  }
  setTimeout(poll, POLL_MS);
}

function theme(wanted) {
  document.documentElement.dataset.theme = wanted;
  find("#theme").textContent = `Theme: ${wanted}`;
  localStorage.setItem("theme", wanted);
}
const turn = () => theme({ auto: "light", light: "dark", dark: "auto" }[document.documentElement.dataset.theme]);

const KEYS = [
  ["1 2 3 4", "views: Text, Plan, Learning, Server"], ["Ctrl Enter", "fill, or plan"], ["Escape", "cancel what runs"],
  ["A R C", "accept, reject, correct the answer"], ["T", "theme: auto, light, dark"], ["K", "API key"], ["?", "this list"],
];
const single = {
  1: () => { location.hash = "text"; }, 2: () => { location.hash = "plan"; },
  3: () => { location.hash = "learning"; }, 4: () => { location.hash = "server"; },
  a: () => views[current].judge?.say("accept"), r: () => views[current].judge?.say("reject"),
  c: () => views[current].judge?.say("correct"), t: turn,
  k: () => find("#key-open").click(), "?": () => find("#keys-open").click(),
};

document.addEventListener("keydown", (event) => {
  if (find("dialog[open]")) return;
  const typing = event.target.closest("input:not([type=radio], [type=checkbox], [type=range]), textarea, select");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    const form = event.target.closest("form");
    if (form && form !== find("#revoke")) { event.preventDefault(); form.requestSubmit(); } else views[current].submit?.();
  } else if (event.key === "Escape") {
    views[current].cancel?.();
  } else if (!typing && find("#single").checked && !event.ctrlKey && !event.altKey && !event.metaKey) {
    const does = single[event.key.toLowerCase()];
    if (does) { event.preventDefault(); does(); }
  }
});

find("#theme").addEventListener("click", turn);
find("#keys-open").addEventListener("click", () => find("#keys-box").showModal());
find("#key-open").addEventListener("click", () => find("#key-box").showModal());
find("#key-box").addEventListener("close", () => {
  const field = find("#key-box input");
  useKey(find("#key-box").returnValue === "use" ? field.value : "");
  field.value = "";
  find("#key-open").textContent = hasKey() ? "Key: set" : "Key";
  load();
});
facts(find("#keys-box .facts"), KEYS.map(([keys, does]) => [does, make("span", {}, ...keys.split(" ").map((each) => make("kbd", {}, each)))]));
window.addEventListener("hashchange", route);
theme(localStorage.getItem("theme") ?? "auto");
route();
poll();
