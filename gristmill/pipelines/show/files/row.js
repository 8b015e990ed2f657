// One row, block by block. Each maker takes a block of the data and gives elements.
const makers = {
  note: block => el("p", { class: "told" }, block.text),
  text: block => [el("h3", {}, block.title), el("div", { class: "text" }, block.text)],
  turns: block => [lossKey(block.turns), ...folded(block.turns)],
  pair,
  drawing,
  answers: block => block.groups.flatMap(group => [el("h3", {}, group.title + (group.answers.length > 1 ? `: ${group.answers.length}` : "")), ...group.answers.map(answer)]),
  judged: block => [el("h3", {}, "What verifiers and scorers said"), el("p", { class: "told" }, "Values are as each of them defines them: a verifier's is 1 for right and 0 for wrong. Of a pair, names that begin with chosen_ or rejected_ are of that side."),
    grid(["by", "value", "outcome", "why"], block.rows.map(([by, value, outcome, why]) => [by, value || "–", outcomeTag(outcome), el("div", { class: "text" }, why)]))],
  passages: block => [el("h3", {}, `Passages that the answer may use (${block.passages.length})`), ...block.passages.map(([title, text], i) =>
    el("details", { open: i < 3 }, el("summary", {}, `[${i + 1}] ${title}`), el("div", { class: "text" }, text)))],
  fields: block => [el("details", { open: block.fields.length < 9 }, el("summary", {}, `Other columns (${block.fields.length})`),
    el("div", { class: "wide" }, el("table", { class: "fields" }, block.fields.map(([name, value]) => el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, el("div", { class: "text" }, value)))))))],
};

const rowBlocks = row => (row.blocks ?? []).map(block => el("section", { class: "block" }, makers[block.is](block)));
const outcomeTag = outcome => outcome ? el("span", { class: `tag ${outcome}` }, outcome + (["unparseable", "timeout", "error"].includes(outcome) ? " (undecided)" : "")) : "–";

// Turns, of which a prompt's worked examples are folded: all before the last question that nobody trains on.
function folded(turns) {
  const last = turns.findLastIndex(t => t.role === "user"), first = turns[0]?.role === "system" ? 1 : 0;
  if (last - first < 5 || turns.slice(0, last).some(t => t.train) || turns.slice(last).some(t => t.train === false && t.role === "assistant")) return turns.map(t => turn(t));
  const before = turns.slice(first, last);
  return [...turns.slice(0, first).map(t => turn(t)), el("details", {}, el("summary", {}, `${before.length} earlier turns of the prompt, such as worked examples`), before.map(t => turn(t))), ...turns.slice(last).map(t => turn(t))];
}

function lossKey(turns) {
  if (turns.some(t => t.train !== null))
    return el("p", { class: "key" }, el("span", { class: "text" }, el("mark", { class: "loss" }, "Marked text is trained:")), "the model learns to write it. Grey text is not trained: the model only reads it.");
  return el("p", { class: "key" }, "This row does not say which turns are trained; that is settled when it is exported.");
}

function piece([text, kind, why]) {
  if (kind === "loss") return el("mark", { class: "loss" }, text);
  if (kind === "unsupported") return el("span", {}, el("mark", { class: "unsupported" }, text), el("span", { class: "why" }, ` [no passage supports this: ${why}] `));
  if (kind === "call") return el("code", { class: "call", title: why }, text);
  return el("span", {}, text);
}

function turn(t, inside = null, against = false) {
  const part = t.pieces.some(p => p[1] === "loss");
  const state = t.train === null ? "" : !t.train ? "untrained" : part ? "trained part" : "trained";
  const tag = t.train === null ? "" : el("span", { class: t.train ? "tag loss" : "tag plain" }, !t.train ? "not trained" : against ? "trained against" : part ? "trained in part" : "trained");
  return el("div", { class: `turn ${state}` + (["user", "assistant", "system", "developer", "tool"].includes(t.role) ? ` ${t.role}` : "") }, el("b", {}, t.role), tag, thought(t.thought),
    el("div", { class: "text" }, Array.isArray(inside) ? inside : t.pieces.map(piece)));
}

const thought = text => text ? el("details", { class: "thought" }, el("summary", {}, `Reasoning before the answer (${counted(text.length, "character")})`), el("div", { class: "text" }, text)) : "";

function answer(a) {
  const tag = el("span", { class: `tag ${a.outcome}` }, a.outcome || "not judged"), why = a.told ? el("small", { class: "told" }, ` (${a.told})`) : "";
  const short = a.text.length < 240, body = el("div", { class: "text" }, a.text || "(empty)");
  return short ? el("div", { class: "answer" }, tag, why, thought(a.thought), body) : el("details", {}, el("summary", {}, tag, ` ${clip(one(a.text), 70)}`), why, thought(a.thought), body);
}

// A pair: the sides beside each other, with the words that only one of them has.
function pair(block) {
  const plain = side => block[side].map(t => t.pieces.map(p => p[0]).join(""));
  const marked = ["chosen", "rejected"].some(side => block[side].some(t => t.pieces.length > 1));
  const holder = el("div", { class: "sides" });
  const note = el("span", { class: "told" });
  const button = el("button", { type: "button", id: "diff", "aria-pressed": !marked }, "Mark what differs ", el("kbd", {}, "d"));
  const show = on => {
    button.setAttribute("aria-pressed", on);
    const alike = on && block.chosen.length === block.rejected.length;
    const found = alike ? plain("chosen").map((text, i) => differences(text, plain("rejected")[i])) : [];
    note.textContent = on && !alike ? " The sides have different numbers of turns: not compared." : found.includes(null) ? " Too long to compare word by word." : "";
    holder.replaceChildren(...["chosen", "rejected"].map((side, which) => el("div", { class: side },
      el("h3", {}, side === "chosen" ? "Chosen: the better answer, to be made likelier" : "Rejected: the worse answer, to be made less likely"),
      block[side].map((t, i) => turn(t, found[i] ? found[i][which].map(([text, shared]) => el(shared ? "span" : which ? "del" : "ins", {}, text)) : null, which === 1)))));
  };
  button.addEventListener("click", () => show(button.getAttribute("aria-pressed") !== "true"));
  show(!marked);
  return [el("h3", {}, "Prompt, which both sides answer"), ...folded(block.prompt), el("p", { class: "key" }, button, note), holder];
}

// Steps as a list from top to bottom, or a tree of them to click through.
function drawing(block) {
  const d = block.drawing, marks = d.marks;
  const key = el("p", { class: "key" }, `Value of a step: ${number(d.scale[0])}`, el("span", { class: "ramp", id: "ramp" }), `${number(d.scale[1])}. How likely a right answer is after it; where rollouts were drawn, the share of right ones, and below it the 95 % interval.`);
  key.querySelector("#ramp").style.background = ramp();
  const problem = [el("h3", {}, "Problem"), el("div", { class: "text" }, d.problem), d.answer ? el("p", {}, `Reference answer: ${d.answer}`) : ""];
  const top = [el("p", { class: "told" }, d.title), key];
  if (marks.every((m, i) => m.parent === i - 1)) return [...problem, ...top, el("ol", { class: "steps" }, marks.map(step(d)))];
  const map = el("div", { id: "map", tabindex: -1 }), detail = el("div", { id: "node" });
  const view = new TreeView(map, d, index => detail.replaceChildren(...nodeDetail(d, index)));
  queueMicrotask(() => view.pick(0));
  return [...top, el("p", { class: "told" }, "Click a node, or use the arrow keys in the tree. The thick line leads to the best answer; 3/4 is right rollouts of those decided, n the visits."), map, detail];
}

const step = d => (m, i) => {
  if (!m.text && !has(m.value)) return "";
  const swatch = el("span", { class: "swatch" });
  swatch.style.background = colour(m.value, d.scale);
  const counts = m.decided ? `${m.correct ?? 0} of ${m.decided} right` : "";
  return el("li", { class: "step" }, el("div", {}, el("span", { class: "value" }, has(m.value) ? m.value.toFixed(2) : "no value"), swatch, el("small", {}, counts),
    has(m.low) ? el("small", {}, `${m.low.toFixed(2)} to ${m.high.toFixed(2)}`) : ""),
    el("div", {}, m.note ? el("span", { class: `tag ${m.note.includes("error") ? "rejected" : "plain"}` }, m.note) : "", m.outcome ? outcomeTag(m.outcome) : "", el("div", { class: "text" }, m.text || (i ? "(blank)" : "")),
      (m.rollouts ?? []).length ? el("details", {}, el("summary", {}, counted(m.rollouts.length, "rollout") + " from here"), rolloutList(m.rollouts)) : ""));
};
