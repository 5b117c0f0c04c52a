// What views share: problems and news for people, and dialogs.

import {Refused} from "./api.js";
import {$, button, element} from "./dom.js";

export function problem(text) {
  $("problem").textContent = text ?? "";
  $("problem").hidden = !text;
}

/** Does something for a control: what goes wrong is shown. Returns its result; undefined: it was refused. */
export async function doing(work) {
  problem(null);
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    problem(error.message);
    return undefined;
  }
}

/** What asks, and shows the answer unless that of a later question is shown: answers come in any order. */
export function newest(ask, show) {
  let asked = 0, shown = 0;
  return async () => {
    const mine = ++asked, answer = await ask();
    if (mine < shown) return;
    shown = mine;
    show(answer);
  };
}

/** What is called with each state: looks again after some milliseconds, where somebody sees it and no dialog is open. */
export function every(place, look, pause = 5000) {
  let at = performance.now(), failed = false;
  return async () => {
    if (performance.now() - at < pause || document.hidden || !place.isConnected || $("dialog").open) return;
    at = performance.now();
    try {
      await look();
      if (failed) problem(null);  // no other: a person may not have read it yet
      failed = false;
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      problem(error.message);
      failed = true;
    }
  };
}

/** Tells people who listen to the page. */
export const announce = text => { $("live").textContent = text; };

let turn = 0;  // of dialogs and views: what is found for an earlier one is not shown
addEventListener("hashchange", () => { turn += 1; });

/** Opens a dialog with what `find` finds, unless a person has gone on to something else meanwhile. */
export async function opening(find, open) {
  const mine = ++turn, found = await doing(find);
  if (mine === turn && found !== undefined) open(found);
}

/** Opens the dialog; `work` is done when it is confirmed, and what goes wrong is shown in it, or on the page if it was left. */
export function ask(title, confirm, parts, work, {danger = false, cancel = "Cancel"} = {}) {
  turn += 1;
  const dialog = $("dialog"), wrong = element("p", {class: "bad", role: "alert"});
  const go = element("button", {class: danger ? "danger" : "primary", text: confirm});
  const onsubmit = async event => {
    event.preventDefault();
    go.disabled = true;
    try {
      await work();
      if (form.isConnected) dialog.close();  // else it shows another one by now
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      if (form.isConnected && dialog.open) wrong.textContent = error.message;
      else problem(error.message);
    } finally {
      go.disabled = false;
    }
  };
  const form = element("form", {onsubmit}, element("h2", {id: "dialog-title", text: title}), parts, wrong,
    element("p", {class: "actions"}, confirm ? go : null, button(cancel, () => dialog.close())));
  dialog.replaceChildren(form);
  dialog.showModal();
}

export const ended = job => job.status === "running" ? `${job.action} of ${job.queue} goes on` :
  `${job.action} of ${job.queue}: ${job.moved} moved, ${job.failed} failed, ${job.left} left${job.error ? "; " + job.error : ""}`;
