// The photos: filters, order, and cards that are built when they come near the screen.

const CHUNK = 48; // cards at a time
const form = byId("filters");
const grid = byId("cards");
const cards = new Map(); // photo -> its card, once it was shown
const names = new Intl.Collator("en", { numeric: true });
let shown = []; // the photos that pass, in order
let foremost = ""; // the chosen class, which the cards list first
let built = 0; // how many of them have their card in the page
let remembering = 0; // the timer of `remember`
const nearing = new IntersectionObserver(
  (entries) => entries.some((entry) => entry.isIntersecting) && extend(),
  { rootMargin: "1200px" },
);

/** Share and confidence that the filters and the order go by; null: the photo does not count. */
function measure(photo, chosen) {
  if (chosen !== "") {
    if (hidden.has(Number(chosen))) return null;
    const area = photo.areas.find(([id]) => id === Number(chosen));
    return area ? { shares: [area[1]], confidence: area[2] } : null;
  }
  const shares = photo.areas.filter(([id]) => !hidden.has(id)).map((area) => area[1]);
  return shares.length ? { shares, confidence: photo.confidence } : null;
}

function limits(name) {
  const value = (end, otherwise) => {
    const number = form.elements[`${name}-${end}`].valueAsNumber;
    return Number.isNaN(number) ? otherwise : number / 100;
  };
  return [value("from", 0), value("to", 1)];
}

/** Whether a share lies between two limits, as far as its number on the page tells. */
function within(value, [least, most]) {
  const rounded = value < 0.001 ? 1e-9 : 0.0005 + 1e-9; // see `percent`
  return value >= least - rounded && value <= most + rounded;
}

/** The photos that the filters let through, in the order chosen. */
function select() {
  const text = folded(form.elements.name.value);
  const chosen = form.elements.class.value;
  const [area, confidence] = [limits("area"), limits("confidence")];
  const found = [];
  for (const photo of data.photos) {
    const measured = measure(photo, chosen);
    const passes =
      measured &&
      within(measured.confidence, confidence) &&
      measured.shares.some((share) => within(share, area)) &&
      folded(photo.name).includes(text);
    if (photo.point) photo.point.classList.toggle("off", !passes);
    if (passes) found.push([photo, measured]);
  }
  const ordered = found.sort(ordering(form.elements.order.value)).map(([photo]) => photo);
  const named = ordered.findIndex((photo) => folded(photo.name) === text);
  if (named > 0) ordered.unshift(...ordered.splice(named, 1));
  return ordered;
}

/** A name as the filter compares it: a file system may part é into e and its accent. */
function folded(name) {
  return name.normalize("NFC").trim().toLowerCase();
}

/** Shows one photo first, whatever the filters and ticks had left out. */
function find(photo) {
  for (const field of form.elements) if (field.name && field.name !== "order") field.value = "";
  form.elements.name.value = photo.name;
  hidden.clear();
  ticksChanged();
  byId("photos").scrollIntoView();
}

function ordering(order) {
  const byName = ([a], [b]) => names.compare(a.name, b.name);
  const by = (value) => (a, b) => value(a) - value(b) || byName(a, b);
  const iou = (photo, missing) => (photo.iou === null ? missing : photo.iou);
  return {
    "": by(([, measured]) => measured.confidence),
    confident: by(([, measured]) => -measured.confidence),
    area: by(([, measured]) => -Math.max(...measured.shares)),
    name: byName,
    wrong: by(([photo]) => iou(photo, 2)),
    right: by(([photo]) => -iou(photo, -1)),
  }[order];
}

/** Shows what the filters say; leaves the address as it is. */
function show() {
  if (foremost !== form.elements.class.value) {
    foremost = form.elements.class.value;
    cards.clear();
  }
  shown = select();
  built = 0;
  grid.replaceChildren();
  extend();
  const all = data.photos.length;
  byId("count").textContent =
    shown.length === all ? counted(all, "photo") : `${shown.length.toLocaleString("en")} of ${counted(all, "photo")}`;
  byId("meaning").textContent = form.elements.class.value === ""
    ? "Area: of any one class in the photo. Confidence: the mean over the photo. Choose a class to go by its own."
    : "Area and confidence are those of the chosen class.";
}

function extend() {
  const next = shown.slice(built, built + CHUNK);
  for (const photo of next) if (!cards.has(photo)) cards.set(photo, card(photo));
  grid.append(...next.map((photo) => cards.get(photo)));
  built += next.length;
  const asked = byId("more").contains(document.activeElement);
  byId("more").hidden = built === shown.length;
  if (asked && byId("more").hidden && next.length) goOnFrom(cards.get(next[0]));
  nearing.disconnect(); // watched anew, it is told of even where it stays in sight
  nearing.observe(byId("more"));
}

function card(photo) {
  const name = element("h3", {}, isolated(photo.name));
  const made = element("article", { class: "card" }, picture(photo), name, scores(photo));
  if (photo.missing) made.append(element("p", { class: "quiet" }, `${photo.overlay ? "Overlay only" : "No picture"}: ${photo.missing}.`));
  if (photo.unsure) made.append(element("p", { class: "quiet" }, "The photo may have changed since the run."));
  const areas = photo.areas.filter(([id]) => !hidden.has(id)).sort((a, b) => b[1] - a[1]);
  const strip = element("div", { class: "strip", "aria-hidden": "true" });
  for (const [id, share] of areas) {
    const part = paint(element("span"), id);
    part.style.width = `${100 * share}%`;
    strip.append(part);
  }
  const isForemost = ([id]) => foremost !== "" && id === Number(foremost);
  const listed = [...areas.filter(isForemost), ...areas.filter((area) => !isForemost(area))];
  made.append(strip, areaList(listed.slice(0, 4)));
  if (listed.length > 4) {
    const rest = element("details", {}, element("summary", {}, counted(listed.length - 4, "more class", "more classes")));
    rest.addEventListener("toggle", () => rest.append(areaList(listed.slice(4))), { once: true });
    made.append(rest);
  }
  made.append(links(photo));
  return made;
}

function picture(photo) {
  const frame = element("div", { class: "picture" });
  const image = (source, alt, kind) =>
    element("img", { loading: "lazy", decoding: "async", class: kind, alt, width: photo.width, height: photo.height, src: source });
  if (photo.photo) frame.append(image(photo.photo, `Photo ${photo.name}`, "photo"));
  if (photo.overlay) frame.append(image(photo.overlay, `Classes of ${photo.name}`, photo.photo ? "overlay" : "photo"));
  if (!photo.photo && !photo.overlay) frame.append(element("p", { class: "quiet" }, "no picture"));
  if (photo.photo && photo.overlay) {
    const split = element("input", { type: "range", min: 0, max: 100, "aria-label": `How much of the overlay of ${photo.name} is shown` });
    split.value = byId("split").value;
    split.addEventListener("input", () => frame.style.setProperty("--split", split.value));
    frame.append(element("span", { class: "edge", "aria-hidden": "true" }), split);
  }
  return frame;
}

function scores(photo) {
  const list = element("dl", { class: "scores" });
  const score = (name, value, otherwise = "") => {
    const meter = element("span", { class: "track", "aria-hidden": "true" });
    if (value > 0) { // else no bar: the narrowest that is drawn can be seen
      const bar = element("span", { class: "fill" });
      bar.style.width = `${100 * value}%`;
      meter.append(bar);
    }
    const told = value === null ? otherwise : percent(value);
    list.append(element("div", {}, element("dt", {}, name), element("dd", {}, meter, element("span", {}, told))));
  };
  score("confidence", photo.confidence);
  if (data.accuracy) score("IoU", photo.iou, photo.no_iou);
  return list;
}

function areaList(areas) {
  const list = element("ul", { class: "areas" });
  for (const [id, share, confidence] of areas) {
    const sure = element("span", { class: "quiet", title: "mean confidence" }, percent(confidence));
    const name = element("span", { class: "name" }, isolated(classes.get(id).name));
    list.append(element("li", {}, swatch(id), name, element("span", {}, percent(share)), sure));
  }
  return list;
}

function links(photo) {
  const line = element("p", { class: "links quiet" });
  if (photo.links.photo) line.append(element("a", { href: photo.links.photo }, "photo"));
  if (photo.links.overlay) line.append(element("a", { href: photo.links.overlay }, "overlay"));
  line.append(element("span", {}, `${photo.width} × ${photo.height}`));
  return line;
}

/** The filters as they stand in the address, so that a view can be kept and passed on. */
function remember() {
  const kept = new URLSearchParams();
  for (const field of form.elements) if (field.name && field.value) kept.set(field.name, field.value);
  if (hidden.size) kept.set("hidden", [...hidden].join(","));
  const address = location.href.split("#")[0];
  // Not at once: browsers refuse many changes within seconds.
  clearTimeout(remembering);
  remembering = setTimeout(() => history.replaceState(null, "", kept.size ? `${address}#${kept}` : address), 200);
}

function recall() {
  if (!location.hash.includes("=")) return; // a link to a section
  const kept = new URLSearchParams(location.hash.slice(1));
  for (const field of form.elements) {
    if (field.name) field.value = kept.get(field.name) || "";
    if (field.selectedIndex === -1) field.value = ""; // an option that this page does not have
  }
  hidden.clear();
  for (const id of (kept.get("hidden") || "").split(",")) {
    if (id !== "" && classes.has(Number(id))) hidden.add(Number(id));
  }
  ticksChanged();
}

function ticksChanged() {
  refreshTicks();
  cards.clear(); // they show the ticked classes only
  show();
}

function start() {
  const present = data.classes.filter((entry) => entry.photos).sort((a, b) => names.compare(a.name, b.name));
  form.elements.class.append(...present.map((entry) => element("option", { value: entry.id }, entry.name)));
  if (data.accuracy) {
    for (const [value, text] of [["wrong", "lowest IoU"], ["right", "highest IoU"]]) {
      form.elements.order.append(element("option", { value }, text));
    }
  }
  const keep = (change) => () => (change(), remember());
  drawHead();
  drawNotice();
  drawFigures();
  drawClasses(keep(ticksChanged));
  drawAgreement((photo) => keep(() => find(photo))());
  drawFailures();
  drawRun();
  form.addEventListener("input", keep(show));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(keep(() => (hidden.clear(), ticksChanged()))));
  byId("split").addEventListener("input", (event) => {
    document.documentElement.style.setProperty("--split", event.target.value);
    for (const card of cards.values()) { // those that the filters leave out come back as they are
      const frame = card.querySelector(".picture");
      frame.style.removeProperty("--split");
      const own = frame.querySelector("input");
      if (own) own.value = event.target.value;
    }
  });
  byId("split").closest("label").hidden = !data.photos.some((photo) => photo.photo && photo.overlay);
  byId("more").firstElementChild.addEventListener("click", extend);
  addEventListener("hashchange", recall);
  show();
  recall();
}

start();
