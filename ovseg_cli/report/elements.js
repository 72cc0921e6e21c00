"use strict";
// What stands in the data came from file names and class names: it goes into the page through
// textContent and attributes only, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const classes = new Map(data.classes.map((entry) => [entry.id, entry]));

function byId(id) {
  return document.getElementById(id);
}

/** A new element with attributes and children; text stays text. */
function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A name that may run from right to left, kept from turning its surroundings. */
function isolated(text) {
  return element("bdi", {}, text);
}

function percent(share) {
  if (share > 0 && share < 0.001) return "<0.1%";
  return `${(100 * share).toFixed(1)}%`;
}

function counted(number, one, many = `${one}s`) {
  return `${number.toLocaleString("en")} ${number === 1 ? one : many}`;
}

/** "2026-01-31T12:00:00+00:00" in fewer letters. */
function moment(text) {
  return text.slice(0, 16).replace("T", " ") + (text.endsWith("+00:00") ? " UTC" : "");
}

function mean(values) {
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : 0;
}

/** Gives an element a class's colour; pixels without a class are striped. */
function paint(target, id) {
  const color = classes.get(id).color;
  if (color) target.style.backgroundColor = `rgb(${color.join(",")})`;
  else target.classList.add("unlabelled");
  return target;
}

function swatch(id) {
  return paint(element("span", { class: "swatch", "aria-hidden": "true" }), id);
}

/** Lets the keyboard go on from an element that is not to be reached by Tab. */
function goOnFrom(target) {
  target.tabIndex = -1;
  target.focus({ preventScroll: true });
}

/** Lets links to places of this page lead there and leave the address, which keeps the view. */
function keepAddress(links) {
  for (const link of links) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return; // to another tab or window
      event.preventDefault();
      const target = byId(link.hash.slice(1));
      target.scrollIntoView();
      goOnFrom(target);
    });
  }
}

/** Adds rows in portions, with a button for the next one. */
function portions(rows, make, body, place, size) {
  let shown = 0;
  const button = element("button", { type: "button" });
  const next = () => {
    const added = rows.slice(shown, shown + size).map(make);
    body.append(...added);
    if (shown) goOnFrom(added[0]); // not at first, when nobody has asked
    shown += added.length;
    button.textContent = `Show more (${(rows.length - shown).toLocaleString("en")})`;
    if (shown === rows.length) button.remove();
  };
  button.addEventListener("click", next);
  if (rows.length > size) place.append(button);
  next();
}
