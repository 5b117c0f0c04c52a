// The frame: views by the address's fragment, problems, work under way, and the state that is pushed.

import {follow, isFinal, pause, read, Refused, send} from "./api.js";
import {$, button, count, element, now as time, replace} from "./dom.js";
import * as flow from "./flow.js";
import * as letters from "./letters.js";
import {audit, cost} from "./records.js";
import * as conversations from "./conversations.js";
import {doing, problem} from "./page.js";
import {processes, requests, scheduled} from "./services.js";

const VIEWS = {
  "flow": ["Flow", flow.show], "dead-letters": ["Dead letters", letters.show], "processes": ["Processes", processes],
  "scheduled": ["Scheduled messages", scheduled], "requests": ["Requests in flight", requests],
  "conversations": ["Conversations", conversations.show], "cost": ["Cost", cost], "audit": ["Audit log", audit]};
const RETRY_MS = 3000;  // between tries of a view that could not be loaded
let update = null, turn = 0, last = null, failedAt = null;
const me = {};

/** The name of the view that the address means, and what of it. */
function wanted() {
  try {
    const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split("/");
    if (Object.hasOwn(VIEWS, name)) return [name, rest.join("/")];
  } catch (error) {
    if (!(error instanceof URIError)) throw error;
  }
  return ["flow", ""];
}

async function view() {
  const [name, what] = wanted(), [title, show] = VIEWS[name];
  const mine = ++turn, place = element("div", {class: "view"});
  update = null;
  failedAt = null;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === "#" + name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} · ${me.subject ?? "Console"}`;
  const heading = element("h1", {tabindex: "-1", text: title});
  const main = $("main");
  main.replaceChildren(heading, place);
  if (mine > 1 && (document.activeElement === document.body || document.activeElement?.closest("nav"))) heading.focus({preventScroll: true});
  const shown = await doing(() => show(place, what, me));
  if (mine !== turn) return;
  if (shown === undefined) {
    failedAt = performance.now();
    return;
  }
  update = shown;
  if (last) update(last);
}

function jobs(all) {
  const shown = all.filter(job => job.status === "running" || time() - job.ended_at < 20);
  $("jobs").hidden = !shown.length;
  replace($("jobs"), shown.map(job => element("div", {class: "job"},
    element("strong", {text: `${job.action} ${job.queue}`}),
    job.status === "running" ? element("progress", {"aria-label": `${job.action} ${job.queue}`, ...(job.total ? {max: job.total, value: Math.min(job.total, job.moved)} : {})}) : element("span", {class: job.status === "done" && !job.failed ? "pill good" : "pill bad", text: job.status}),
    element("span", {text: `${count(job.moved)} moved${job.total === null ? "" : ` of about ${count(job.total)}`}, ${count(job.failed)} failed${job.left ? `, ${count(job.left)} left` : ""}`}),
    job.rate ? element("span", {class: "soft", text: `at most ${job.rate}/s`}) : null,
    job.error || job.note ? element("span", {class: job.error ? "bad" : "soft", text: job.error ?? job.note}) : null,
    job.status === "running" && me.role === "operator" ? button("Cancel", () => doing(() => send("jobs/cancel", {id: job.id})), {"data-key": "cancel " + job.id, "aria-label": `Cancel ${job.action} of ${job.queue}`}) : null)));
}

function state(now) {
  last = now;
  const totals = Object.values(now.dead_letters).map(each => each.total ?? 0);
  const dead = totals.reduce((sum, each) => sum + each, 0);
  $("dead-count").textContent = count(dead);
  $("dead-count").hidden = !dead;
  jobs(now.jobs);
  if (failedAt === null) update?.(now);
  else if (performance.now() - failedAt > RETRY_MS) view();
}

async function user() {
  for (;;) {
    try {
      return await read("me");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem(error.message);
      if (isFinal(error)) return null;
      await pause(2);
    }
  }
}

async function start() {
  const known = await user();
  if (!known) return;
  problem(null);
  Object.assign(me, known);
  $("subject").textContent = me.subject;
  $("who").textContent = `${me.name}, ${me.role} · ${me.transport}`;
  addEventListener("hashchange", view);
  await view();
  let lost = false;
  follow(state, text => {
    if (text) { problem(text); lost = true; }
    else if (lost) { problem(null); lost = false; }
  }, me.interval);
}

start();
