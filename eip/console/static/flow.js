// The flow: channels and handlers as a diagram, and the same figures as tables.

import {read} from "./api.js";
import {card, count, cut, drawn, duration, element, now, rate, replace, table} from "./dom.js";
import {doing} from "./page.js";

const BOX = {width: 176, height: 66}, GAP = {along: 64, across: 22};
const narrow = matchMedia("(max-width: 640px)");
let graph = null, diagram = null, nodes = new Map(), places = {};

narrow.addEventListener("change", draw);

/** Shows the view in a place; returns what is called with each state, which draws again after a deployment of another graph. */
export async function show(place) {
  await load(place);
  let loading = false;
  return state => {
    if (!place.isConnected) return;
    if (state.flow === graph.version) return update(state);
    if (loading) return;
    loading = true;
    doing(() => load(place)).finally(() => { loading = false; });
  };
}

async function load(place) {
  const found = await read("flow");
  if (!place.isConnected) return;
  graph = found;
  diagram = element("div", {class: "scroll", tabindex: "0", role: "region", "aria-label": "Flow diagram"});
  places = Object.fromEntries(["channels", "handlers", "parts"].map(name => [name, element("div")]));
  place.replaceChildren(
    card("Flow", null, graph.nodes.length ? diagram : element("p", {class: "soft", text: "No channel is declared, and nothing consumes."})),
    card("Channels", null, places.channels), card("Handlers", null, places.handlers), card("Health", null, places.parts));
  draw();
}

function draw() {
  diagram?.replaceChildren(picture(narrow.matches));
}

function picture(down) {
  nodes = new Map();
  const at = new Map(graph.nodes.map(node => [node.id, corner(node, down)]));
  const width = Math.max(200, ...[...at.values()].map(([x]) => x + BOX.width)) + 10;
  const height = Math.max(80, ...[...at.values()].map(([, y]) => y + BOX.height)) + 10;
  const head = drawn("defs", {}, drawn("marker", {id: "flow-head", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto"}, drawn("path", {d: "M0 0L8 4L0 8z", class: "tip"})));
  const summary = `${graph.nodes.length} channels and handlers, ${graph.edges.length} ways between them; the tables below have the same figures`;
  return drawn("svg", {class: "drawn", width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": summary}, head,
    graph.edges.map(edge => line(at.get(edge.start), at.get(edge.end), edge, down)),
    graph.nodes.map(node => box(node, at.get(node.id))));
}

const corner = ({layer, row}, down) => down
  ? [6 + row * (BOX.width + GAP.across), 6 + layer * (BOX.height + GAP.along * .6)]
  : [6 + layer * (BOX.width + GAP.along), 6 + row * (BOX.height + GAP.across)];

function line([x1, y1], [x2, y2], edge, down) {
  const start = down ? [x1 + BOX.width / 2, y1 + BOX.height] : [x1 + BOX.width, y1 + BOX.height / 2];
  const end = down ? [x2 + BOX.width / 2, y2] : [x2, y2 + BOX.height / 2];
  const bend = GAP.along * .6;
  const middle = down ? `${start[0]} ${start[1] + bend / 2} ${end[0]} ${end[1] - bend / 2}` : `${start[0] + bend} ${start[1]} ${end[0] - bend} ${end[1]}`;
  const path = drawn("path", {class: "line", "marker-end": "url(#flow-head)", d: `M${start.join(" ")}C${middle} ${end.join(" ")}`});
  if (edge.label) path.append(drawn("title", {text: edge.label}));
  return path;
}

function box(node, [x, y]) {
  const round = node.kind === "handler" || node.kind === "app" ? 12 : 3;
  const texts = [["name", 21], ["figure", 39], ["figure", 56]].map(([name, down]) => drawn("text", {class: name, x: x + 10, y: y + down}));
  const title = drawn("title", {text: `${node.kind} ${node.name}`});
  texts[0].textContent = cut(node.name, 22);
  const group = drawn("g", {class: node.kind}, title, drawn("rect", {class: "box", x, y, width: BOX.width, height: BOX.height, rx: round}), texts);
  nodes.set(node.id, {group, texts, title});
  return group;
}

function update(state) {
  const figures = graph.nodes.map(node => ({...node, ...state.nodes[node.id]}));
  for (const node of figures) label(node);
  replace(places.channels, channels(figures.filter(node => node.kind !== "handler" && node.kind !== "app")));
  replace(places.handlers, handlers(figures.filter(node => node.kind === "handler")));
  replace(places.parts, parts(state.parts));
}

function label(node) {
  const shown = nodes.get(node.id);
  if (!shown) return;
  const [first, second, failing] = node.kind === "handler" ? ofHandler(node) : node.kind === "app" ? ["sends", "", false] : ofChannel(node);
  shown.texts[1].textContent = first;
  shown.texts[2].textContent = second;
  shown.texts[2].classList.toggle("bad", failing);
  shown.group.classList.toggle("failing", failing);
  shown.title.textContent = `${node.kind} ${node.name}: ${first} ${second}`;
}

function ofChannel(node) {
  const sent = node.sent === null || node.sent === undefined ? node.kind : `${rate(node.sent)} in`;
  if (node.kind !== "queue") return [sent, "", false];
  if (node.gone) return ["gone", "no such queue", true];
  if (node.error) return ["? waiting", cut(node.error, 26), true];
  const waiting = node.known ? `${count(node.ready)} waiting` : "…";
  const age = node.age ? ` · ${duration(node.age)}` : "";
  return [`${waiting}${age}`, node.dead ? `${count(node.dead)} dead letters` : sent, Boolean(node.dead)];
}

function ofHandler(node) {
  const failures = (node.retried ?? 0) + (node.dead_lettered ?? 0);
  const first = `${rate(node.handled)} · ${count(node.in_flight)} in hand`;
  if (node.ok === false) return [first, cut(node.reason ?? "failing", 26), true];
  return failures > 0 ? [first, `${rate(failures)} failing`, true] : [first, node.p95 === null ? "idle" : `95 % in ${duration(node.p95)}`, false];
}

function channels(all) {
  const columns = ["Channel", {name: "In", class: "number"}, {name: "Waiting", class: "number"}, {name: "Delayed", class: "number"}, {name: "In hand", class: "number"}, {name: "Oldest", class: "number"}, {name: "Dead letters", class: "number"}];
  return table("Channels", columns, all.map(node => {
    if (node.kind !== "queue") return [`${node.name} (${node.kind})`, rate(node.sent), "", "", "", "", ""];
    const waiting = node.gone ? element("span", {class: "bad", text: "gone"}) : node.error ? element("span", {class: "bad", text: "?", title: node.error}) : count(node.ready);
    const dead = node.dead ? element("a", {class: "bad", href: "#dead-letters", text: count(node.dead), "data-key": "dead " + node.name}) : node.dead_letters?.length ? count(node.dead) : "";
    return [node.name, rate(node.sent), waiting, count(node.delayed), count(node.leased), node.age === null || node.age === undefined ? "" : duration(node.age), dead];
  }));
}

function handlers(all) {
  const columns = ["Handler", {name: "Handled", class: "number"}, {name: "Tried again", class: "number"}, {name: "Dead-lettered", class: "number"}, {name: "In hand", class: "number"}, {name: "95 % within", class: "number"}, {name: "Oldest in hand", class: "number"}, "State"];
  return table("Handlers", columns, all.map(node => [
    node.name, rate(node.handled), rate(node.retried), `${rate(node.dead_lettered)} (${count(node.dead_lettered_total)})`, count(node.in_flight),
    node.p95 === null ? "" : duration(node.p95), node.backlog_age ? duration(node.backlog_age) : "",
    node.ok === null ? element("span", {class: "pill", text: "not run here"}) : node.ok ? element("span", {class: "pill good", text: "well"}) : element("span", {class: "pill bad", text: node.reason ?? "failing"})]), "No handler is declared.");
}

const parts = all => table("Health", ["Part", "State", {name: "Failing for", class: "number"}], all.map(part => [
  part.name, element("span", {class: part.ok ? "pill good" : "pill bad", text: part.ok ? "well" : part.reason ?? "failing"}),
  part.failing_since ? duration(Math.max(0, now() - part.failing_since)) : ""]), "Nothing runs in this process.");
