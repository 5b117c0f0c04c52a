// Pick a place, put photos to the object store, and watch them: the photos never pass through the API.

import { $, attempt, element, json, persist, Refused } from "/shared/dom.js";

let place = null;

async function showPlaces() {
  const places = await persist(() => json("/places"));
  for (const each of places) {
    const button = element("button", { type: "button", "data-place": each.id }, each.name, element("small", {}, each.type));
    button.addEventListener("click", () => attempt(() => pick(each)));
    $("#places").append(button);
  }
  if (places.length) await persist(() => pick(place ?? places[0])); // or the one that was clicked meanwhile
}

async function pick(chosen) {
  place = chosen;
  for (const each of document.querySelectorAll("#places button")) {
    each.setAttribute("aria-pressed", each.dataset.place === place.id);
  }
  $("#place-name").textContent = place.name;
  $("#gallery").replaceChildren();
  const photos = await json(`/places/${place.id}/photos`);
  if (place === chosen) $("#gallery").replaceChildren(...photos.map(figure));
}

function figure(photo) {
  const thumbnail = photo.sizes.find((each) => each.name === "thumbnail");
  const large = photo.sizes.find((each) => each.name === "large");
  const image = element("img", { src: thumbnail.url, width: thumbnail.width, height: thumbnail.height, alt: "" });
  const labels = photo.labels.map((each) => each.name).join(", ");
  return element(
    "figure",
    { id: `photo-${photo.photo}` },
    element("a", { href: large.url, target: "_blank" }, image),
    element("figcaption", {}, `workflow ${photo.version}${labels ? `: ${labels}` : ""}`),
  );
}

async function upload(file, to) {
  const state = element("span", { class: "state" }, "asks for a place to upload to");
  const item = element("li", { class: "busy" }, element("b", {}, file.name), " ", state);
  $("#progress").prepend(item);
  const ended = (kind, text) => { item.className = kind; state.textContent = text; };
  try {
    const asked = await json("/uploads", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ placeId: to.id, size: file.size }),
    });
    item.id = `item-${asked.photo}`;
    state.textContent = "uploads";
    const put = await fetch(asked.upload.url, { method: "PUT", body: file }).catch(() => {
      throw new Refused("the object store cannot be reached");
    });
    if (!put.ok) throw new Refused(`the object store refused it (${put.status})`);
    state.textContent = "is looked at";
    watch(asked, item, ended, to);
  } catch (error) {
    ended("rejected", error.message);
  }
}

function watch(asked, item, ended, to) {
  const events = new EventSource(asked.links.events);
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) ended("rejected", "the service tells no more of it");
  });
  events.addEventListener("photo", (event) => {
    const photo = JSON.parse(event.data);
    if (photo.status !== "published" && photo.status !== "rejected") return;
    events.close();
    if (!$(".workflow").hidden) {
      item.append(" ", element("a", { href: `/workflow/photos/${photo.photo}.svg`, target: "_blank" }, "its way"));
    }
    if (photo.status === "rejected") return ended("rejected", `rejected: ${photo.reason}`);
    ended("published", `published by workflow ${photo.version}`);
    if (place !== to) return;
    $(`#photo-${CSS.escape(photo.photo)}`)?.remove(); // the gallery was asked for meanwhile
    $("#gallery").prepend(figure(photo));
  });
}

async function showWorkflow() {
  const elsewhere = (error) => { if (error.status !== 404) throw error; };
  const found = await persist(() => json("/workflow").catch(elsewhere));
  if (!found) return; // the workflow is served elsewhere
  const { version, versions } = found;
  let current;
  const select = $("#version");
  select.append(...versions.map((each) => element("option", { value: each }, `version ${each}`)));
  const deployed = (which) => {
    select.value = current = which;
    $("#diagram").href = `/workflow/versions/${which}.svg`;
  };
  deployed(version);
  select.addEventListener("change", async () => {
    const body = JSON.stringify({ version: Number(select.value) });
    await attempt(async () => {
      current = (await json("/workflow", { method: "PUT", headers: { "Content-Type": "application/json" }, body })).version;
    });
    deployed(current); // refused: the one that was
  });
  $(".workflow").hidden = false;
}

$("#files").addEventListener("change", (event) => {
  for (const file of event.target.files) upload(file, place);
  event.target.value = "";
});
$("#upload").addEventListener("submit", (event) => event.preventDefault());
await Promise.all([showPlaces(), showWorkflow()]);
document.body.dataset.ready = "yes";
