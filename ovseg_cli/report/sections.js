// Everything above the photos: figures, bars of the classes, scatter, failures, what was run.

const hidden = new Set(); // ids of classes without their tick
const ticks = new Map(); // id -> checkbox, of the rows that are there

function drawHead() {
  document.title = `${data.name}: ovseg report`;
  byId("name").textContent = data.name;
  const model = (data.run.model || {}).name;
  const asked = data.classes.filter((entry) => entry.id >= 0).length; // without what is unlabelled
  const parts = [counted(data.photos.length, "photo"), counted(asked, "class", "classes")];
  if (model) parts.push(`model ${model}`);
  if ((data.run.timing || {}).started) parts.push(data.run.timing.started.slice(0, 10));
  byId("summary").textContent = parts.join(" · ");
  const sections = [["classes", "Classes"], ["run", "What was run"], ["photos", "Photos"]];
  if (data.failures.length) sections.splice(1, 0, ["failures", "Failures"]);
  if (data.accuracy) sections.splice(1, 0, ["agreement", "Confidence and IoU"]);
  for (const [id, title] of sections) {
    byId("contents").append(element("a", { href: `#${id}` }, title));
  }
  keepAddress(document.querySelectorAll('a[href^="#"]'));
}

function drawNotice() {
  const said = [];
  const unfinished = (data.run.counts || {}).not_processed;
  if (!data.run.status) {
    said.push("There is no run.json: the run is under way, or was killed.");
  } else if (data.run.status !== "complete") {
    const rest = unfinished ? ` with ${counted(unfinished, "photo")} not begun` : "";
    said.push(`The run ended early (${data.run.status})${rest}; the same command with --resume goes on.`);
  }
  if (data.left_over) {
    said.push(`${counted(data.left_over, "photo")} of an earlier run with other options left out.`);
  }
  const missing = data.photos.filter((photo) => photo.missing);
  if (missing.length) {
    const bare = missing.filter((photo) => !photo.overlay).length;
    const others = bare < missing.length ? ` for ${bare.toLocaleString("en")}, overlay only for the others` : "";
    const rest = bare ? `no picture${others}` : "overlay only";
    said.push(`${counted(missing.length, "photo")} could not be found as the run saw it: ${rest}.`);
  }
  const unsure = data.photos.filter((photo) => photo.unsure).length;
  if (unsure) said.push(`${counted(unsure, "photo")} may have changed since the run: the time of the file is another, as that of a copy may be.`);
  byId("notice").textContent = said.join(" ");
  byId("notice").hidden = !said.length;
}

function drawFigures() {
  const figure = (name, value, kind = "") => {
    byId("figures").append(element("div", { class: kind }, element("dt", {}, name), element("dd", {}, value)));
  };
  const found = data.classes.filter((entry) => entry.id >= 0);
  figure("photos done", data.photos.length.toLocaleString("en"));
  figure("failed", data.failures.length.toLocaleString("en"), data.failures.length ? "bad" : "");
  figure("classes found", `${found.filter((entry) => entry.photos).length} of ${found.length}`);
  figure("mean confidence", data.photos.length ? percent(mean(data.photos.map((p) => p.confidence))) : "none");
  if (classes.has(-1)) figure("unlabelled", percent(classes.get(-1).share));
  if (data.accuracy) {
    const value = data.accuracy.mean_iou;
    figure("mIoU", value === null ? "none" : percent(value));
  }
}

function drawClasses(changed) {
  const titles = ["Class", "Share", "Photos", ...(data.accuracy ? ["IoU"] : [])];
  byId("classes-head").append(...titles.map((title) => element("th", { scope: "col" }, title)));
  const present = data.classes.filter((entry) => entry.photos).sort((a, b) => b.share - a.share);
  const largest = present.length ? present[0].share : 1;
  portions(present, (entry) => classRow(entry, largest, changed), byId("classes-body"), byId("classes-more"), 20);
  if (data.kinds.length) {
    byId("classes-kinds").append("Together: ");
    data.kinds.forEach((kind, i) => {
      const told = ` ${percent(kind.share)} in ${counted(kind.photos, "photo")}`;
      byId("classes-kinds").append(i ? "; " : "", element("strong", {}, isolated(kind.name)), told);
    });
    byId("classes-kinds").hidden = false;
  }
  const absent = data.classes.filter((entry) => !entry.photos).map((entry) => entry.name);
  if (absent.length) {
    const listed = absent.length > 30 ? [...absent.slice(0, 30), `and ${absent.length - 30} more`] : absent;
    byId("classes-absent").append("Not found in any photo: ");
    listed.forEach((name, i) => byId("classes-absent").append(i ? ", " : "", isolated(name)));
    byId("classes-absent").hidden = false;
  }
  for (const [text, all] of [["All", true], ["None", false]]) {
    const button = element("button", { type: "button", "aria-label": `Tick ${text.toLowerCase()} of the classes` }, text);
    button.addEventListener("click", () => {
      for (const entry of present) all ? hidden.delete(entry.id) : hidden.add(entry.id);
      changed();
    });
    byId("all-or-none").append(button);
  }
}

function classRow(entry, largest, changed) {
  const tick = element("input", { type: "checkbox" });
  ticks.set(entry.id, tick);
  tick.checked = !hidden.has(entry.id);
  tick.addEventListener("change", () => {
    tick.checked ? hidden.delete(entry.id) : hidden.add(entry.id);
    changed();
  });
  const name = element("label", {}, tick, swatch(entry.id), isolated(entry.name));
  if (entry.synonyms.length) name.title = [entry.name, ...entry.synonyms].join(" | ");
  const bar = paint(element("span", { class: "fill" }), entry.id);
  bar.style.width = `${(100 * entry.share) / largest}%`;
  const row = element(
    "tr",
    {},
    element("th", { scope: "row" }, name),
    element("td", { class: "share" }, element("div", {}, element("span", { class: "track", "aria-hidden": "true" }, bar), element("span", {}, percent(entry.share)))),
    element("td", {}, entry.photos.toLocaleString("en")),
  );
  if (data.accuracy) row.append(element("td", {}, entry.iou === null ? "–" : percent(entry.iou)));
  row.classList.toggle("off", hidden.has(entry.id));
  return row;
}

/** Lets ticks and rows follow `hidden`, however it was changed. */
function refreshTicks() {
  for (const [id, tick] of ticks) {
    tick.checked = !hidden.has(id);
    tick.closest("tr").classList.toggle("off", hidden.has(id));
  }
}

/** Pearson's correlation of pairs; null where it is not defined. */
function correlation(pairs) {
  const [xs, ys] = [0, 1].map((i) => pairs.map((pair) => pair[i]));
  const [x, y] = [mean(xs), mean(ys)];
  const product = (a, b) => mean(pairs.map((pair) => a(pair) * b(pair)));
  const [dx, dy] = [(pair) => pair[0] - x, (pair) => pair[1] - y];
  const spread = Math.sqrt(product(dx, dx) * product(dy, dy));
  return spread > 1e-12 ? product(dx, dy) / spread : null;
}

function drawAgreement(chosen) {
  if (!data.accuracy) return;
  const points = data.photos.filter((photo) => photo.iou !== null);
  const r = correlation(points.map((photo) => [photo.confidence, photo.iou]));
  const said = [`${counted(data.accuracy.photos, "photo")} of ${data.photos.length.toLocaleString("en")} have labels in`];
  byId("agreement-text").append(`${said[0]} `, isolated(data.accuracy.data), ".");
  const add = (text) => byId("agreement-text").append(` ${text}`);
  if (r !== null) add(`Correlation of confidence and IoU: ${r.toFixed(2)}.`);
  add("IoU is the mean over the classes that occur in a photo; the mIoU above is of all photos together.");
  if (data.accuracy.other_size) add(`${counted(data.accuracy.other_size, "photo")} left out: the labels have another size.`);
  if (data.accuracy.unread) add(`${counted(data.accuracy.unread, "photo")} left out: the labels cannot be read.`);
  if (data.accuracy.none_named) add(`${counted(data.accuracy.none_named, "photo")} without an IoU: the labels show none of the classes that the run had a name for.`);
  if (data.accuracy.not_named.length) add(`Classes of the labels that the run had no name for: ${data.accuracy.not_named.join(", ")}.`);
  byId("agreement").hidden = false;
  document.querySelector(".columns").classList.add("two");
  byId("scatter").append(scatter(points, r, chosen));
}

const PLOT = { left: 46, top: 10, width: 420, height: 300 };

/** From where to where an axis goes, and its ticks: as much of 0 to 1 as the values need. */
function axis(values) {
  let least = Math.floor(values.reduce((a, b) => Math.min(a, b), 1) * 10 + 1e-9);
  let most = Math.ceil(values.reduce((a, b) => Math.max(a, b), 0) * 10 - 1e-9);
  if (!values.length) [least, most] = [0, 10];
  while (most - least < 3) {
    if (most < 10) most += 1;
    if (most - least < 3 && least > 0) least -= 1;
  }
  const step = most - least > 6 ? 2 : 1;
  const ticks = [];
  for (let tick = least; tick <= most; tick += 1) if ((tick - least) % step === 0) ticks.push(tick / 10);
  return { ticks, place: (value) => (10 * value - least) / (most - least) };
}

function drawn(name, attributes, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function scatter(points, r, chosen) {
  const across = axis(points.map((photo) => photo.confidence));
  const up = axis(points.map((photo) => photo.iou));
  const right = (value) => PLOT.left + across.place(value) * PLOT.width;
  const above = (value) => PLOT.top + (1 - up.place(value)) * PLOT.height;
  const svg = drawn("svg", { viewBox: "0 0 480 356", role: "img", "aria-labelledby": "scatter-title" });
  const told = r === null ? "" : `, correlation ${r.toFixed(2)}`;
  svg.append(drawn("title", { id: "scatter-title" }, `Confidence against IoU of ${counted(points.length, "photo")}${told}. The photos below can be put in order by either.`));
  const label = (tick) => `${Math.round(100 * tick)}%`;
  for (const x of across.ticks) {
    svg.append(
      drawn("line", { class: "rule", x1: right(x), x2: right(x), y1: PLOT.top, y2: PLOT.top + PLOT.height }),
      drawn("text", { x: right(x), y: PLOT.top + PLOT.height + 16, "text-anchor": "middle" }, label(x)),
    );
  }
  for (const y of up.ticks) {
    svg.append(
      drawn("line", { class: "rule", y1: above(y), y2: above(y), x1: PLOT.left, x2: PLOT.left + PLOT.width }),
      drawn("text", { x: PLOT.left - 6, y: above(y) + 4, "text-anchor": "end" }, label(y)),
    );
  }
  const middle = [PLOT.left + PLOT.width / 2, PLOT.top + PLOT.height / 2];
  svg.append(
    drawn("text", { x: middle[0], y: 350, "text-anchor": "middle" }, "mean confidence"),
    drawn("text", { x: 0, y: 0, "text-anchor": "middle", transform: `translate(10 ${middle[1]}) rotate(-90)` }, "IoU"),
  );
  for (const photo of points) {
    const [cx, cy] = [right(photo.confidence), above(photo.iou)];
    const text = `${photo.name}: confidence ${percent(photo.confidence)}, IoU ${percent(photo.iou)}`;
    photo.point = drawn("circle", { cx, cy, r: points.length > 500 ? 2.5 : 4 }, drawn("title", {}, text));
    photo.point.addEventListener("click", () => chosen(photo));
    svg.append(photo.point);
  }
  return svg;
}

function drawFailures() {
  if (!data.failures.length) return;
  byId("failures").hidden = false;
  byId("failures-title").append(" ", element("span", { class: "quiet" }, data.failures.length.toLocaleString("en")));
  const row = ([path, reason]) =>
    element("tr", {}, element("th", { scope: "row" }, isolated(path)), element("td", {}, isolated(reason)));
  portions(data.failures, row, byId("failures-body"), byId("failures-more"), 20);
}

function drawRun() {
  const { command, model = {}, options = {}, timing = {}, counts = {} } = data.run;
  byId("command").textContent = command || "";
  byId("command").hidden = !command;
  const fact = (list, name, value) => {
    if (value === null || value === undefined || value === "") return;
    const text = typeof value === "object" ? JSON.stringify(value) : String(value);
    byId(list).append(element("div", {}, element("dt", {}, name), element("dd", {}, text)));
  };
  const { started, ...times } = timing;
  fact("facts", "ended", data.run.status);
  fact("facts", "model", model.name);
  fact("facts", "device", [data.run.device, data.run.precision].filter(Boolean).join(", "));
  fact("facts", "started", started && moment(started));
  fact("facts", "ovseg", data.run.version);
  fact("facts", "page made", moment(data.made));
  fact("more-facts", "SHA-256 of the model", model.checksum);
  for (const group of [times, counts, options]) {
    for (const [name, value] of Object.entries(group)) fact("more-facts", name.replaceAll("_", " "), value);
  }
  document.querySelector("#run details").hidden = !byId("more-facts").children.length;
}
