// Put scans into the bucket, and show what the table and the processes know of them.

import { $, attempt, draw, element, every, json, persist } from "/shared/dom.js";

const LOOK_MS = 1000;
let shown = null;

const scan = (layout) =>
  json("/scans", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ layout }) });

function status(invoice) {
  const kind = { "Approved for Payment": "approved", "Pending Review": "pending" }[invoice.stage] ?? "busy";
  const cell = element("td", { class: kind }, element("b", {}, invoice.stage));
  if (invoice.reason) cell.append(element("small", {}, invoice.reason));
  return cell;
}

function links(invoice) {
  const link = (text, path) => element("a", { href: `/invoices/${invoice.invoice_id}/${path}`, target: "_blank" }, text);
  return element("td", {}, link("blocks", "analysis"), " ", link("analysis", "analysis.svg"), " ", link("reading", "reading.svg"));
}

function row(invoice) {
  const name = element("button", { type: "button", class: "name", id: `name-${invoice.invoice_id}` }, invoice.invoice_key);
  name.addEventListener("click", () => show(invoice.invoice_id));
  const amount = invoice.amount == null ? "" : `$${invoice.amount}`;
  return element(
    "tr",
    { id: `invoice-${invoice.invoice_id}`, "data-key": invoice.invoice_key },
    element("td", {}, name),
    status(invoice),
    element("td", {}, invoice.payee_name ?? ""),
    element("td", { class: "number" }, amount),
    element("td", {}, invoice.due_date ?? ""),
    links(invoice),
  );
}

function show(id) {
  shown = id;
  $("#scan").src = `/invoices/${id}/scan`;
  $("#paper").hidden = false;
}

async function look() {
  const invoices = await json("/invoices");
  draw($("#invoices"), invoices.map(row));
  if (!shown && invoices.length) show(invoices[0].invoice_id);
}

for (const each of await persist(() => json("/layouts"))) {
  $("#layout").append(element("option", { value: each.layout }, `${each.layout}: ${each.title}`));
}
$("#scanner").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(() => scan($("#layout").value));
});
$("#all").addEventListener("click", () =>
  attempt(async () => {
    for (const each of $("#layout").options) await scan(each.value);
  }),
);
$("#files").addEventListener("change", (event) => {
  const files = [...event.target.files];
  event.target.value = "";
  attempt(async () => {
    for (const file of files) await json(`/scans/${encodeURIComponent(file.name)}`, { method: "PUT", body: file, signal: null });
  });
});
await persist(look);
document.body.dataset.ready = "yes";
every(LOOK_MS, look);
