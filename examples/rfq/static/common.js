// What both pages share: calls with a token where one is asked for, events, and small helpers for the DOM.

export const $ = id => document.getElementById(id);

const ROLES = {"/unicorn": "unicorn"};
const kept = "rfq-token-" + (ROLES[location.pathname] ?? "customer");
const OWN = "own-";  // what a token begins with that a unicorn made for itself
export const SILENCE_MS = 45_000;  // the service sends something each 15 s
const ANSWER_MS = 60_000;  // for an answer: what a sleep has cut off brings nothing
let asking = null;

/** The token of this tab, or null. A unicorn needs one everywhere: without another it makes one, which says who it is. */
export function token() {
  if (kept === "rfq-token-unicorn" && sessionStorage.getItem(kept) === null) {
    const bytes = crypto.getRandomValues(new Uint8Array(24));
    sessionStorage.setItem(kept, OWN + [...bytes].map(byte => byte.toString(16).padStart(2, "0")).join(""));
  }
  return sessionStorage.getItem(kept);
}

/** A refusal or failure, in words for people. */
export class Refused extends Error {
  constructor(detail, status, seconds = 0) {
    super(detail);
    this.status = status;
    this.retry = seconds;
  }
}

/** Calls the API; asks for a token and calls again where it wants one. Returns the response, which is ok; a `signal` of the caller is the only limit. */
export async function call(path, options = {}) {
  const used = token();
  const headers = {...options.headers, ...(used ? {Authorization: "Bearer " + used} : {})};
  let answer;
  try {
    answer = await fetch(path, {signal: AbortSignal.timeout(ANSWER_MS), ...options, headers});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The service cannot be reached. Is it running?", 0);
  }
  if (answer.status === 401) {
    await login(used !== null && !used.startsWith(OWN));
    return call(path, options);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(problem.detail || answer.statusText, answer.status, Number(answer.headers.get("Retry-After")));
}

/** The JSON of an answer, in full. */
export const read = answer => answer.json().catch(error => {
  if (error.name === "AbortError") throw error;
  throw new Refused("The answer was cut off. Is the service running?", 0);
});

/** As `call`, with a JSON body. */
export const send = (method, path, body) =>
  call(path, {method, headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)});

function login(again) {
  asking ??= new Promise(done => {
    const dialog = $("login"), field = dialog.querySelector("input");
    if (again) dialog.querySelector(".hint").textContent = "That token is not valid. Try another one.";
    field.value = "";
    dialog.addEventListener("cancel", event => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(kept, field.value.trim());
      asking = null;
      done();
    }, {once: true});
    dialog.showModal();
  });
  return asking;
}

/**
 * Server-sent events as [kind, data], until the stream ends, the signal, or a silence: a connection that a sleep has cut
 * stays open and brings nothing. (An EventSource cannot send a token.)
 */
export async function* events(path, signal) {
  const silence = new AbortController();
  let timer = 0, buffered = "";
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => silence.abort(), SILENCE_MS); };
  try {
    heard();
    const answer = await call(path, {signal: AbortSignal.any([signal, silence.signal])});
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const {done, value} = await reader.read();
      if (done) return;
      heard();
      const blocks = (buffered + value).split("\n\n");
      buffered = blocks.pop();
      for (const block of blocks) {
        const fields = Object.fromEntries(block.split("\n").map(line => line.split(/: (.*)/s, 2)));
        if (signal.aborted) return;
        if (fields.event) yield [fields.event, JSON.parse(fields.data)];
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

/** Waits, and no longer than until the signal. */
export const pause = (seconds, signal) => new Promise(done => {
  const timer = setTimeout(done, seconds * 1000);
  signal?.addEventListener("abort", () => { clearTimeout(timer); done(); }, {once: true});
});

/** Calls `look` now and every so many seconds while the page is seen, one call at a time. */
export async function every(seconds, look) {
  for (;;) {
    if (!document.hidden) await look();
    await pause(seconds);
  }
}

/** An element with attributes, properties (text, onclick) and children. */
export function element(name, {text, onclick, ...attributes} = {}, ...children) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (onclick) made.addEventListener("click", onclick);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

/** The same for SVG. */
export function drawn(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}
