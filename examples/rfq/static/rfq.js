// The customer's page: ask for quotes, watch them arrive, choose one. The address keeps the RFQ over a reload.

import {$, call, element, events, every, pause, read, Refused, send} from "./common.js";
import {drawZones, markHerd, moveHerd, positionAt, showRide, zoom} from "./map.js";

const LATE_FOR = [2, 3, 5, 10, 20, 40];  // seconds between looks for answers after the end
const FINAL = /^4(?!08|29)/;  // refusals that another try will not change
const WORDS = {declined: "declined", unanswered: "no answer", late: "too late"};

let names = new Map();
let rfq = null;  // what is shown: its path, quotes, states by unicorn, times
let following = new AbortController();
let clicked = null;  // where on the map the start was set, in place of where its name is
let previews = 0;  // asked for since the page was opened
let clockAhead = 0;  // milliseconds that the service's clock is ahead of ours
let lost = "";  // why the herd could not be looked at

const path = link => new URL(link).pathname;
const nameOf = unicorn => names.get(unicorn) ?? unicorn;
const unicoins = price => price.toFixed(2) + " unicoins";
const offers = count => count === 1 ? "1 offer" : count + " offers";

function say(text) { $("live").textContent = text; }

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// The herd, all the time.

async function look() {
  try {
    const {zones, unicorns} = await read(await call("/unicorns"));
    if (lost && $("problem").textContent === lost) problem("");  // no other: a person may not have read it yet
    lost = "";
    drawZones(zones);
    names = new Map(unicorns.map(each => [each.unicorn, each.name]));
    moveHerd(unicorns);
    mark();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(lost = error.message);
    if (error.retry) await pause(error.retry);
  }
}

function mark() {
  const states = new Map(rfq?.states);
  if (rfq?.best) states.set(rfq.best, "quoted best");
  if (rfq?.choice) states.set(rfq.choice, "quoted chosen");
  markHerd(states, new Map(rfq ? [...rfq.quotes.values()].map(quote => [quote.unicorn, quote.price]) : []));
}

// Where the ride goes.

async function place(name, position, radius = 0) {
  const answer = await call("/city?" + new URLSearchParams({place: name, radius, ...position}));
  const ahead = Date.parse(answer.headers.get("Date")) - Date.now() || 0;
  clockAhead = Math.abs(ahead) > 2000 ? ahead : 0;  // the header tells whole seconds
  return read(answer);
}

async function preview() {
  const {from, to, radius} = $("ask").elements;
  if (!from.value.trim() || !to.value.trim()) return;
  const mine = ++previews;
  const [start, end] = await Promise.all([place(from.value, clicked, radius.value), place(to.value)]);
  if (rfq || mine !== previews) return;  // answers come in any order
  showRide(start, end);
  zoom();
  near(start.unicorns, start.place);
}

const near = (count, name) => { $("near").textContent = `${count === 1 ? "1 unicorn" : count + " unicorns"} near ${name}`; };
const previewForm = () => preview().catch(error => problem(error.message));

// An RFQ.

function show(self, eta) {
  following.abort();
  following = new AbortController();
  rfq = {self, eta, start: Date.now() + clockAhead, quotes: new Map(), states: new Map(), best: null, choice: null, done: false};
  $("quotes").replaceChildren();
  $("rfq").hidden = false;
  $("nobody").hidden = $("none").hidden = $("others").hidden = $("taken").hidden = true;
  $("rfq").classList.remove("complete");
  $("main").classList.add("asking");
  $("state").textContent = "Asking …";
  $("count").textContent = "";
  history.replaceState(null, "", "#" + self);
  mark();
  follow(following.signal);
}

async function follow(signal) {
  while (!signal.aborted && !rfq.done) {
    try {
      for await (const [kind, data] of events(rfq.self + "/events", signal)) ON[kind]?.(data);
      if (!rfq.done) throw new TypeError("the stream ended");
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused && FINAL.test(error.status)) return gone(error.message);
      $("state").textContent = "Connection lost, trying again …";
      await pause(error.retry || 2, signal);
    }
  }
  for (const seconds of LATE_FOR) {
    if (![...rfq.states.values()].includes("unanswered")) return;
    await pause(seconds, signal);
    if (signal.aborted) return;
    const result = await call(rfq.self + "/result").then(read).catch(() => null);
    if (result && !signal.aborted) settle(result);
  }
}

const ON = {
  asked({unicorns, start, destination, zones, ...ride}) {
    for (const name of ["from", "to", "customer"]) $("ask").elements[name].value = ride[name];
    const [from, to] = [{...start, zones, place: ride.from}, {...destination, place: ride.to}];
    showRide(from, to);
    zoom(from, to);
    near(unicorns.length, ride.from);
    for (const unicorn of unicorns) if (!rfq.states.has(unicorn)) rfq.states.set(unicorn, "waiting");
    responders();
  },
  quote(quote) {
    if (rfq.quotes.has(quote.unicorn)) return;
    offer(quote);
    responders();
  },
  declined({unicorn}) {
    rfq.states.set(unicorn, "declined");
    responders();
  },
  progress(progress) {
    rfq.eta = Date.parse(progress.eta);
    $("nobody").hidden = !progress.notice;
    if (progress.choice) chosen(progress.choice);
    if (rfq.done) return;
    const of = progress.expected ? " of " + progress.expected : "";
    $("state").textContent = progress["responses-received"] + of + " have answered";
    const open = [...rfq.states.values()].filter(state => state === "waiting").length;
    $("count").textContent = offers(rfq.quotes.size) + " so far" + (open ? ", " + open + " still to answer" : "");
  },
  complete(result) {
    rfq.done = true;
    for (const quote of result.quotes) ON.quote(quote);
    $("rfq").classList.add("complete");
    const count = result.quotes.length;
    $("state").textContent = "Complete: " + offers(count);
    $("none").hidden = count > 0;
    settle(result);
    tick();
    say(count ? "Complete. " + offers(count) + "; the best is of " + best() : "Complete, no offers.");
  },
};

/** What is known once it is complete: who declined, did not answer, or comes late. */
function settle(result) {
  for (const state of ["declined", "unanswered", "late"]) for (const unicorn of result[state]) rfq.states.set(unicorn, state);
  if (result.choice) chosen(result.choice);
  $("count").textContent = summary(result);
  responders();
}

function summary(result) {
  const parts = ["declined", "unanswered", "late"].filter(state => result[state].length)
    .map(state => result[state].length + " " + (state === "unanswered" ? "without an answer" : WORDS[state]));
  return parts.join(", ") || (result.expected ? "everyone who was asked made an offer" : "nobody was asked");
}

const offered = quote => quote.name + ", " + unicoins(quote.price) + ", there in " + quote.minutes + " minutes";
const best = () => offered(rfq.quotes.get(rfq.best));

/** A new offer, at its place in the list; the others stay where they are, and keep the focus. */
function offer(quote) {
  rfq.quotes.set(quote.unicorn, quote);
  rfq.states.set(quote.unicorn, "quoted");
  const button = element("button", {
    text: "Choose", type: "button", "aria-label": "Choose " + quote.name + ", " + unicoins(quote.price),
    onclick: () => choose(quote.unicorn),
  });
  const row = element("li", {class: "offer new", "data-unicorn": quote.unicorn},
    element("div", {},
      element("div", {class: "name", text: quote.name}),
      element("div", {class: "detail", text: "there in " + quote.minutes + " min"}),
      element("span", {class: "badges"}, element("span", {class: "is-best", text: "Best offer"}), element("span", {class: "is-chosen", text: "Your ride"}))),
    element("div", {class: "price", text: quote.price.toFixed(2)}, element("small", {text: "unicoins"})),
    button);
  const dearer = [...$("quotes").children].find(each => rfq.quotes.get(each.dataset.unicorn).price > quote.price);
  $("quotes").insertBefore(row, dearer ?? null);
  if (!dearer || dearer === $("quotes").children[1]) crown();
}

function crown() {
  const first = $("quotes").firstElementChild.dataset.unicorn;
  if (first === rfq.best) return;
  rfq.best = first;
  for (const row of $("quotes").children) row.classList.toggle("best", row.dataset.unicorn === first);
  if (!rfq.done) say("Best offer so far: " + best());
}

/** Those who made no offer, each with what became of it. */
function responders() {
  const others = [...rfq.states].filter(([, state]) => state in WORDS)
    .map(([unicorn, state]) => element("li", {class: state, text: nameOf(unicorn) + ": " + WORDS[state]}));
  $("responders").replaceChildren(...others);
  $("others").hidden = !others.length;
  mark();
}

async function choose(unicorn) {
  const mine = rfq;  // another may be shown when the answer comes
  try {
    await send("PUT", mine.self + "/choice", {unicorn});
    if (mine !== rfq) return;
    chosen(unicorn);
    say($("taken").textContent);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (mine !== rfq) return;
    problem(error.message);
    if (error.status !== 409) return;
    const result = await call(mine.self + "/result").then(read).catch(() => null);
    if (result && mine === rfq) settle(result);
  }
}

function chosen(unicorn) {
  rfq.choice = unicorn;
  const quote = rfq.quotes.get(unicorn);
  $("taken").textContent = quote ? "You ride with " + offered(quote) + "." : "";
  $("taken").hidden = !quote;
  for (const row of $("quotes").children) {
    row.classList.toggle("chosen", row.dataset.unicorn === unicorn);
    const button = row.querySelector("button");
    button.disabled = true;
    if (row.dataset.unicorn === unicorn) button.textContent = "Chosen";
  }
  mark();
}

function gone(text) {
  rfq = null;
  $("rfq").hidden = true;
  $("main").classList.remove("asking");
  history.replaceState(null, "", location.pathname);
  mark();
  problem(text);
}

// The countdown.

function tick() {
  if (!rfq) return;
  const now = Date.now() + clockAhead;
  const left = rfq.done ? 0 : Math.max(0, rfq.eta - now);
  const part = rfq.done ? 0 : left / Math.max(1, rfq.eta - rfq.start);
  $("time").style.strokeDashoffset = 100 * Math.min(1, rfq.done ? 0 : 1 - part);
  const seconds = Math.ceil(left / 1000);
  $("left").textContent = rfq.done ? "✓" : Math.floor(seconds / 60) + ":" + String(seconds % 60).padStart(2, "0");
}

/** Shows the RFQ that the address holds, if another one; whether it does. */
function linked() {
  const self = location.hash.slice(1);
  const found = /^\/rfqs\/[\w-]+$/.test(self) && self !== rfq?.self;
  if (found) show(self, Date.now());
  return found;
}

// The form.

$("ask").addEventListener("submit", async event => {
  event.preventDefault();
  problem("");
  const ride = Object.fromEntries(new FormData(event.target));
  ride.radius = Number(ride.radius);
  if (clicked) ride["from-position"] = clicked;
  if (ride.duration) ride.duration = Number(ride.duration); else delete ride.duration;
  $("go").disabled = true;
  try {
    const asked = await read(await send("POST", "/rfqs", ride));
    show(path(asked.links.self), Date.parse(asked.eta));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  } finally {
    $("go").disabled = false;
  }
});
$("ask").elements.from.addEventListener("input", () => { clicked = null; });
for (const name of ["from", "to", "radius"]) $("ask").elements[name].addEventListener("change", previewForm);
$("map").addEventListener("click", event => {
  if (rfq) return;  // the map is drawn nearer
  clicked = positionAt(event);
  $("ask").elements.from.value = `Map ${clicked.x.toFixed(2)}, ${clicked.y.toFixed(2)}`;
  previewForm();
});

setInterval(tick, 250);
addEventListener("hashchange", linked);
async function start() {
  await look();  // zones first: rides are drawn on them
  while (lost) {
    await pause(2.5);
    await look();
  }
  if (!linked()) previewForm();
  every(2.5, look);
}

start();
