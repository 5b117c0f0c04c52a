// What it costs, and who changed what.

import {read} from "./api.js";
import {card, count, dollars, element, replace, table, time} from "./dom.js";
import {every, newest} from "./page.js";

const figure = (name, value, hint) => element("section", {class: "card"}, element("h2", {class: "soft", text: name}), element("p", {class: "value", text: value}), element("p", {class: "soft", text: hint}));

export async function cost(place) {
  const shown = element("div");
  const look = newest(() => read("cost"), now => {
    if (!now.metered || now.error) {
      replace(shown, element("p", {class: now.error ? "bad" : "soft", text: now.error ?? "The calls of this transport are not metered."}));
      return;
    }
    replace(shown, element("div", {class: "figures"},
      figure("So far", dollars(now.total), `list prices of ${now.region}, ${now.date}`),
      figure("A day", now.per_day === null ? "…" : dollars(now.per_day), now.per_day === null ? "measured for at least half a minute first" : "at the pace of the last hour"),
      figure("Messages", count(now.messages), "carried by calls of this process"),
      figure("Calls", count(now.calls), "that the service answered")),
    now.unpriced.length ? element("p", {class: "warn", text: `No prices are known of ${now.unpriced.join(", ")}.`}) : null,
    card("By channel", null, table("Cost by channel", ["Channel", "Service", {name: "Messages", class: "number"}, {name: "Billed requests", class: "number"}, {name: "Empty receives", class: "number"}, {name: "US$", class: "number"}], now.channels.map(each => [
      each.channel || "(set-up)", each.service, count(each.messages), count(each.requests), count(each.empty_receives), dollars(each.dollars)]), "Nothing was called yet.")));
  });
  place.append(shown);
  await look();
  return every(shown, look);
}

export async function audit(place) {
  const shown = element("div");
  const look = newest(() => read("audit"), ({records}) => {
    replace(shown, card("Changes", null, table("Changes", ["At", "By", "What", {name: "Details", class: "wide"}, "Outcome"], records.map(({at, by, action, outcome, change, ...details}) => [
      time(at), by, action, Object.entries(details).map(([name, value]) => `${name}: ${value}`).join("; "),
      element("span", {class: outcome === "done" ? "pill good" : outcome === "failed" ? "pill bad" : "pill", text: outcome})]), "Nothing was changed since the console began.")));
  });
  place.append(shown);
  await look();
  return every(shown, look);
}
