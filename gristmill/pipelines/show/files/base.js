// What every script of a page uses: elements, texts that stay texts, numbers.
// All text comes from models and data sets. It is set as text, never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const $ = id => document.getElementById(id);

// Signs that cannot be seen, or turn the order of what follows, are shown by their numbers.
const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff])/;

function put(node, text) {
  String(text).replace(/\r\n/g, "\n").split(HIDDEN).forEach((piece, i) => {
    if (i % 2) {
      const sign = document.createElement("span");
      sign.className = "hidden-sign";
      sign.textContent = "U+" + piece.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      node.append(sign);
    } else if (piece) node.append(piece);
  });
  return node;
}

// An element with attributes and children: elements, or texts. What is null or false is left out.
function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value !== null && value !== false) node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat()) {
    if (child instanceof Node) node.append(child);
    else if (child !== null && child !== undefined && child !== false) put(node, child);
  }
  return node;
}

function svg(name, attributes = {}, text = null) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) put(node, text);
  return node;
}

// A plot that Gristmill has drawn. The parsed document is inert, and the page's policy lets nothing in it run.
const plot = text => document.adoptNode(new DOMParser().parseFromString(text, "text/html").body.firstChild);

const number = x => x === undefined || x === null ? "–" : (+(+x).toFixed(3)).toString();
const count = n => n.toLocaleString("en-US");
const counted = (n, one, many = one + "s") => `${count(n)} ${n === 1 ? one : many}`;
const one = text => text.replace(/\s+/g, " ").trim();
const clip = (text, n) => [...text].length > n ? [...text].slice(0, n - 1).join("") + "…" : text;

function grid(head, rows, attributes = {}) {
  const cells = (row, kind) => el("tr", {}, row.map((cell, i) => el(i ? kind : "th", i ? {} : { scope: kind === "th" ? "col" : "row" }, Array.isArray(cell) ? cell.flat(2) : cell)));
  return el("div", { class: "wide", tabindex: 0, role: "region", "aria-label": head[0] || "table" },
    el("table", attributes, el("thead", {}, cells(head, "th")), el("tbody", {}, rows.map(row => cells(row, "td")))));
}
