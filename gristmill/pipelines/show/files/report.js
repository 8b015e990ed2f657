// The page as a whole: its parts, the theme, the keys, and what is new where a server keeps it up to date.
const KEYS = [["j, k", "the next row, the one before"], ["/", "search"], ["o", "overview"], ["r", "rows"], ["d", "in a pair, mark what differs"], ["t", "light or dark"], ["?", "this help"], ["Esc", "leave the search or this help"]];
const WORDS = [
  ["row", "One example of the data, such as a problem with an answer, a conversation or a pair of answers."],
  ["stage", "One step of the recipe. It makes rows or sorts them out."],
  ["kept, rejected", "Rows that a stage passed on, and rows that it left out. Rejected rows are never deleted; each says why."],
  ["completion", "A text that a model wrote as an answer."],
  ["verdict", "What a verifier says of an answer: correct or incorrect; or undecided, which is unparseable (no answer could be read), timeout or error. Undecided is never counted as wrong."],
  ["trained, trained against", "Text on which a model is trained carries loss: the model learns to write it. Text that is not trained is only read. The rejected side of a pair is trained against: it is made less likely."],
  ["score", "A number that a scorer or judge gave a row."],
  ["rollout", "An answer that was finished from a step, to find out how often that step leads to a right answer."],
  ["pair", "Two answers to one prompt, of which the chosen one is the better."],
];

function view(part, change = true) {
  for (const name of ["overview", "rows"]) {
    $(name).hidden = name !== part;
    $(`to-${name}`).toggleAttribute("aria-current", name === part);
  }
  if (change) history.replaceState(null, "", part === "rows" ? address(found[at]) : "#overview");
}

function show(wanted) {
  Object.assign(filters, { search: "", table: "", kind: "", verdict: "", reason: "" }, Object.fromEntries(Object.entries(wanted).map(([k, v]) => [k, String(v)])));
  $("search").value = filters.search;
  open = "";
  refresh();
  view("rows");
  scrollTo(0, 0);
}

function render() {
  $("name").replaceChildren();
  put($("name"), `Gristmill report: ${report.runs.map(run => run.name).join(" and ")}`);
  $("overview").replaceChildren(...overview(report, show).flat());
  refresh();
}

function theme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
}

function diff() { $("diff")?.click(); }
function go(by) { if ($("rows").hidden) view("rows"); pick(at + by, document.activeElement?.closest("#list") !== null); scrollTo({ top: 0 }); }

const acts = { j: () => go(1), k: () => go(-1), "/": () => { view("rows"); $("search").focus(); }, o: () => view("overview"), r: () => view("rows"), d: diff, t: theme, "?": () => $("help").showModal() };

document.addEventListener("keydown", event => {
  const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  if (event.key === "Escape" && typing) { event.preventDefault(); return event.target.blur(); }
  if (event.ctrlKey || event.metaKey || event.altKey || typing || $("help").open) return;
  if (event.target.closest?.("#list") && ["ArrowDown", "ArrowUp"].includes(event.key)) { event.preventDefault(); return pick(at + (event.key === "ArrowDown" ? 1 : -1), true); }
  if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
});

$("help-keys").append(...KEYS.map(([key, what]) => el("tr", {}, el("th", { scope: "row" }, el("kbd", {}, key)), el("td", {}, what))));
$("help-words").append(...WORDS.flatMap(([word, meaning]) => [el("dt", {}, word), el("dd", {}, meaning)]));
for (const [id, act] of Object.entries({ "to-overview": () => view("overview"), "to-rows": () => view("rows"), theme, keys: acts["?"], "help-close": () => $("help").close(), clear: () => show({}) })) $(id).addEventListener("click", act);
for (const name of ["table", "kind", "verdict", "reason"]) $(name).addEventListener("change", () => { filters[name] = $(name).value; refresh(); });
$("search").addEventListener("input", () => { filters.search = $("search").value; refresh(); });
$("filters").addEventListener("submit", event => event.preventDefault());

// A server has the page's data again whenever the run has changed; the reader's place stays.
async function poll() {
  let wait = 2000;
  try {
    const answer = await fetch(`data?have=${encodeURIComponent(report.version)}`);
    if (answer.status === 200) {
      report = await answer.json();
      const focused = document.activeElement?.id;
      render();
      if (focused) $(focused)?.focus({ preventScroll: true });
    }
    if (!answer.ok) throw new Error(await answer.text());
    $("fresh").textContent = `as of ${report.changed}, kept up to date`;
  } catch (error) {
    wait = 5000;
    $("fresh").textContent = `Not up to date: ${error.message || "the server does not answer"}. Trying again.`;
  }
  setTimeout(poll, wait);
}

// The first rows to see are those that the last stage kept.
const last = data.tables.findLastIndex(t => t.kind === "kept" && t.shown);
const [part, table, id] = location.hash.slice(1).split("/");
if (last >= 0 && part !== "row") filters.table = String(last);
render();
if (part === "row" && id) { refresh(`${table} ${decodeURIComponent(id)}`); view("rows"); }
else view(part === "rows" ? "rows" : "overview", false);
if (data.live) poll();
