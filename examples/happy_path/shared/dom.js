// What the pages share: finding, making and drawing elements, and asking for JSON.

export const $ = (selector) => document.querySelector(selector);

export async function json(url, options) {
  const answer = await fetch(url, options);
  if (answer.ok) return answer.json();
  const body = await answer.json().catch(() => ({}));
  throw new Error(body.detail || body.title || answer.statusText);
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
    await new Promise((done) => setTimeout(done, milliseconds));
    if (!document.hidden) await look().catch(() => {}); // the service may be there again at the next
  }
}
