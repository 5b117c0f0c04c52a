// Dead letters: queues, groups that failed alike, letters page by page, and what operators do to them.

import {read, Refused, send} from "./api.js";
import {ago, button, bytes, count, cut, element, replace, table, time} from "./dom.js";
import {announce, ask, doing, ended, newest, opening} from "./page.js";

const LOOK_EVERY = 10;  // seconds between looks that leave no trace
let me, places, shown, totals, looked, looking;

/** Shows the view in a place; returns what is called with each state. */
export async function show(place, _, user) {
  [me, shown, totals, looked, looking] = [user, {queue: null, group: null, text: "", page: 1}, {}, new Map(), false];
  places = Object.fromEntries(["queues", "groups", "letters"].map(name => [name, element("div", {class: "card"})]));
  places.letters.hidden = true;
  place.append(places.queues, places.groups, places.letters);
  await refresh((await read("dead-letters")).queues);
  return update;
}

/** Looks again where the number of letters has changed, and a look leaves no trace. */
async function update(state) {
  totals = state.dead_letters;
  if (looking || !places.queues.isConnected) return;
  looking = true;
  try {
    let known = await read("dead-letters");
    for (const each of known.queues) {
      const total = totals[each.queue]?.total, before = looked.get(each.queue);
      const due = !before || (before.total !== total && performance.now() - before.at > 1000) || (total === null && performance.now() - before.at > LOOK_EVERY * 1000);
      if (each.peek_is_receive || each.gone || !due || (total === 0 && !each.look)) continue;
      looked.set(each.queue, {total, at: performance.now()});
      known = await send("look", {queue: each.queue});
      if (shown.queue === each.queue) await page();
    }
    queues(known.queues.map(each => ({...each, ...totals[each.queue]})));
    groups(known.queues);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
  } finally {
    looking = false;
  }
}

async function refresh(all) {
  queues(all.map(each => ({...each, ...totals[each.queue]})));
  groups(all);
  if (shown.queue) await page();
}

function queues(all) {
  const rows = all.map(each => [
    each.queue,
    each.sources.join(", "),
    each.gone ? element("span", {class: "bad", text: "gone"}) : each.error ? element("span", {class: "bad", text: "? " + each.error}) : count(each.total),
    each.look ? `${count(each.look.count)}${each.look.is_complete ? "" : " of more"}, ${ago(each.look.at)}` : "not yet",
    element("div", {class: "actions"}, button("Look", () => look(each), {"aria-label": `Look at ${each.queue}`, "data-key": "look " + each.queue}),
      operator(button("Redrive all", () => redrive(each.queue, {}, "all of its messages"), {"aria-label": `Redrive all of ${each.queue}`, "data-key": "all " + each.queue, disabled: each.total === 0}))),
  ]);
  const traces = all.some(each => each.peek_is_receive);
  replace(places.queues, element("h2", {text: "Queues of dead letters"}),
    traces ? element("p", {class: "warn", text: "On this service each look counts as a receive of the messages that it shows, and hides them for a moment; so nobody looks unless you ask."}) : null,
    table("Queues of dead letters", ["Queue", "Failed on", {name: "Messages", class: "number"}, "Looked at", ""], rows, "No queue of dead letters is known: the topology declares none."));
}

const operator = made => me.role === "operator" ? made : null;

async function look(each) {
  const found = await doing(() => send("look", {queue: each.queue}));
  if (!found) return;
  looked.set(each.queue, {total: totals[each.queue]?.total, at: performance.now()});
  await refresh(found.queues);
  announce(`looked at ${each.queue}`);
}

function groups(all) {
  const rows = all.flatMap(each => (each.look?.groups ?? []).map(group => ({...group, queue: each.queue}))).sort((a, b) => b.count - a.count);
  replace(places.groups, element("h2", {text: "Failed alike"}),
    table("Groups", [{name: "Messages", class: "number"}, {name: "Reason", class: "wide"}, "Handler", "Type", "Latest", ""], rows.map(group => [
      count(group.count),
      button(group.reason, () => open(group.queue, group), {class: "link", "data-key": `open ${group.queue} ${group.key}`}),
      [group.handlers.join(", ") || "?", element("div", {class: "soft", text: group.source || group.queue})],
      group.type || "untyped", ago(group.latest_at),
      operator(element("div", {class: "actions"},
        button("Redrive", () => redrive(group.queue, {group: group.key}, group.reason, group.count), {"aria-label": `Redrive ${group.count} messages: ${group.reason}`, "data-key": `redrive ${group.queue} ${group.key}`}),
        discarding(group.queue, {group: group.key}, group.reason, group.count))) ?? ""]),
    "None. What could not be handled would be here, with its reason."));
}

const discarding = (queue, selection, what, number) => me.can_discard ?
  button("Discard", () => discard(queue, selection, what, number), {class: "danger", "aria-label": `Discard ${number} messages: ${what}`, "data-key": `discard ${queue} ${JSON.stringify(selection)}`}) : null;

async function open(queue, group) {
  shown = {queue, group, text: "", page: 1};
  await doing(page);
  places.letters.querySelector("h2")?.focus();
}

const page = newest(async () => {
  const asked = shown;
  return [asked, await read("letters", {queue: asked.queue, group: asked.group?.key, text: asked.text, page: asked.page})];
}, ([asked, found]) => {
  if (asked !== shown || shown.queue === null) return;
  const {queue, group} = shown;
  shown.page = found.page;
  places.letters.hidden = false;
  const turn = (text, to) => button(text, () => { shown.page = to; doing(page); }, {disabled: to < 1 || to > found.pages, "data-key": `${text} ${to}`});
  const search = element("input", {name: "text", type: "search", value: shown.text, "data-key": `search ${queue} ${group?.key}`, maxlength: 200});
  const onsubmit = event => { event.preventDefault(); Object.assign(shown, {text: event.target.elements.text.value, page: 1}); doing(page); };
  replace(places.letters,
    element("div", {class: "head"}, element("h2", {tabindex: "-1", text: `${count(found.count)} of ${queue}`}), button("Close", close, {"data-key": "close"})),
    group ? element("p", {class: "soft", text: group.reason}) : null,
    element("form", {class: "fields", onsubmit}, element("label", {text: "In id, type or reason"}, search), element("button", {text: "Search", "data-key": "go"})),
    table("Letters", ["Message", "Type", {name: "Reason", class: "wide"}, {name: "Attempts", class: "number"}, "Created", {name: "Size", class: "number"}], found.letters.map(each => [
      button(cut(each.id, 80), () => detail(queue, each.key), {class: "link", "data-key": `letter ${queue} ${each.key}`}),
      each.type || "untyped", each.reason, each.attempts || "?", time(each.created_at), bytes(each.size)]), "None (any more)."),
    element("p", {class: "actions"}, turn("Previous", found.page - 1), element("span", {class: "soft", text: `page ${found.page} of ${count(found.pages)}`}), turn("Next", found.page + 1)));
});

function close() {
  shown.queue = null;
  places.letters.hidden = true;
}

// One letter.

const detail = (queue, key) => opening(() => read("letter", {queue, key}), each => letter(queue, key, each));

function letter(queue, key, each) {
  const facts = [["failed on", each.failed_on || "?"], ["reason", each.reason], ["attempts", each.attempts || "?"],
    ...Object.entries(each.envelope).map(([name, value]) => [name.replaceAll("_", " "), name.endsWith("_at") ? time(value) : value]),
    ...Object.entries(each.headers)];
  const conversation = each.envelope.correlation_id ?? each.envelope.id;
  const body = each.body;
  const parts = element("div", {},
    element("dl", {}, facts.flatMap(([name, value]) => [element("dt", {text: name}), element("dd", {text: value})])),
    element("p", {}, element("a", {href: "#conversations/" + encodeURIComponent(conversation), text: "Its conversation", onclick: () => document.getElementById("dialog").close()})),
    each.stack ? [element("h3", {text: "Stack"}), element("pre", {tabindex: "0", text: each.stack})] : null,
    Object.keys(each.attributes).length ? [element("h3", {text: "Attributes"}), element("pre", {text: JSON.stringify(each.attributes, null, 2)})] : null,
    element("h3", {text: `Body, ${body.kind}, ${bytes(body.size)}${body.is_cut ? ", only its beginning" : ""}`}), element("pre", {tabindex: "0", text: body.text}),
    operator(element("p", {class: "actions"},
      button("Redrive", () => redrive(queue, {keys: [key]}, "this message", 1)),
      button("Edit and send again", () => edit(queue, key, each)), discarding(queue, {keys: [key]}, "this message", 1))));
  ask(each.envelope.type ?? "untyped", "", parts, () => undefined, {cancel: "Close"});
}

function edit(queue, key, each) {
  const editable = each.body.is_editable;
  const body = element("textarea", {rows: 12, spellcheck: "false", disabled: !editable});
  body.value = each.body.text;
  const attributes = element("textarea", {rows: 4, spellcheck: "false"});
  const before = attributes.value = JSON.stringify(each.attributes, null, 2);
  const to = destination();
  const work = async () => {
    const given = {queue, key, to: to.value || undefined};
    if (editable && body.value !== each.body.text) given.body = body.value;
    if (attributes.value !== before) given.attributes = parsed(attributes.value);
    finish(await send("edit", given));
  };
  ask("Edit and send again", "Send", [
    element("p", {class: "soft", text: "It keeps its id. A value that is masked stays as it is while its mask stands there."}),
    element("label", {text: editable ? "Body" : "Body: too large, or not text, to be edited here"}, body),
    element("label", {text: "Attributes"}, attributes), element("label", {text: "Send to"}, to)], work);
  body.focus();
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Refused(`attributes are not JSON: ${error.message}`, 400);
  }
}

const destination = () => element("select", {}, element("option", {value: "", text: "where it failed"}), me.queues.map(name => element("option", {value: name, text: name})));

// What operators do.

function redrive(queue, selection, what, number) {
  const rate = element("input", {type: "number", min: "0.1", step: "any", placeholder: "as fast as it goes"});
  const filter = element("input", {type: "text", placeholder: '{"country": ["de"]}', spellcheck: "false"});
  const scope = element("select", {}, ["attributes", "body"].map(name => element("option", {value: name, text: name})));
  const to = destination();
  const narrowed = !selection.group && !selection.keys;
  const work = async () => {
    const given = {queue, ...selection, to: to.value || undefined};
    if (rate.value) given.rate = Number(rate.value);
    if (filter.value.trim()) Object.assign(given, {filter: filter.value, scope: scope.value});
    finish(await send("redrive", given));
  };
  ask(`Redrive ${number === undefined ? "" : count(number) + " of "}${queue}`, "Redrive", [
    element("p", {text: what}),
    element("p", {class: "soft", text: "Each message is sent before it is taken off, so nothing is lost; one that fails again stays."}),
    element("div", {class: "fields"}, element("label", {text: "Messages a second at most"}, rate), element("label", {text: "Send to"}, to)),
    narrowed ? element("div", {class: "fields"}, element("label", {text: "Filter policy (optional)"}, filter), element("label", {text: "on the"}, scope)) : null], work);
  rate.focus();
}

function discard(queue, selection, what, number) {
  ask(`Discard ${count(number)} of ${queue}?`, "Export and discard", [
    element("p", {text: what}),
    element("p", {class: "soft", text: "Each message is written to a file in the console's folder of exports, and then taken off the queue. Only those that you have seen are."})],
  async () => finish(await send("discard", {queue, ...selection})), {danger: true});
}

function finish(job) {
  announce(ended(job));
  looked.delete(job.queue);
}
