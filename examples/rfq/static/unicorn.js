// The unicorn's app: sign in, fly about, be asked, quote or decline before the time is over.

import {$, call, element, pause, read, Refused, send, SILENCE_MS, token} from "./common.js";
import {drawZones, moveHerd, nearZones, positionAt, showStarts} from "./map.js";

const STEP = 0.05;  // of the city, that one press flies
const STATES = {quoted: "you offered", declined: "declined", over: "time over"};
const FINAL = /^4(?!04|08|29)/;  // refusals that signing in again does not change

let me = null;  // who and where this unicorn is, as the service knows it
let wanted = null;  // how it signed in, to do so again at another process
let flying = Promise.resolve();  // the latest change of place
let clockAhead = 0;  // milliseconds that the service's clock is ahead of ours
let following = new AbortController();
const questions = new Map();  // by RFQ: what is known of it, and its row while it is open

const at = place => `${place.x.toFixed(2)}, ${place.y.toFixed(2)}`;
const distance = (a, b) => Math.hypot(a.x - b.x, a.y - b.y);
const unicoins = price => price.toFixed(2) + " unicoins";

function announce(text) { $("live").textContent = text; }

function problem(text) {
  $("problem").textContent = text;
  $("problem").hidden = !text;
}

// Signing in, and where it is.

async function place(body) {
  const answer = await send("PUT", "/unicorn/self", body);
  const ahead = Date.parse(answer.headers.get("Date")) - Date.now() || 0;
  clockAhead = Math.abs(ahead) > 2000 ? ahead : 0;  // the header has whole seconds
  return read(answer);
}

async function signIn(body) {
  const asked = wanted;
  let found = me;
  try {
    found = await place(body);
  } finally {
    if (found && wanted === asked) wanted = {name: found.name, position: {x: found.x, y: found.y}};  // unless it flew on
  }
  sessionStorage.setItem("rfq-unicorn", JSON.stringify(wanted));
  if (me) return;  // what is pushed shows each change in order, and may have overtaken this answer
  show(found);
  $("sign-in").hidden = true;
  $("stable").hidden = $("fly").hidden = false;
  $("main").classList.add("asking");
  $("name").focus();
  following = new AbortController();
  follow(following.signal);
}

/** Signs in as before the page was loaded again, however often that takes. */
async function signInAgain(body) {
  for (let refused = false; !me && !refused; ) {
    try {
      problem("");
      await signIn(body);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem(error.message);
      refused = FINAL.test(error.status);
      await pause(error.retry || 2);
    }
  }
}

function show(place) {
  me = place;
  drawZones(me.zones);
  $("name").textContent = me.name;
  $("where").textContent = `Zone ${me.zone}, at ${at(me)}`;
  $("state").textContent = me.listening ? `You are asked in zone ${me.zone}.` : `On the way to zone ${me.zone} …`;
  $("state").classList.toggle("waiting", !me.listening);
  moveHerd([me]);
  nearZones([me.zone]);
  for (const question of questions.values()) suggest(question);
}

function fly(position) {
  const inside = value => Math.min(Math.max(value, 0), 0.999);
  // The next press starts there, answered or not; places are sent one after the other, the latest of those that wait.
  const to = wanted = {name: me.name, position: {x: inside(position.x), y: inside(position.y)}};
  flying = flying.then(() => wanted === to && attempt(() => signIn(to)));
}

function signedOut(text) {
  following.abort();
  me = wanted = null;
  sessionStorage.removeItem("rfq-unicorn");
  questions.clear();
  $("questions").replaceChildren();
  $("closed").replaceChildren();
  $("stable").hidden = $("fly").hidden = true;
  $("sign-in").hidden = false;
  $("main").classList.remove("asking");
  $("where").textContent = "Not signed in";
  moveHerd([]);
  nearZones([]);
  showStarts([]);
  announce(text);
}

async function attempt(action) {
  problem("");
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
  }
}

// What is pushed.

async function follow(signal) {
  let last = "";
  while (!signal.aborted) {
    try {
      for await (const [kind, data, id] of pushed(last, signal)) {
        last = id;
        if (kind === "signed-out" && data.reason === "left") return signedOut("Signed out.");
        ON[kind]?.(data);
      }
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (FINAL.test(error.status)) problem(error.message);
    }
    if (signal.aborted) return;
    $("state").textContent = "Connection lost, trying again …";
    $("state").classList.add("waiting");
    await pause(1, signal);
    if (signal.aborted) return;
    try {
      const found = await place(wanted);  // the process may be another one, to which we are not signed in
      if (signal.aborted) return;
      show(found);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await pause(error.retry || 1, signal);
    }
  }
}

/** What a web socket brings, as [kind, data, id], until it is closed, or silent: one that a sleep has cut stays open. */
async function* pushed(last, signal) {
  const address = new URL("/unicorn/socket?last-event-id=" + encodeURIComponent(last), location);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address, ["rfq", "bearer." + token()]);
  const arrived = [];
  let wake = () => {}, timer = 0;
  const came = event => { arrived.push(event); wake(); };
  const heard = () => { clearTimeout(timer); timer = setTimeout(() => came(null), SILENCE_MS); };
  socket.addEventListener("message", message => { heard(); came(JSON.parse(message.data)); });
  socket.addEventListener("close", () => came(null));
  signal.addEventListener("abort", () => came(null), {once: true});
  try {
    heard();
    for (;;) {
      while (!arrived.length) await new Promise(done => { wake = done; });
      const event = arrived.shift();
      if (!event) return;
      if (event.event !== "quiet") yield [event.event, event.data, event.id];
    }
  } finally {
    clearTimeout(timer);
    socket.close();
  }
}

const ON = {
  place: show,
  rfq(asked) {
    const known = questions.get(asked.rfq);
    const question = {...known, ...asked};
    questions.set(asked.rfq, question);
    if (asked.state === "open") {
      if (!known) open(question);
    } else {
      close(question);
    }
    $("none").hidden = questions.size > 0;
    showStarts([...questions.values()].map(each => ({...each.start, place: each.from})));
  },
};

// Questions.

function open(question) {
  const number = (name, label, step) => element("label", {text: label},
    element("input", {name, type: "number", min: "0", step, required: "", inputmode: "decimal"}));
  const form = element("form", {class: "answer"},
    number("price", "Unicoins ", "0.01"), number("minutes", "Minutes ", "0.1"),
    element("button", {class: "primary", text: "Quote", "aria-label": "Quote for " + question.customer}),
    element("button", {type: "button", text: "Decline", "aria-label": "Decline " + question.customer,
      onclick: () => answer(question, {declined: "not this time"})}));
  form.addEventListener("submit", event => {
    event.preventDefault();
    const {price, minutes} = form.elements;
    answer(question, {price: Number(price.value), minutes: Number(minutes.value)});
  });
  question.row = element("li", {class: "offer new", "data-rfq": question.rfq},
    element("div", {},
      element("div", {class: "name", text: `${question.from} → ${question.to}`}),
      element("div", {class: "detail way"})),
    element("div", {class: "price left", role: "timer", "aria-label": "Time left"}),
    element("p", {class: "problem", role: "alert", hidden: ""}), form);
  $("questions").append(question.row);
  suggest(question);
  tick();
  announce(`${question.customer} asks for a ride from ${question.from} to ${question.to}.`);
}

/** How far it is from here, and a price for that, until the unicorn has one of its own. */
function suggest(question) {
  const way = distance(me, question.start), ride = distance(question.start, question.destination);
  question.row.querySelector(".way").textContent =
    `for ${question.customer}; ${(10 * way).toFixed(1)} km to the start, ${(10 * ride).toFixed(1)} km to ride`;
  const {price, minutes} = question.row.querySelector("form").elements;
  if (price.value === price.defaultValue) price.value = price.defaultValue = (2 + 30 * ride + 8 * way).toFixed(2);
  if (minutes.value === minutes.defaultValue) minutes.value = minutes.defaultValue = (1 + 40 * way).toFixed(1);
}

async function answer(question, given) {
  const buttons = question.row.querySelectorAll("button"), alert = question.row.querySelector(".problem");
  for (const button of buttons) button.disabled = true;
  alert.hidden = true;
  try {
    await send("POST", "/unicorn/answers", {rfq: question.rfq, ...given});
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    if (error.status === 410) {
      problem(`${question.from} → ${question.to}: ${error.message}.`);
      return ON.rfq({...question, state: "over"});
    }
    alert.textContent = error.message;
    alert.hidden = false;
    for (const button of buttons) button.disabled = false;
  }
}

/** An answered question, or one whose time is over, leaves the list; the focus goes on to the next. */
function close(question) {
  const row = question.row, focused = row?.contains(document.activeElement);
  row?.remove();
  if (focused) ($("questions").querySelector("button") ?? $("name")).focus();
  $(`closed-${question.rfq}`)?.remove();
  const outcome = STATES[question.state] + (question.state === "quoted" ? " " + unicoins(question.price) : "");
  const text = `${question.from} → ${question.to}, ${question.customer}: ${outcome}`;
  $("closed").prepend(element("li", {id: "closed-" + question.rfq, class: question.state, text}));
  if ($("closed").childElementCount > 20) $("closed").lastElementChild.remove();
  $("before").hidden = false;
  questions.delete(question.rfq);
  if (row) announce(text);
}

function tick() {
  const now = Date.now() + clockAhead;
  for (const question of questions.values()) {
    const seconds = Math.max(0, Math.ceil((Date.parse(question.eta) - now) / 1000));
    question.row.querySelector(".left").textContent = Math.floor(seconds / 60) + ":" + String(seconds % 60).padStart(2, "0");
  }
}

$("sign-in").addEventListener("submit", event => {
  event.preventDefault();
  attempt(() => signIn(Object.fromEntries(new FormData(event.target))));
});
$("leave").addEventListener("click", () => flying = flying.then(() => attempt(async () => {
  await call("/unicorn/self", {method: "DELETE"});
  signedOut("Signed out.");
})));
for (const button of document.querySelectorAll(".pad button")) button.addEventListener("click", () =>
  fly({x: wanted.position.x + STEP * button.dataset.dx, y: wanted.position.y + STEP * button.dataset.dy}));
$("map").addEventListener("click", event => { if (me) fly(positionAt(event)); });

setInterval(tick, 250);
const before = sessionStorage.getItem("rfq-unicorn");
if (before) signInAgain(JSON.parse(before));
