// Calls of the console's API: with the tab's token where one is asked for, and errors in words for people.

import {$} from "./dom.js";

const KEPT = "eip-console-token " + location.pathname;
let asking = null;

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
    answer = await fetch("api/" + path, {...options, headers});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The console cannot be reached. Is it running?", 0);
  }
  if (answer.status === 401) {
    await login(token !== null);
    return call(path, options);
  }
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({}));
  throw new Refused(problem.detail || answer.statusText || "refused", answer.status);
}

const query = given => new URLSearchParams(Object.entries(given).filter(([, value]) => value !== undefined && value !== null && value !== "")).toString();

export const read = async (path, given = {}) => (await call(path + "?" + query(given))).json();
export const readText = async (path, given = {}) => (await call(path + "?" + query(given))).text();
export const send = async (path, body) =>
  (await call(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body)})).json();

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

const pause = seconds => new Promise(done => setTimeout(done, seconds * 1000));

/** Follows the state by server-sent events, for ever; `problem` is called with a text, or with null once all is well. */
export async function follow(show, problem) {
  for (let failures = 0; ; failures += 1) {
    try {
      const answer = await call("live");
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let buffered = ""; ;) {
        const {done, value} = await reader.read();
        if (done) break;
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
      if (error.status === 403 || error.status === 421) return;
    }
    await pause(Math.min(10, 1 + failures));
  }
}
