// Calls of the console's API: with the tab's token where one is asked for, and errors in words for people.

import {$, setClock} from "./dom.js";

const KEPT = "eip-console-token " + location.pathname;
const ANSWER_MS = 60_000, SILENCE_MS = 30_000;  // for an answer; for a state that is due
let asking = null;

/** Refusals that another try will not change. */
export const isFinal = error => error.status === 403 || error.status === 421;

/** A refusal or failure, in words for people. */
export class Refused extends Error {
  constructor(text, status) {
    super(text);
    this.status = status;
  }
}

/** Calls the API; asks for a token and calls again where it wants one. Returns the response, which is ok. */
export async function call(path, options = {}) {
  const token = sessionStorage.getItem(KEPT);
  const headers = {...options.headers, ...(token ? {Authorization: "Bearer " + token} : {})};
  let answer;
  try {
    answer = await fetch("api/" + path, {signal: AbortSignal.timeout(ANSWER_MS), ...options, headers});
  } catch {
    throw new Refused("The console cannot be reached. Is it running?", 0);
  }
  setClock(answer.headers.get("Date"));
  if (answer.status === 401) {
    await login(token !== null);
    return call(path, options);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(problem.detail || answer.statusText || "refused", answer.status);
}

const query = given => new URLSearchParams(Object.entries(given).filter(([, value]) => value !== undefined && value !== null && value !== "")).toString();

const whole = body => body.catch(() => { throw new Refused("The answer was cut off. Is the console running?", 0); });

export const read = async (path, given = {}) => whole((await call(path + "?" + query(given))).json());
export const readText = async (path, given = {}) => whole((await call(path + "?" + query(given))).text());
export const send = async (path, body) =>
  whole((await call(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).json());

function login(again) {
  asking ??= new Promise(done => {
    const dialog = $("login"), field = dialog.querySelector("input");
    if (again) $("login-hint").textContent = "That token is not valid. Try another one.";
    field.value = "";
    dialog.addEventListener("cancel", event => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEPT, field.value.trim());
      asking = null;
      done();
    }, {once: true});
    dialog.showModal();
  });
  return asking;
}

export const pause = seconds => new Promise(done => setTimeout(done, seconds * 1000));

/**
 * Follows the state by server-sent events, for ever: one each `interval` seconds.
 * `problem` is called with a text, or with null once all is well.
 */
export async function follow(show, problem, interval) {
  for (let failures = 0; ; failures += 1) {
    const silence = new AbortController();
    let timer = 0;
    const heard = () => { clearTimeout(timer); timer = setTimeout(() => silence.abort(), interval * 1000 + SILENCE_MS); };
    try {
      heard();  // a connection that a sleep has cut stays open, and brings nothing
      const answer = await call("live", {signal: silence.signal});
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let buffered = ""; ;) {
        const {done, value} = await reader.read();
        if (done) break;
        heard();
        const blocks = (buffered + value).split("\n\n");
        buffered = blocks.pop();
        for (const block of blocks) {
          const data = block.split("\n").find(line => line.startsWith("data: "));
          if (data) show(JSON.parse(data.slice(6)));
        }
        failures = 0;
        problem(null);
      }
    } catch (error) {
      problem(error instanceof Refused ? error.message : "The connection was lost; trying again.");
      if (isFinal(error)) return;
    } finally {
      clearTimeout(timer);
    }
    await pause(Math.min(10, 1 + failures));
  }
}
