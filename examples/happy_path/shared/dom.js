// What the pages share: finding, making and drawing elements, asking for JSON, and showing what goes wrong.

export const $ = (selector) => document.querySelector(selector);

const ANSWER_MS = 60_000;
const RETRY_MS = 2_000;
const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** A refusal or failure, in words for people. */
export class Refused extends Error {
  constructor(text, status = 0) {
    super(text);
    this.status = status;
  }
}

/** Asks for JSON; raises `Refused` where there is none. An upload may need more time: give it a `signal` of null. */
export async function json(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { signal: AbortSignal.timeout(ANSWER_MS), ...options });
  } catch {
    throw new Refused("The service cannot be reached. Is it running?");
  }
  if (!answer.ok) {
    const body = await answer.json().catch(() => ({}));
    throw new Refused(body.detail || body.title || answer.statusText, answer.status);
  }
  return answer.json().catch(() => {
    throw new Refused("The answer was cut off. Is the service running?");
  });
}

/** Shows people what is wrong, in the page's alert; null: nothing is. */
export function problem(text) {
  $("#problem").textContent = text ?? "";
  $("#problem").hidden = !text;
}

/** Does something for a control; what goes wrong is shown. */
export async function attempt(action) {
  problem(null);
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

/** Does something again until it succeeds, and returns its result; meanwhile what goes wrong is shown. */
export async function persist(action) {
  for (let shown = null; ; ) {
    try {
      const result = await action();
      if (shown !== null && $("#problem").textContent === shown) problem(null); // no other: a person may not have read it yet
      return result;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem((shown = error.message));
      await pause(RETRY_MS);
    }
  }
}

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

let pressed = false;
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) {
  addEventListener(end, () => setTimeout(() => { pressed = false; }, 50), end !== "blur"); // the click comes after the pointer is up
}

/**
 * Makes a place hold these elements; one that is as before stays, with its focus. Nothing is drawn while something is pressed:
 * a click on an element that is replaced before the button is up is lost. The next look draws it.
 */
export function draw(place, wanted) {
  if (pressed) return;
  const focused = document.activeElement?.id;
  wanted.forEach((each, index) => {
    const had = place.children[index];
    if (!had) place.append(each);
    else if (!had.isEqualNode(each)) had.replaceWith(each);
  });
  while (place.children.length > wanted.length) place.lastElementChild.remove();
  if (focused && document.activeElement?.id !== focused) document.getElementById(focused)?.focus();
}

/** Calls `look` once in a while, one call at a time, so that the latest answer is the one that is shown. */
export async function every(milliseconds, look) {
  for (;;) {
    await pause(milliseconds);
    if (!document.hidden) await persist(look);
  }
}
