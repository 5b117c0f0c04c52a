// Have the partner send events, and show what the intake and the order system made of them.

import { $, attempt, draw, element, every, json, persist } from "/shared/dom.js";

const LOOK_MS = 1000;

const row = (kind, ...cells) => element("tr", { class: kind }, ...cells.map((each) => element("td", {}, each)));

async function look() {
  const { counts, latest, dead } = await json("/events");
  const shown = { ...counts, "dead letters": dead.length };
  draw(
    $("#counts"),
    Object.entries(shown).map(([name, count]) => element("div", {}, element("dt", {}, name), element("dd", {}, String(count)))),
  );
  draw(
    $("#latest"),
    latest.map((each) => row(each.status.replace(/ .*/, ""), each.status, each.detail, each.event.slice(0, 8))),
  );
  draw($("#dead"), dead.map((each) => row("refused", each.type ?? "", each.reason)));
}

async function send(kind) {
  const body = JSON.stringify({ kind });
  await json("/events", { method: "POST", headers: { "Content-Type": "application/json" }, body });
}

for (const { kind, title } of await persist(() => json("/kinds"))) {
  const button = element("button", { type: "button", "data-kind": kind, title }, kind);
  button.addEventListener("click", () => attempt(() => send(kind)));
  $("#kinds").append(button);
}
await persist(look);
document.body.dataset.ready = "yes";
every(LOOK_MS, look);
