// Helpers for the DOM, and how figures are written. Texts become text nodes, never markup.

export const $ = id => document.getElementById(id);

const HANDLERS = ["onclick", "onsubmit", "oninput"];

/** An element with attributes, properties (text, and handlers: onclick, onsubmit, oninput) and children. */
export function element(name, given = {}, ...children) {
  return filled(document.createElement(name), given, children);
}

/** The same for SVG. */
export function drawn(name, given = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), given, children);
}

function filled(made, {text, ...given}, children) {
  if (text !== undefined && text !== null) made.textContent = text;
  for (const [key, value] of Object.entries(given)) {
    if (HANDLERS.includes(key)) made[key] = value;
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...shown(children));
  return made;
}

const shown = children => children.flat().filter(child => child !== null && child !== undefined && child !== false);

export const count = value => value === null || value === undefined ? "?" : Number(value).toLocaleString("en", {maximumFractionDigits: 0});

export function rate(value) {
  if (value === null || value === undefined) return "?";
  return (value >= 100 ? value.toFixed(0) : value >= 10 || value === 0 ? value.toFixed(value === 0 ? 0 : 1) : value.toFixed(2)) + "/s";
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "?";
  if (seconds < 0) return "> 10 s";
  if (seconds < 1) return Math.round(seconds * 1000) + " ms";
  if (seconds < 90) return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
  if (seconds < 5400) return Math.round(seconds / 60) + " min";
  if (seconds < 129600) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

let ahead = 0;  // milliseconds that the console's clock is ahead of this one

/** Sets the console's clock by the date of one of its answers: that of a browser may be wrong by hours. */
export function setClock(date) {
  const found = Date.parse(date) - Date.now();
  if (found) ahead = Math.abs(found) > 2000 ? found : 0;  // the header has whole seconds
}

/** The time by the console's clock, in seconds. */
export const now = () => (Date.now() + ahead) / 1000;
export const ago = at => at === null || at === undefined ? "?" : duration(Math.max(0, now() - at)) + " ago";
export const time = at => at === null || at === undefined ? "" : new Date(at * 1000).toLocaleString("en-GB", {dateStyle: "short", timeStyle: "medium"});
export const bytes = size => size < 10240 ? count(size) + " B" : size < 10485760 ? (size / 1024).toFixed(0) + " KiB" : (size / 1048576).toFixed(1) + " MiB";
export const dollars = value => "$" + value.toFixed(value >= 1 || value === 0 ? 2 : 6);
export const cut = (text, length) => text.length > length ? text.slice(0, length - 1) + "…" : text;

/** A table in a region that can be scrolled by keyboard; cells are texts or elements, or {text, class}. */
export function table(label, columns, rows, empty = "None.") {
  if (!rows.length) return element("p", {class: "soft", text: empty});
  const head = columns.map(each => element("th", {scope: "col", class: each.class, text: each.name ?? each}));
  return element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": label},
    element("table", {}, element("thead", {}, element("tr", {}, head)),
      element("tbody", {}, rows.map(row => element("tr", {}, row.map((cell, place) => celled(cell, columns[place], place)))))));
}

function celled(cell, column, place) {
  const attributes = {class: column.class, ...(place === 0 ? {scope: "row"} : {})};
  const name = place === 0 ? "th" : "td";
  return cell instanceof Node || Array.isArray(cell) ? element(name, attributes, cell) : element(name, {...attributes, text: cell});
}

export const card = (title, actions, ...children) => {
  const id = "card-" + title.toLowerCase().replace(/[^a-z0-9]+/g, "-");
  return element("section", {class: "card", "aria-labelledby": id},
    element("div", {class: "head"}, element("h2", {id, text: title}), actions), children);
};

export const button = (text, onclick, attributes = {}) => element("button", {type: "button", text, onclick, ...attributes});

let pressed = null, release = 0;
const held = new Map();  // by place, what is drawn there once the press is over

addEventListener("pointerdown", event => { clearTimeout(release); pressed = event.target; }, true);
for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => {
  release = setTimeout(released, 50);  // the click comes after the pointer is up
}, end !== "blur");

function released() {
  pressed = null;
  for (const [place, wanted] of held) draw(place, wanted);
  held.clear();
}

/**
 * Makes what is in a place look like the children, and keeps what is the same: what has the focus or is read.
 * While something in it is pressed it waits: a click on an element that is replaced before the button is up is lost.
 * Whatever can be pressed has a data-key that says what it is for.
 */
export function replace(place, ...children) {
  if (place.contains(pressed)) held.set(place, shown(children));
  else draw(place, shown(children));
}

function draw(place, wanted) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  align(place, wanted);
  if (key !== undefined && !place.contains(document.activeElement)) [...place.querySelectorAll("[data-key]")].find(each => each.dataset.key === key)?.focus();
}

function align(place, wanted) {
  const had = [...place.childNodes];
  wanted.forEach((child, index) => index < had.length ? become(had[index], child) : place.append(child));
  for (const rest of had.slice(wanted.length)) rest.remove();
}

function become(had, wanted) {
  if (!(wanted instanceof Node)) wanted = document.createTextNode(wanted);
  if (had.nodeName !== wanted.nodeName || had.dataset?.key !== wanted.dataset?.key) had.replaceWith(wanted);
  else if (had instanceof Element) alter(had, wanted);
  else if (had.data !== wanted.data) had.data = wanted.data;
}

function alter(had, wanted) {
  for (const {name} of [...had.attributes]) if (!wanted.hasAttribute(name)) had.removeAttribute(name);
  for (const {name, value} of wanted.attributes) if (had.getAttribute(name) !== value) had.setAttribute(name, value);
  for (const name of HANDLERS) had[name] = wanted[name];
  align(had, [...wanted.childNodes]);
}
