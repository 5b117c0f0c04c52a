// Processes, scheduled messages and requests in flight.

import {read, readText, send} from "./api.js";
import {ago, button, card, count, duration, element, now, rate, replace, table, time} from "./dom.js";
import {announce, ask, doing, every, newest, opening} from "./page.js";

const COLOURS = {completed: "good", running: "", waiting: "warn", compensating: "warn", compensated: "warn", cancelled: "warn", failed: "bad"};
const pill = status => element("span", {class: `pill ${COLOURS[status] ?? ""}`, text: status});
const wrong = each => each.error && element("p", {class: "bad", text: each.error});

// Processes.

export async function processes(place, id, me) {
  const status = element("select", {"aria-label": "Status"}, ["", ...Object.keys(COLOURS)].map(name => element("option", {value: name, text: name || "any status"})));
  const name = element("input", {type: "search", "aria-label": "Process", placeholder: "any process"});
  const list = element("div");
  const look = newest(() => read("processes", {status: status.value, process: name.value.trim()}), ({managers}) => {
    replace(list, managers.length ? managers.map(each => card(each.manager, null, wrong(each), instances(each, me, look))) : element("p", {class: "soft", text: "No process manager is in this application."}));
  });
  for (const control of [status, name]) control.addEventListener("change", () => doing(look));
  place.append(element("div", {class: "fields"}, status, name), list);
  await look();
  return every(list, look);
}

const instances = (manager, me, look) => table(manager.manager, ["Instance", "Process", "Status", "Stands at", "Began", {name: "Error", class: "wide"}, ""], (manager.instances ?? []).map(each => [
  button(each.id, () => instance(manager.manager, each.id), {class: "link", "data-key": "open " + each.id}),
  `${each.process} ${each.version}`, pill(each.status), where(each), ago(each.started_at), each.error ?? "", acting(manager.manager, each, me, look)]), "No instance.");

const where = each => each.ended_at ? `ended ${ago(each.ended_at)}` : `${each.step ?? "the end"}${each.attempt > 1 ? `, attempt ${each.attempt}` : ""}`;

function acting(manager, each, me, look) {
  if (me.role !== "operator") return "";
  return element("div", {class: "actions"},
    each.can_retry ? button("Retry", async () => { if (await doing(() => send("process/retry", {manager, id: each.id}))) { announce(`${each.id} goes on`); await doing(look); } }, {"aria-label": `Retry ${each.id}`, "data-key": "retry " + each.id}) : null,
    each.can_cancel ? button("Cancel", () => cancel(manager, each, look), {class: "danger", "aria-label": `Cancel ${each.id}`, "data-key": "cancel " + each.id}) : null);
}

function cancel(manager, each, look) {
  const reason = element("input", {type: "text", maxlength: 200});
  ask(`Cancel ${each.process} ${each.id}?`, "Cancel the process", [
    element("p", {class: "soft", text: "A step that is under way ends first; then what was done is compensated."}), element("label", {text: "Reason"}, reason)],
  async () => { await send("process/cancel", {manager, id: each.id, reason: reason.value || undefined}); announce(`${each.id} goes back`); await look(); }, {danger: true, cancel: "Keep it"});
}

const instance = (manager, id) => opening(
  () => Promise.all([read("process", {manager, id}), readText("process.svg", {manager, id}).catch(() => null)]),
  found => opened(...found));

function opened(each, picture) {
  const drawn = picture === null ? null : document.importNode(new DOMParser().parseFromString(picture, "image/svg+xml").documentElement, true);
  const visits = each.history.map(visit => [visit.step + (visit.undo ? " (undone)" : ""), visit.outcome, count(visit.attempts), time(visit.started_at), visit.ended_at ? duration(visit.ended_at - visit.started_at) : "", visit.detail]);
  ask(`${each.process} ${each.version}: ${each.id}`, "", element("div", {},
    element("p", {}, pill(each.status), " ", where(each)), each.error ? element("p", {class: "bad", text: each.error}) : null,
    drawn ? element("div", {class: "picture", tabindex: "0", role: "region", "aria-label": "Diagram"}, drawn) : null,
    element("h3", {text: "History"}), table("History", ["Step", "Outcome", {name: "Attempts", class: "number"}, "Began", {name: "Took", class: "number"}, "Detail"], visits, "Nothing yet."),
    each.children.length ? [element("h3", {text: "Branches and items"}), table("Children", ["Instance", "Status", "Stands at"], each.children.map(child => [child.id, pill(child.status), where(child)]))] : null,
    element("h3", {text: "State"}), element("pre", {tabindex: "0", text: each.state})), () => undefined, {cancel: "Close"});
}

// Scheduled messages.

export async function scheduled(place, _, me) {
  const list = element("div");
  const look = newest(() => read("scheduled"), ({schedulers}) => {
    replace(list, schedulers.length ? schedulers.map(each => card(each.scheduler, null, wrong(each), messages(each, me, look))) : element("p", {class: "soft", text: "No message scheduler is in this application."}));
  });
  place.append(list);
  await look();
  return every(list, look);
}

const messages = (scheduler, me, look) => table(scheduler.scheduler, ["Key", "Due", "To", "Type", "Again", "State", ""], (scheduler.messages ?? []).map(each => [
  button(each.key, () => ask(each.key, "", element("pre", {tabindex: "0", text: each.body}), () => undefined, {cancel: "Close"}), {class: "link", "data-key": "open " + each.key}),
  time(each.due), each.to, each.type ?? "untyped", each.cron ?? (each.interval ? "every " + duration(each.interval) : "once"),
  each.refused ? element("span", {class: "pill bad", text: "refused: " + each.refused}) : each.failures ? element("span", {class: "pill warn", text: `${each.failures} failures`}) : element("span", {class: "pill", text: "waits"}),
  me.role === "operator" ? element("div", {class: "actions"},
    each.cron || each.interval ? null : button("Send now", () => change("scheduled/send", scheduler, each, look), {"aria-label": `Send ${each.key} now`, "data-key": "send " + each.key}),
    button("Cancel", () => ask(`Cancel ${each.key}?`, "Cancel the message", element("p", {text: `To ${each.to}, ${time(each.due)}`}), () => changed("scheduled/cancel", scheduler, each, look), {danger: true, cancel: "Keep it"}), {class: "danger", "aria-label": `Cancel ${each.key}`, "data-key": "cancel " + each.key})) : ""]), "Nothing is scheduled.");

async function changed(path, scheduler, each, look) {
  const {changed: done} = await send(path, {scheduler: scheduler.scheduler, key: each.key});
  announce(done ? `${each.key}: done` : `${each.key} was sent or cancelled before`);
  await look();
}

const change = (...given) => doing(() => changed(...given));

// Scatter-gathers.

export async function requests(place) {
  const list = element("div");
  const look = newest(() => read("requests"), ({gatherers}) => {
    replace(list, gatherers.length ? gatherers.map(gatherer) : element("p", {class: "soft", text: "No scatter-gather is in this application."}));
  });
  place.append(list);
  await look();
  return every(list, look);
}

const taken = new Map();  // by scatter-gather, replies and when they were counted

function pace(each) {
  const at = performance.now() / 1000, [before, then] = taken.get(each.name) ?? [each.taken, at];
  taken.set(each.name, [each.taken, at]);
  return at - then < 1 ? "" : `, ${rate(Math.max(0, each.taken - before) / (at - then))}`;
}

const gatherer = each => card(each.name, element("span", {class: "soft", text: `${count(each.in_flight)} in flight here, ${count(each.taken)} replies taken${pace(each)}, ${count(each.late)} late, ${count(each.unknown)} unknown, ${count(each.ambiguous)} ambiguous`}), wrong(each),
  table(each.name, ["Request", "Type", "Asked", "Ends in", {name: "Answers", class: "number"}, {name: "Failed", class: "number"}, "Missing"], (each.requests ?? []).map(request => [
    element("a", {href: "#conversations/" + encodeURIComponent(request.correlation_id), text: request.id, "data-key": request.id}),
    request.type ?? "untyped", ago(request.started_at), request.deadline ? duration(Math.max(0, request.deadline - now())) : "",
    `${count(request.replies)}${request.expected === null ? "" : " of " + count(request.expected)}`, count(request.errors), request.missing?.join(", ") ?? ""]), "Nobody is asked at the moment."));
