// Steps and search trees: a drawing of nodes in the colours of their values, and what is known of one node.
const W = 168, H = 40, GAP_X = 46, GAP_Y = 12;
// Orange for bad, grey between, teal for good: told apart by colour-blind readers too.
const BAD = [236, 138, 69], MIDDLE = [216, 218, 220], GOOD = [69, 190, 175];

function colour(value, scale) {
  if (value === undefined || value === null) return "var(--none)";
  const [low, high] = scale;
  const t = Math.min(1, Math.max(0, (value - low) / (high - low)));
  const [a, b, s] = t < 0.5 ? [BAD, MIDDLE, t * 2] : [MIDDLE, GOOD, t * 2 - 1];
  return `rgb(${a.map((x, i) => Math.round(x + (b[i] - x) * s)).join(" ")})`;
}
const ramp = () => `linear-gradient(to right, rgb(${BAD.join(" ")}), rgb(${MIDDLE.join(" ")}), rgb(${GOOD.join(" ")}))`;
const has = value => value !== undefined && value !== null;
const ending = outcome => outcome === "correct" ? " ✓" : outcome === "incorrect" ? " ✗" : outcome ? " ?" : "";

function place(marks) {
  const depth = [], y = new Array(marks.length).fill(0), children = marks.map(() => []);
  marks.forEach((m, i) => { depth[i] = m.parent < 0 ? 0 : depth[m.parent] + 1; if (m.parent >= 0) children[m.parent].push(i); });
  let row = 0;
  const stack = [[0, false]];
  while (stack.length) {
    const [i, done] = stack.pop();
    if (!children[i].length) y[i] = row++;
    else if (done) y[i] = (y[children[i][0]] + y[children[i].at(-1)]) / 2;
    else { stack.push([i, true]); for (const c of [...children[i]].reverse()) stack.push([c, false]); }
  }
  const width = (depth.reduce((a, b) => Math.max(a, b), 0) + 1) * (W + GAP_X);
  return { children, x: depth.map(d => d * (W + GAP_X)), y: y.map(v => v * (H + GAP_Y)), width, height: row * (H + GAP_Y) };
}

// Draws a tree into ``holder``; ``picked`` is called with the index of the node that the reader picks.
class TreeView {
  constructor(holder, drawing, picked) {
    this.marks = drawing.marks;
    this.told = picked;
    this.at = 0;
    const found = place(this.marks), root = svg("svg", { class: "tree", width: found.width, height: found.height + 6, role: "tree", "aria-label": "search tree" });
    this.children = found.children;
    this.marks.forEach((m, i) => {
      if (m.parent < 0) return;
      const x0 = found.x[m.parent] + W, y0 = found.y[m.parent] + H / 2 + 3, x1 = found.x[i], y1 = found.y[i] + H / 2 + 3, mid = (x0 + x1) / 2;
      root.append(svg("path", { d: `M${x0},${y0}C${mid},${y0} ${mid},${y1} ${x1},${y1}`, class: m.path ? "link path" : "link" }));
    });
    this.groups = this.marks.map((m, i) => root.appendChild(this.node(m, i, found.x[i], found.y[i] + 3, drawing.scale)));
    root.addEventListener("keydown", event => this.move(event));
    holder.replaceChildren(root);
  }

  node(m, i, x, y, scale) {
    const g = svg("g", { class: "node", tabindex: i ? -1 : 0, role: "treeitem", "data-node": i, transform: `translate(${x},${y})`, "aria-label": `node ${i}, value ${number(m.value)}` });
    g.append(svg("rect", { class: "box", x: 1.5, y: 1.5, width: W - 3, height: H - 3, rx: m.terminal ? 14 : 4, fill: colour(m.value, scale) }));
    const ink = has(m.value) ? "#101214" : "var(--ink)";
    const counts = m.decided ? ` ${m.correct ?? 0}/${m.decided}` : m.visits ? ` n=${m.visits}` : "";
    g.append(svg("text", { x: 8, y: 15, fill: ink, "font-weight": 600 }, (has(m.value) ? m.value.toFixed(2) : "–") + counts + ending(m.outcome)));
    g.append(svg("text", { x: 8, y: 29, fill: ink }, clip(one(m.text ?? "") || (i ? "(blank)" : "question"), 23)));
    if (has(m.low)) {
      g.append(svg("rect", { x: 8, y: 33, width: W - 16, height: 2.5, fill: "#0002" }));
      g.append(svg("rect", { x: 8 + m.low * (W - 16), y: 33, width: Math.max(1, (m.high - m.low) * (W - 16)), height: 2.5, fill: "#0008" }));
    }
    g.addEventListener("click", () => this.pick(i));
    return g;
  }

  move(event) {
    const parent = this.marks[this.at].parent, beside = parent < 0 ? [0] : this.children[parent], place = beside.indexOf(this.at);
    const to = { ArrowLeft: parent, ArrowRight: this.children[this.at][0], ArrowUp: beside[place - 1], ArrowDown: beside[place + 1] }[event.key];
    if (to === undefined || to < 0) return;
    event.preventDefault();
    this.pick(to, true);
  }

  pick(index, focus = false) {
    this.groups[this.at].classList.remove("picked");
    this.groups[this.at].setAttribute("tabindex", -1);
    this.at = index;
    this.groups[index].classList.add("picked");
    this.groups[index].setAttribute("tabindex", 0);
    if (focus) this.groups[index].focus();
    this.groups[index].scrollIntoView({ block: "nearest", inline: "nearest" });
    this.told(index);
  }
}

function rolloutList(rollouts) {
  return rollouts.map((r, i) => el("details", {},
    el("summary", {}, el("span", { class: r.outcome }, r.outcome), ` ${i}: ${clip(one(r.text), 60) || "(nothing more)"}`),
    el("div", { class: "text" }, r.text)));
}

// What is known of one node: the problem, its numbers, the text up to it, the rollouts from it, the prompt.
function nodeDetail(drawing, index) {
  const m = drawing.marks[index], path = [];
  for (let i = index; i >= 0; i = drawing.marks[i].parent) path.unshift(i);
  const rows = { value: number(m.value), "right of decided": m.decided ? `${m.correct ?? 0} of ${m.decided}` : "–",
    "95 % interval": has(m.low) ? `${number(m.low)} to ${number(m.high)}` : "–", visits: m.visits ?? 0,
    prior: number(m.prior), reward: number(m.reward), answer: m.outcome || "–", note: m.note || "–" };
  const prefix = el("div", { class: "text", id: "prefix" });
  for (const i of path) {
    const { text, value } = drawing.marks[i];
    if (!text) continue;
    const step = el("mark", i === index ? { class: "here" } : {}, text);
    step.style.background = has(value) ? colour(value, drawing.scale) : "transparent";
    if (!has(value)) step.style.color = "inherit";
    prefix.append(step);
  }
  if (!prefix.childNodes.length) prefix.textContent = "(the question alone)";
  const rollouts = m.rollouts ?? [];
  return [
    el("h2", {}, "Problem"), el("div", { class: "text", id: "problem" }, drawing.problem),
    drawing.answer ? el("div", {}, `Reference: ${drawing.answer}`) : "",
    el("h2", {}, `Node ${index}, depth ${path.length - 1}`),
    el("table", { id: "statistics" }, Object.entries(rows).map(([name, value]) => el("tr", {}, el("td", {}, name), el("td", {}, value)))),
    el("h2", {}, "Prefix"), prefix,
    el("h2", {}, `Rollouts from here: ${rollouts.length}`), el("div", { id: "rollouts" }, rolloutList(rollouts)),
    el("h2", {}, "Prompt"), ...(drawing.prompt ?? []).map(message => el("details", {},
      el("summary", {}, `${message.role}: ${clip(one(message.content), 60)}`), el("div", { class: "text" }, message.content))),
  ];
}
