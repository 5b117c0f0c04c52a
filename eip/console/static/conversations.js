// One conversation as a sequence diagram, and the latest ones to choose from.

import {read} from "./api.js";
import {ago, card, count, cut, drawn, duration, element, replace, table, time} from "./dom.js";
import {every, newest} from "./page.js";

const LANE = 170, STEP = 46, TOP = 44;

export async function show(place, id) {
  const field = element("input", {type: "search", value: id, maxlength: 200, size: 36});
  const shown = element("div");
  const onsubmit = event => {
    event.preventDefault();
    location.hash = "conversations/" + encodeURIComponent(field.value.trim());
  };
  place.append(element("form", {class: "fields", onsubmit}, element("label", {text: "Correlation, trace or message id"}, field), element("button", {class: "primary", text: "Show"})), shown);
  const look = newest(() => read("conversation", {id}), found => fill(shown, id, found));
  await look();
  return every(shown, look, 3000);
}

function fill(place, id, found) {
  if (!id) {
    replace(place, card("Latest", null, table("Latest", ["Conversation", "Type", "Latest", {name: "Steps", class: "number"}, {name: "Failed", class: "number"}], found.latest.map(each => [
      element("a", {href: "#conversations/" + encodeURIComponent(each.id), text: each.id, "data-key": each.id}), each.type ?? "untyped", ago(each.at), count(each.steps), each.failed ? element("span", {class: "bad", text: count(each.failed)}) : "0"]), "Nothing was sent or handled in this process since the console began to keep it.")));
    return;
  }
  if (!found.steps.length) {
    replace(place, element("p", {class: "soft", text: `Nothing is known of it: this process keeps its last ${count(found.kept)} events, and the dead letters that were looked at.`}));
    return;
  }
  replace(place, card("Sequence", null, element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Sequence diagram"}, diagram(found))),
    card("Steps", null, table("Steps", ["At", "From", "To", "What", {name: "Took", class: "number"}, {name: "Failed", class: "wide"}], found.steps.map(step => [
      time(step.at), step.from, step.to, `${step.type} ${step.kind.replace("_", " ")}`, step.seconds === null ? "" : duration(step.seconds), step.error ? element("span", {class: "bad", text: step.error}) : ""]))),
    found.is_cut ? element("p", {class: "soft", text: "It goes on; this is its beginning."}) : null);
}

function diagram({participants, steps}) {
  const width = participants.length * LANE + 10, height = TOP + steps.length * STEP + 20;
  const x = name => LANE / 2 + participants.indexOf(name) * LANE;
  const head = drawn("defs", {}, drawn("marker", {id: "step-head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto"}, drawn("path", {d: "M0 0L8 4L0 8z", class: "tip"})));
  return drawn("svg", {class: "drawn", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${steps.length} steps between ${participants.join(", ")}`}, head,
    participants.map(name => [drawn("line", {class: "life", x1: x(name), x2: x(name), y1: TOP - 8, y2: height}),
      drawn("text", {class: "name", x: x(name), y: 22, "text-anchor": "middle", text: cut(name, 20)}, drawn("title", {text: name}))]).flat(),
    steps.flatMap((step, place) => arrow(step, x(step.from), x(step.to), TOP + (place + .6) * STEP)));
}

function arrow(step, from, to, y) {
  const label = `${step.type}${step.seconds === null ? "" : " · " + duration(step.seconds)}`;
  const middle = (from + to) / 2;
  return [drawn("path", {class: step.error ? "line bad" : "line", d: `M${from} ${y}L${to} ${y}`, "marker-end": "url(#step-head)"}),
    drawn("text", {class: step.error ? "bad" : "label", x: middle, y: y - 5, "text-anchor": "middle", text: cut(label, 24)}, drawn("title", {text: step.error ?? label})),
    step.error ? drawn("text", {class: "label", x: middle, y: y + 13, "text-anchor": "middle", text: cut(step.error, 28)}) : null];
}
