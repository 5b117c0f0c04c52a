// The map: zones, pins, and unicorns on their ways, each in the state that its answer puts it in.

import {$, drawn} from "./common.js";

const SIDE = 600;
const at = place => [place.x * SIDE, (1 - place.y) * SIDE];
const herd = new Map();
const PIN = "M0 0C-3-8-11-12-11-21a11 11 0 1 1 22 0C11-12 3-8 0 0z";

/** Draws the zones, as many a side. */
export function drawZones(count) {
  if ($("zones").childElementCount === count * count) return;
  const side = SIDE / count;
  const zones = [];
  for (let x = 0; x < count; x++) for (let y = 0; y < count; y++) {
    const corner = {x: x * side, y: SIDE - (y + 1) * side, width: side, height: side};
    zones.push(drawn("rect", {class: "zone", "data-zone": x + "-" + y, ...corner}));
  }
  $("zones").replaceChildren(...zones);
}

/** Marks zones: those whose unicorns are asked. */
export function nearZones(near) {
  for (const zone of $("zones").children) zone.classList.toggle("near", near.includes(zone.dataset.zone));
  $("zones").append(...$("zones").querySelectorAll(".near"));
}

/** The place that a click on the map means. */
export function positionAt(event) {
  const box = $("map").getBoundingClientRect(), side = Math.min(box.width, box.height);
  const x = (event.clientX - box.left - (box.width - side) / 2) / side;
  const y = 1 - (event.clientY - box.top - (box.height - side) / 2) / side;
  return {x, y};
}

/** Shows start and destination, and the zones whose unicorns are asked. */
export function showRide(start, to) {
  nearZones(start.zones);
  const [x, y] = at(start), [u, v] = at(to);
  const bend = Math.hypot(u - x, v - y) / 5;
  $("route").setAttribute("d", `M${x} ${y}Q${(x + u) / 2} ${(y + v) / 2 - bend} ${u} ${v}`);
  $("pins").replaceChildren(pin("to", to), pin("from", start));
}

/** Shows where rides start. */
export function showStarts(starts) { $("pins").replaceChildren(...starts.map(start => pin("from", start))); }

function pin(kind, place) {
  const [x, y] = at(place);
  const mark = drawn("g", {class: "mark"}, drawn("path", {d: PIN}), drawn("circle", {cy: -21, r: 4.5}));
  const anchor = x < 90 ? "start" : x > SIDE - 90 ? "end" : "middle";
  const name = drawn("text", {"text-anchor": anchor, y: y < 60 ? 20 : -40});
  name.textContent = place.place.length > 24 ? place.place.slice(0, 23) + "…" : place.place;
  mark.append(name);
  return drawn("g", {class: "pin " + kind, transform: `translate(${x} ${y})`}, mark);
}

/** Draws the map nearer, so that the ride and the zones that are asked fill it; without a ride: the whole city. */
export function zoom(start, to) {
  const zones = start ? [...$("zones").querySelectorAll(".near")] : [];
  let scale = 1, x = 0, y = 0;
  if (zones.length) {
    const edges = name => zones.flatMap(zone => [Number(zone.getAttribute(name)), Number(zone.getAttribute(name)) + Number(zone.getAttribute("width"))]);
    const xs = [...edges("x"), at(start)[0], at(to)[0]], ys = [...edges("y"), ...[start, to].flatMap(each => [at(each)[1] - 50, at(each)[1] + 15])];
    const [west, east, north, south] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const seen = Math.min(SIDE, Math.max(east - west, south - north) + 50);
    scale = SIDE / seen;
    const inside = middle => Math.min(Math.max(0, middle - seen / 2), SIDE - seen);
    [x, y] = [inside((west + east) / 2), inside((north + south) / 2)];
  }
  $("world").style.transform = `scale(${scale}) translate(${-x}px, ${-y}px)`;
  $("map").style.setProperty("--mark", Math.pow(scale, -0.75));
}

/** Moves the unicorns to where they are now. */
export function moveHerd(unicorns) {
  const seen = new Set();
  for (const each of unicorns) {
    seen.add(each.unicorn);
    const mark = herd.get(each.unicorn) ?? join(each);
    const [x, y] = at(each);
    mark.style.transform = `translate(${x}px, ${y}px)`;
  }
  for (const [unicorn, mark] of herd) if (!seen.has(unicorn)) {
    mark.remove();
    herd.delete(unicorn);
  }
}

function join(each) {
  const mark = drawn("g", {class: "unicorn"});
  const title = drawn("title");
  title.textContent = each.name;
  const price = drawn("text", {class: "price", "text-anchor": "middle", y: -22});
  const face = drawn("g", {class: "face"}, drawn("use", {href: "#unicorn"}));
  mark.append(drawn("g", {class: "mark"}, title, drawn("circle", {class: "pulse"}), drawn("circle", {class: "body"}), face, price));
  herd.set(each.unicorn, mark);
  $("herd").append(mark);
  return mark;
}

/** Marks each unicorn by its state; `states` maps ids to class names, `prices` to what they ask. */
export function markHerd(states, prices) {
  for (const [unicorn, mark] of herd) {
    const wanted = "unicorn " + (states.get(unicorn) ?? "");
    if (mark.getAttribute("class") !== wanted) {
      mark.setAttribute("class", wanted);
      if (/quoted|waiting|late/.test(wanted)) $("herd").append(mark); else $("herd").prepend(mark);
    }
    mark.querySelector(".price").textContent = prices.has(unicorn) ? prices.get(unicorn).toFixed(2) : "";
  }
  const first = $("herd").querySelector(".chosen") ?? $("herd").querySelector(".best");
  if (first && first !== $("herd").lastChild) $("herd").append(first);
}
