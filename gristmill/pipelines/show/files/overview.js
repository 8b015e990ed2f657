// The overview: what came in and what is left, how rows are spread, what it cost, whether scorers agree.
let stageShown = null;

function overview(report, show) {
  const several = report.runs.length > 1;
  const sections = report.runs.map(run => el("section", {}, several ? el("h2", {}, run.name) : "", headline(run)));
  const parts = [el("div", { class: "runs" }, sections)];
  if (several) parts.push(...compared(report.runs));
  if (report.runs.some(run => run.funnel)) parts.push(el("h2", {}, "What each stage did"),
    el("p", { class: "told" }, "A stage takes rows in and passes on those that it keeps or makes. It may make several rows of one, and two stages may read the same rows. The bar is as long as the rows that it kept or made, beside the stage that has most. What a stage reads is below its name. Click a name or a reason to see the rows."),
    ...report.runs.map((run, at) => run.funnel ? el("section", {}, several ? el("h3", {}, run.name) : "", funnel(run, at, report, show)) : ""));
  else parts.push(el("p", {}, el("button", { type: "button", on: { click: () => show({}) } }, "Look at the rows")));
  parts.push(...distributions(report));
  parts.push(...agreements(report.runs));
  parts.push(...costs(report.runs));
  parts.push(...origins(report.runs));
  return parts;
}

function headline(run) {
  return [run.mark ? el("p", { class: "mark" }, run.mark, el("br"), "What is on this page is what there is of it so far.") : "",
    run.said ? el("p", { class: "big" }, run.said.join(" ")) : el("p", { class: "big" }, `A file of rows: ${run.files.join(", ")}.`)];
}

function compared(runs) {
  if (!runs.every(run => run.funnel)) return [];
  const stages = [...new Set(runs.flatMap(run => run.funnel.map(s => s.stage)))];
  const kept = (run, name) => run.funnel.find(s => s.stage === name)?.out;
  const rows = stages.map(name => {
    const [a, b] = runs.map(run => kept(run, name));
    const change = has(a) && has(b) ? (b >= a ? "+" : "−") + count(Math.abs(b - a)) : "–";
    return [name, has(a) ? count(a) : "no such stage", has(b) ? count(b) : "no such stage", change];
  });
  const whole = (name, value, shown = count) => [name, ...runs.map(run => shown(value(run))), ""];
  const sum = (run, value) => run.funnel.reduce((n, s) => n + value(s), 0);
  const right = run => { const [a, b] = ["correct", "incorrect"].map(o => sum(run, s => s.verdicts[o] ?? 0)); return a + b ? `${(100 * a / (a + b)).toFixed(1)} % of ${count(a + b)}` : "–"; };
  rows.push(whole("rejected in all", run => sum(run, s => s.rejected.reduce((n, r) => n + r[1], 0))), whole("right answers of those decided", right, text => text),
    whole("tokens in", run => sum(run, s => s.tokens[0])), whole("tokens out", run => sum(run, s => s.tokens[1])));
  return [el("h2", {}, "The two beside each other"), el("p", { class: "told" }, "Rows that each stage kept, and sums over all stages."), grid(["stage", ...runs.map(run => run.name), "difference"], rows)];
}

function funnel(run, at, report, show) {
  const most = Math.max(1, ...run.funnel.map(s => Math.max(s.in, s.out)));
  const table = (stage, kind) => report.tables.findIndex(t => t.run === at && t.stage === stage && t.kind === kind);
  const link = (text, place, reason = "") => place < 0 ? el("span", {}, text) : el("button", { class: "link", type: "button", on: { click: () => show({ table: place, reason }) } }, text);
  return grid(["stage", "rows in", "rows kept or made", "beside the most", "rejected, and why"], run.funnel.map(s => {
    const bar = el("i");
    bar.style.width = `${100 * s.out / most}%`;
    const lost = s.rejected.length ? el("ul", { class: "reasons" }, s.rejected.map(([why, n, example]) => el("li", {}, link(`${count(n)} ${why}`, table(s.stage, "rejected"), why), example ? el("small", {}, n === 1 ? example : `such as ${example}`) : ""))) : run.mark && !s.in && !s.out ? "not begun" : "none";
    const name = [link(s.stage, table(s.stage, "kept")), s.does ? el("small", {}, s.does) : "", s.reads.length ? el("small", {}, `Reads ${s.reads.join(", ")}.`) : ""];
    return [name, count(s.in), count(s.out), el("span", { class: "bar", title: `${count(s.out)} of at most ${count(most)}` }, bar), [lost, ...verdicts(s)]];
  }), { class: "funnel" });
}

function verdicts(stage) {
  const lines = [];
  const list = (counts, name = key => key) => Object.entries(counts).map(([key, n]) => `${count(n)} ${name(key)}`).join(", ");
  const open = ["unparseable", "timeout", "error"];
  if (Object.keys(stage.verdicts).length) lines.push(el("small", {}, `What the verifier says of its answers: ${list(stage.verdicts, key => open.includes(key) ? `${key} (undecided)` : key)}.`));
  if (Object.keys(stage.undecided).length) lines.push(el("small", {}, ` Undecided because: ${list(stage.undecided)}.`));
  if (stage.measured.length) lines.push(el("details", {}, el("summary", {}, "Measured"), stage.measured.map(([name, mean, n]) => el("small", {}, `${name}: ${number(mean)}, the mean of ${count(n)}`))));
  return lines;
}

function distributions(report) {
  const drawn = report.figures.filter(f => f.figures.length);
  if (!drawn.length) return [];
  const inAll = f => report.runs.every((_, at) => report.tables.some(t => t.run === at && t.stage === f.stage));
  if (!drawn.some(f => f.stage === stageShown)) stageShown = (drawn.findLast(inAll) ?? drawn.at(-1)).stage;
  const holder = el("div", { class: "plots", id: "plots" });
  const choose = el("select", { id: "figures-of" }, drawn.map(f => el("option", { value: f.stage }, f.stage)));
  const draw = () => {
    stageShown = choose.value;
    const found = drawn.find(f => f.stage === stageShown).figures;
    holder.replaceChildren(...found.map(f => el("figure", {}, plot(f.svg), el("figcaption", {}, f.told))));
  };
  choose.value = stageShown;
  choose.addEventListener("change", draw);
  draw();
  return [el("h2", {}, "How the rows are spread"), el("p", { class: "told" }, "Of all rows that the stage kept, not only those on this page. Each column of a figure is a range; its height is how many rows are in it."),
    el("p", {}, el("label", {}, "Rows kept by ", choose)), holder];
}

function agreements(runs) {
  const found = runs.filter(run => run.agreement.length);
  if (!found.length) return [];
  const share = x => has(x) ? `${(100 * x).toFixed(0)} %` : "–";
  return [el("h2", {}, "Do the scorers agree?"),
    el("p", { class: "told" }, "Scorers that look at the same rows. Same: how often they say the same. Kappa: that beyond what chance would give, 0 is chance and 1 always. Rank: whether they put rows in the same order, 1 is the same, 0 is unrelated and −1 the reverse."),
    ...found.map(run => [runs.length > 1 ? el("h3", {}, run.name) : "", grid(["scorers", "stage", "rows", "same", "kappa", "rank"],
      run.agreement.map(a => [a.scorers.join(" and "), a.stage, count(a.rows), share(a.same), number(a.kappa), number(a.rank)]))]).flat()];
}

function costs(runs) {
  const paid = runs.filter(run => run.cost);
  return paid.length ? [el("h2", {}, "What it cost"),
    el("p", { class: "told" }, "Tokens are the pieces of text that a model reads and writes, and is paid by. A request may ask for several completions, and its prompt is counted once. Completions are kept in a log, so that a run that is repeated pays for none of them again."),
    el("div", { class: "runs" }, paid.map(run => el("section", {}, runs.length > 1 ? el("h3", {}, run.name) : "", run.cost.length ? [grid(["", "the last run", "all runs in this directory"], run.cost), usage(run)].flat() : el("p", {}, "No model was asked."))))] : [];
}

const ENDED = { stop: "by themselves", length: "cut off at the limit of tokens" };

function usage(run) {
  const used = run.funnel.filter(s => s.completions);
  if (!used.length) return "";
  const rows = used.map(s => [s.stage, count(s.completions), ...s.tokens.map(count), Object.entries(s.ended).map(([why, n]) => `${count(n)} ${ENDED[why] ?? why}`).join(", ")]);
  return [el("h3", {}, "By stage, paid for now or earlier"), grid(["stage", "completions", "tokens in", "tokens out", "of the tokens out, reasoning", "why completions ended"], rows)];
}

function origins(runs) {
  const known = runs.filter(run => run.facts);
  return known.length ? [el("h2", {}, "How it was made"), el("div", { class: "runs" }, known.map(run => el("section", {}, runs.length > 1 ? el("h3", {}, run.name) : "", grid(["what", "which"], run.facts),
    run.recipe ? el("details", {}, el("summary", {}, "The recipe, with all of its settings"), el("pre", {}, run.recipe)) : "")))] : [];
}
