// Helpers for the DOM, and how figures are written. Texts become text nodes, never markup.

export const $ = id => document.getElementById(id);

/** An element with attributes, properties (text, onclick, onsubmit, oninput) and children. */
export function element(name, {text, onclick, onsubmit, oninput, ...attributes} = {}, ...children) {
  return filled(document.createElement(name), {text, onclick, onsubmit, oninput, attributes}, children);
}

/** The same for SVG. */
export function drawn(name, {text, onclick, ...attributes} = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), {text, onclick, attributes}, children);
}

function filled(made, {text, onclick, onsubmit, oninput, attributes}, children) {
  if (text !== undefined && text !== null) made.textContent = text;
  if (onclick) made.addEventListener("click", onclick);
  if (onsubmit) made.addEventListener("submit", onsubmit);
  if (oninput) made.addEventListener("input", oninput);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children.flat().filter(child => child !== null && child !== undefined && child !== false));
  return made;
}

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

export const ago = at => at === null || at === undefined ? "?" : duration(Math.max(0, Date.now() / 1000 - at)) + " ago";
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

/**
 * Makes what is in a place look like the children, and keeps what is the same: what has the focus, is being pressed or read.
 * Whatever can be pressed has a data-key that says what it is for; one of the same key keeps what it does.
 */
export function replace(place, ...children) {
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  align(place, children.flat().filter(child => child !== null && child !== undefined && child !== false));
  if (key !== undefined && !place.contains(document.activeElement)) [...place.querySelectorAll("[data-key]")].find(each => each.dataset.key === key)?.focus();
}

function align(place, wanted) {
  const had = [...place.childNodes];
  wanted.forEach((child, index) => index < had.length ? become(had[index], child) : place.append(child));
  for (const rest of had.slice(wanted.length)) rest.remove();
}

function become(had, wanted) {
  if (!(wanted instanceof Node)) wanted = document.createTextNode(wanted);
  if (had.isEqualNode(wanted)) return;
  if (had.nodeType === Node.TEXT_NODE && wanted.nodeType === Node.TEXT_NODE) had.data = wanted.data;
  else if (had instanceof Element && wanted instanceof Element && had.cloneNode().isEqualNode(wanted.cloneNode())) align(had, [...wanted.childNodes]);
  else had.replaceWith(wanted);
}
