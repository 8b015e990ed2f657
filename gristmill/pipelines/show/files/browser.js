// The browser of rows: a list with search and filters, the row that was picked, and keys.
const STEP = 200;
const filters = { search: "", table: "", kind: "", verdict: "", reason: "" };
const texts = new WeakMap();
let report = data, found = [], listed = STEP, at = 0;

const keyOf = row => `${row.table} ${row.id}`;
const tableName = t => (report.runs.length > 1 ? `${report.runs[t.run].name}: ` : "") + t.stage + (t.kind === "rejected" ? " (rejected)" : "");

function words(row) {
  if (!texts.has(row)) texts.set(row, JSON.stringify([row.id, row.head, row.reason, row.detail, row.blocks]).toLowerCase());
  return texts.get(row);
}

const inTable = row => filters.table === "" || row.table === +filters.table;
const matches = row => inTable(row) && ["kind", "verdict", "reason"].every(name => !filters[name] || row[name] === filters[name]);

// Fill the lists of choices from the rows that the chosen table has; a choice that is gone is taken back.
function choices() {
  const tables = report.tables.map((t, i) => [String(i), `${tableName(t)}: ${count(t.shown)}`]).filter((_, i) => report.tables[i].shown);
  options("table", tables, `all stages: ${count(report.rows.length)}`);
  for (const name of ["kind", "verdict", "reason"]) {
    const counts = new Map();
    for (const row of report.rows) if (row[name] && inTable(row)) counts.set(row[name], (counts.get(row[name]) ?? 0) + 1);
    options(name, [...counts].sort((a, b) => b[1] - a[1]).map(([value, n]) => [value, `${clip(value, 60)}: ${count(n)}`]), "any");
    $(name).parentElement.hidden = !counts.size;
  }
}

function options(name, pairs, all) {
  if (!pairs.some(([value]) => value === filters[name])) filters[name] = "";
  $(name).replaceChildren(el("option", { value: "" }, all), ...pairs.map(([value, label]) => el("option", { value }, label)));
  $(name).value = filters[name];
}

// Find the rows that match; ``key`` is the row to stay at where it is still among them.
function refresh(key = found[at] && keyOf(found[at])) {
  choices();
  const asked = JSON.stringify(filters.search.toLowerCase()).slice(1, -1).split(/\s+/).filter(Boolean);
  found = report.rows.filter(row => matches(row) && asked.every(word => words(row).includes(word)));
  const place = found.findIndex(row => keyOf(row) === key);
  at = Math.max(0, place);
  listed = Math.max(STEP, at + 1);
  const some = report.tables.filter(t => t.shown < t.rows);
  const sampled = some.length ? ` This page holds a sample, chosen by a hash of the rows' ids with seed ${report.seed}: ` + some.map(t => `${count(t.shown)} of ${count(t.rows)} of ${tableName(t)}`).join(", ") + "." : "";
  $("matching").textContent = `${counted(found.length, "row")} of ${count(report.rows.length)} on this page.` + sampled;
  list();
  pick(at);
}

function list() {
  const items = found.slice(0, listed).map((row, i) => el("li", {}, el("button", { type: "button", tabindex: i === at ? 0 : -1, "data-at": i, "aria-current": i === at ? "true" : null, on: { click: () => pick(i) } },
    filters.table === "" ? el("span", { class: "id" }, tableName(report.tables[row.table]), " ") : "", tags(row), el("span", { class: "what" }, row.head || "(no text)"), el("span", { class: "id" }, row.id))));
  if (found.length > listed) items.push(el("li", {}, el("button", { type: "button", id: "more", on: { click: () => { listed += STEP; list(); } } }, `Show more (${count(found.length - listed)} left)`)));
  if (!found.length) items.push(el("li", { class: "told" }, "No row matches. 'Show all' takes the filters away."));
  $("list").replaceChildren(...items);
}

const tags = row => [row.reason ? el("span", { class: "tag rejected" }, row.reason) : "", row.kind ? el("span", { class: "tag plain" }, clip(row.kind, 30)) : "", row.verdict ? el("span", { class: `tag ${row.verdict}` }, row.verdict) : ""];

function pick(index, focus = false) {
  const before = $("list").querySelector("[aria-current]");
  before?.removeAttribute("aria-current");
  before?.setAttribute("tabindex", -1);
  at = Math.min(Math.max(index, 0), Math.max(found.length - 1, 0));
  if (at >= listed) { listed = at + STEP; list(); }
  const item = $("list").querySelector(`[data-at="${at}"]`);
  item?.setAttribute("aria-current", "true");
  item?.setAttribute("tabindex", 0);
  if (focus) item?.focus();
  const box = $("list"), top = item ? item.offsetTop - box.offsetTop : 0;
  if (item && (top < box.scrollTop || top + item.offsetHeight > box.scrollTop + box.clientHeight)) box.scrollTop = top - box.clientHeight / 3;
  showRow(found[at]);
}

let open = "";
function showRow(row) {
  const now = row ? JSON.stringify(row) : "";
  if (now === open) return;
  open = now;
  if (!row) return $("row").replaceChildren();
  const table = report.tables[row.table];
  const other = report.runs.length > 1 && report.rows.find(r => r.id === row.id && report.tables[r.table].run !== table.run && report.tables[r.table].stage === table.stage);
  const lost = row.reason ? el("div", { class: "mark" }, el("b", {}, `Rejected: ${row.reason}`), row.detail ? el("div", { class: "text" }, row.detail) : "",
    row.blocks ? el("div", { class: "told" }, "This is the row as it came to this stage.") : el("div", { class: "told" }, "The row itself was not kept.")) : "";
  $("row").replaceChildren(el("h2", {}, row.id), el("p", { class: "key" }, tableName(table), table.state ? el("span", { class: "tag rejected" }, table.state) : "", tags(row),
    other ? el("button", { type: "button", id: "other", on: { click: () => { filters.table = ""; refresh(keyOf(other)); } } }, `The same row in ${report.runs[report.tables[other.table].run].name}`) : ""),
    lost, ...rowBlocks(row));
  if (location.hash.startsWith("#row")) history.replaceState(null, "", address(row));
}

const address = row => row ? `#row/${row.table}/${encodeURIComponent(row.id)}` : "#rows";
