// Elements of the page. Everything from the server becomes text, never markup.
export const find = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An element with properties and children; a child that is no element becomes text. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

/** An SVG element with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

/** Fills a <dl> with names and values; those without a value are left out. */
export function facts(list, pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  list.replaceChildren(...kept.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** Fills the body of a table; a row is {cells, classes?, ...properties of the <tr>}. */
export function rows(table, wanted) {
  const heads = all("th", table).map((head) => head.className);
  table.tBodies[0].replaceChildren(...wanted.map(({ cells, ...properties }) =>
    make("tr", properties, ...cells.map((cell, i) => make("td", { className: heads[i] }, cell)))));
  table.parentElement.hidden = wanted.length === 0;
}

/** Shows a refusal in its box with detail, hint and fields, and marks the fields it names in the form. */
export function complain(box, error, form) {
  const said = error?.body;
  if (error && !said) console.error(error);
  const body = said ?? { title: "Fault of this page", detail: String(error) };
  const fields = (body.errors ?? []).map(({ pointer, message }) => make("li", {}, make("code", {}, pointer), ` ${message}`));
  box.hidden = !error;
  box.replaceChildren(
    make("strong", {}, body.status ? `${body.title} · ${body.status}` : body.title), make("p", {}, body.detail),
    fields.length > 1 ? make("ul", {}, ...fields) : null ?? "",
    body.hint ? make("p", { className: "hint" }, body.hint) : "",
    body.request_id ? make("p", { className: "soft" }, "request ", make("code", {}, body.request_id)) : "",
  );
  if (body.code === "unauthenticated") {
    const open = make("button", { type: "button" }, "Enter a key");
    open.addEventListener("click", () => find("#key-open").click());
    box.append(make("p", {}, open));
  }
  const named = error ? [body.field, ...(body.errors ?? []).map((each) => each.pointer)] : [];
  for (const field of form?.elements ?? []) {
    const path = field.dataset.pointer ?? `/${field.name}`;
    field.toggleAttribute("aria-invalid", false);
    if (field.name && named.some((each) => each === path || each?.startsWith(`${path}/`))) field.setAttribute("aria-invalid", "true");
  }
}

/** Asks before something is done: gives "no", or the values of the form. */
export function sure(title, text, verb, { force = false } = {}) {
  const box = find("#sure");
  const check = find("label", box);
  find("h2", box).textContent = title;
  find("p", box).textContent = text;
  find(".danger", box).textContent = verb;
  check.hidden = !force;
  find("input", box).checked = false;
  box.returnValue = "no";
  box.showModal();
  return new Promise((resolve) => box.addEventListener("close", () =>
    resolve({ yes: box.returnValue === "yes", force: find("input", box).checked }), { once: true }));
}

const FIGURES = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
/** A number to three figures; a dash where there is none. */
export const figure = (value) => (Number.isFinite(value) ? FIGURES.format(value) : "–");
export const whole = (value) => (Number.isFinite(value) ? value.toLocaleString("en") : "–");
export const percent = (value) => (Number.isFinite(value) ? `${figure(100 * value)} %` : "–");
export const signed = (value) => (value > 0 ? `+${figure(value)}` : figure(value).replace("-", "−"));
/** An id short enough to read, with the whole of it on hover. */
export const short = (id, length = 11) => make("code", { title: id }, id.length > length ? `${id.slice(0, length)}…` : id);

/** How long ago a time in Unix seconds was. */
export function ago(seconds) {
  const passed = Math.max(0, Date.now() / 1000 - seconds);
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => passed >= each) ?? [1, "s"];
  return make("time", { title: new Date(1000 * seconds).toISOString() }, `${Math.floor(passed / size)} ${unit} ago`);
}

/** What a form says: numbers as numbers, empty fields left out. */
export function said(form) {
  const values = {};
  for (const field of form.elements) {
    if (!field.name || field.type === "radio") continue;
    if (field.type === "checkbox") values[field.name] = field.checked;
    else if (field.value !== "") values[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  return values;
}
