// Requests to the server that this page came from. The key lives in this module's memory and nowhere else.
let key = "";
export const useKey = (given) => { key = given.trim(); };
/** A refusal; `body` is problem+json, or the page's own words in the same form. */
export class Problem extends Error {
  constructor(body) { super(body.detail); this.body = body; }
}
const broken = (detail, hint) => new Problem({ title: "No answer", detail, hint });

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = method === "POST" ? { "Content-Type": "application/json" } : {};
  if (key) headers.Authorization = `Bearer ${key}`;
  const given = { method, headers, body: body && JSON.stringify(body), signal, cache: "no-store" };
  const answer = await fetch(path, given).catch((error) => {
    throw signal?.aborted ? error : broken("the server cannot be reached", "is it running?");
  });
  if (answer.ok) return answer;
  const fallback = { title: "Refused", status: answer.status, detail: answer.statusText };
  throw new Problem(await answer.json().catch(() => fallback));
}
export const get = async (path) => (await send(path)).json();
export const getText = async (path) => (await send(path)).text();
export const post = async (path, body) => (await send(path, { method: "POST", body })).json();
/** The server-sent events of a generation as [name, data]; an `error` among them is thrown. */
export async function* events(path, body, signal) {
  const answer = await send(path, { method: "POST", body: { ...body, stream: true }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "", ended = false; !ended;) {
    const { value = "", done } = await reader.read().catch((error) => {
      throw signal.aborted ? error : broken("the connection broke before the result", "ask again");
    });
    [ended, rest] = [done, rest + value];
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const [, name, text] = /^event: (.*)\ndata: (.*)$/.exec(rest.slice(0, end)) ?? []; // comments have no name
      if (name === "error") throw new Problem(JSON.parse(text));
      if (name) yield [name, JSON.parse(text)];
    }
  }
}
