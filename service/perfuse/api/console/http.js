// Requests to the server this page came from. The key lives in this module's memory and nowhere else.
let key = "";
export const useKey = (given) => { key = given.trim(); };
export const hasKey = () => key !== "";

/** A refusal: `body` is problem+json, or says in the same form that there was no answer. */
export class Problem extends Error {
  constructor(body) {
    super(body.detail);
    this.body = body;
  }
}

async function refusal(answer) {
  const fallback = { title: `Status ${answer.status}`, detail: answer.statusText || "no reason given" };
  return new Problem(await answer.json().catch(() => fallback));
}

async function send(path, { method = "GET", body, signal } = {}) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  if (method !== "GET") headers["Content-Type"] = "application/json";
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const answer = await fetch(path, { method, headers, body: sent, signal, cache: "no-store" }).catch((error) => {
    if (signal?.aborted) throw error;
    throw new Problem({ title: "No answer", detail: "the server cannot be reached", hint: "is it running?" });
  });
  if (!answer.ok) throw await refusal(answer);
  return answer;
}

export const get = async (path) => (await send(path)).json();
export const getText = async (path) => (await send(path)).text();
export const post = async (path, body) => (await send(path, { method: "POST", body })).json();

/** The server-sent events of a generation, as [name, data]; a failure on the way is thrown as a Problem. */
export async function* events(path, body, signal) {
  const answer = await send(path, { method: "POST", body: { ...body, stream: true }, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read().catch((error) => {
      if (signal.aborted) throw error;
      throw new Problem({ title: "Interrupted", detail: "the connection broke before the result", hint: "ask again" });
    });
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const name = /^event: (.*)$/m.exec(block)?.[1];
      if (!name) continue; // a comment that keeps the connection open
      const data = JSON.parse(/^data: (.*)$/m.exec(block)[1]);
      if (name === "error") throw new Problem(data);
      yield [name, data];
    }
  }
}
