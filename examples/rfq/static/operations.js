// The operations view: what goes on, what failed and why, and how to start that anew.

import {$, call, element, every, pause, Refused, send} from "./common.js";

const NOTHING = "None. What could not be handled would be here, with its reason.";
const HISTORY = 60;  // looks that the curve goes back
const history = [];
let counted = null;  // how many dead letters there were when they were read
let looks = 0;

const number = value => value === null ? "?" : value.toLocaleString("en");
const dollars = value => "$" + value.toFixed(value >= 1 || value === 0 ? 2 : 6);
const cell = (text, name = "number") => element("td", {class: name, text});

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

async function look() {
  try {
    const state = await (await call("/operations/state")).json();
    show(state);
    await lookAtDead(state.queues.map(each => each["dead-letters"]));
    problem("");
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    if (error.status === 403) sessionStorage.removeItem("rfq-token-operator");
    if (error.retry) await pause(error.retry);
  }
}

/** Reads the dead letters where their number has changed, or some are there and it is time: it is a call that costs. */
async function lookAtDead(counts) {
  const now = counts.join(), some = counts.some(count => count !== 0);
  looks += 1;
  if (now === counted && (!some || looks % 5)) return;
  const letters = some ? (await (await call("/operations/dead-letters")).json())["dead-letters"] : [];
  counted = now;
  showDead(letters);
}

function show(state) {
  $("in-flight").textContent = number(state["in-flight"]);
  $("unicorns").textContent = number(state.unicorns) + " unicorns about";
  $("responses").textContent = state["responses-per-second"].toFixed(1);
  $("late").textContent = number(state.late);
  $("refused").textContent = number(state.refused) + " return addresses refused";
  curve(state["responses-per-second"]);
  const cost = state.cost;
  $("cost").textContent = dollars(cost.total);
  $("prices").textContent = `${cost.region} prices of ${cost.date}`;
  $("usage-total").textContent = `${number(cost.messages)} messages in ${number(cost.calls)} calls on ${number(cost["channels-used"])} channels`;
  $("usage").replaceChildren(...cost.channels.map(each => element("tr", {},
    element("th", {scope: "row", text: each.service + " " + (each.channel || "(set-up)")}), cell(number(each.messages)), cell(number(each.requests)), cell(dollars(each.dollars)))));
  queues(state.queues);
}

function curve(now) {
  history.push(now);
  if (history.length > HISTORY) history.shift();
  const top = Math.max(1, ...history);
  const points = history.map((value, index) => `${(100 * index / (HISTORY - 1)).toFixed(2)},${(28 - 26 * value / top).toFixed(2)}`);
  $("history").querySelector("polyline").setAttribute("points", points.join(" "));
  const last = 100 * (history.length - 1) / (HISTORY - 1);
  $("history").querySelector("polygon").setAttribute("points", `0,30 ${points.join(" ")} ${last},30`);
}

/** A row for each queue, made once, so that its button keeps the focus. */
function queues(all) {
  for (const each of all) {
    const id = "queue-" + each.queue;
    const row = $(id) ?? $("queues").appendChild(element("tr", {id},
      element("th", {scope: "row", text: each.queue}), cell(""), cell(""),
      element("td", {class: "number"}, redriving(each.queue, "Redrive", "Redrive all dead letters of " + each.queue))));
    const dead = each["dead-letters"];
    row.children[1].textContent = number(each.messages);
    row.children[2].textContent = number(dead);
    row.children[2].classList.toggle("bad", dead !== 0);
    row.children[2].classList.toggle("zero", dead === 0);
    row.querySelector("button").disabled = dead === 0;
  }
}

function redriving(queue, text, label, only) {
  const onclick = async event => {
    event.target.disabled = true;
    try {
      const done = await (await send("POST", "/operations/dead-letters/redrive", only ? {queue, only} : {queue})).json();
      $("live").textContent = `${done.moved} redriven, ${done.left} left, ${done.failed} failed`;
      counted = null;
      await look();
      if (!event.target.isConnected) $("dead-title").focus();
    } catch (error) {
      problem(error.message);
      event.target.disabled = false;
    }
  };
  return element("button", {type: "button", text, "aria-label": label, onclick});
}

/** A row for each letter, kept as long as the letter is there: what has the focus, or is open, stays so. */
function showDead(letters) {
  const wanted = new Map(letters.map(each => [each.queue + " " + each.id, each]));
  for (const row of [...$("dead").children]) if (!wanted.delete(row.dataset.letter)) row.remove();
  $("dead").append(...[...wanted].map(([key, letter]) => deadRow(key, letter)));
  $("dead-table").hidden = !letters.length;
  $("dead-hint").textContent = letters.length ? number(letters.length) + " shown" : NOTHING;
}

function deadRow(key, letter) {
  const inside = `id ${letter.id}\ncorrelation ${letter["correlation-id"] ?? "none"}\n${JSON.stringify(letter.body, null, 2)}`;
  return element("tr", {"data-letter": key},
    element("td", {}, element("details", {}, element("summary", {text: letter.type ?? "untyped"}), element("pre", {text: inside}))),
    cell(letter.reason, "reason"), cell(letter.queue, ""), cell(letter.attempts),
    element("td", {class: "number"}, redriving(letter.queue, "Redrive", "Redrive this message of " + letter.queue, [letter.id])));
}

every(2, look);
