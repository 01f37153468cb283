// Elements of the page. What comes from the server becomes text, never markup.
export const find = (selector, root = document) => root.querySelector(selector);
export const all = (selector, root = document) => [...root.querySelectorAll(selector)];
export const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
/** An element with properties and children; strings become text. */
export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
/** An SVG element with attributes. */
export function draw(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
export const button = (name, onclick, disabled = false) => make("button", { type: "button", onclick, disabled }, name);
/** Fills a <dl> with pairs of name and value; those without a value are left out. */
export function facts(list, pairs) {
  list.replaceChildren(...pairs.filter(([, value]) => value)
    .map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
  return list;
}
/** Fills a box with a table, or with a sentence where there are no rows; # marks columns of numbers. Focus stays. */
export function table(box, names, rows, otherwise) {
  const cell = (tag) => (content, i) => make(tag, { className: names[i][0] === "#" ? "number" : "" }, content);
  const head = make("tr", {}, ...names.map((name) => name.replace("#", "")).map(cell("th")));
  const body = rows.map((cells) => make("tr", { className: cells.chosen ? "chosen" : "" }, ...cells.map(cell("td"))));
  const focused = box.contains(document.activeElement) && document.activeElement.hash;
  const full = make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
  box.replaceChildren(rows.length ? full : make("p", { className: "empty" }, otherwise));
  if (focused) find(`[href="${focused}"]`, box)?.focus();
}
/** Shows a refusal in a box, or clears it, and marks the fields of the form that it names. */
export function complain(box, error, form) {
  if (error && !error.body) console.error(error);
  const body = error?.body ?? { title: "Fault of this page", detail: String(error) };
  const { title, status, detail, hint, field, request_id: id, errors = [] } = body;
  if (["unauthenticated", "forbidden"].includes(body.code)) find("#key").hidden = false;
  for (const each of form?.elements ?? []) {
    const [pointer, named] = [each.dataset.pointer ?? `/${each.name}`, [field, ...errors.map((one) => one.pointer)]];
    each.ariaInvalid = named.some((name) => `${name}/`.startsWith(`${pointer}/`)) ? "true" : null;
  }
  box.hidden = !error;
  const more = errors.length > 1 ? errors.map((each) => `${each.pointer}: ${each.message}`) : [];
  box.replaceChildren(make("strong", {}, status ? `${title} · ${status}` : title), make("p", {}, detail),
    ...[...more, hint, id && `request ${id}`].filter(Boolean).map((words) => make("p", { className: "soft" }, words)));
}

const figures = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
/** A number to three figures, all of them before the point; a dash where there is none. */
export function figure(value) {
  const shown = Math.abs(value) < 1000 ? figures.format(value) : Math.round(value).toLocaleString("en");
  return Number.isFinite(value) ? shown.replace("-", "−") : "–";
}
export const percent = (value) => `${figure(100 * value)} %`;
/** An id short enough to read; the whole of it on hover. */
export const short = (id, most = 12) => make("code", { title: id }, id.length > most ? `${id.slice(0, most)}…` : id);
/** How long ago a time in Unix seconds was. */
export function ago(seconds) {
  const passed = Math.max(1, Date.now() / 1000 - seconds);
  const [size, unit] = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]].find(([each]) => passed >= each);
  return make("time", { title: new Date(1000 * seconds).toISOString() }, `${Math.floor(passed / size)} ${unit} ago`);
}
