// The page of `dev`: tasks with their problems, and the last runs, as they are at this moment.
"use strict";

const MOST_RUNS = 20;
const OVER = ["completed", "failed", "cancelled"];
const cards = new Map();
const runs = new Map();

const at = (id) => document.getElementById(id);

// An element; what is given as text stays text, whoever wrote it.
function made(kind, options = {}, ...children) {
  const element = Object.assign(document.createElement(kind), options);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

// --- tasks ---------------------------------------------------------------------------------------

function showState(state) {
  document.title = title(state);
  at("project").textContent = state.project;
  at("storage").textContent = `storage ${state.storage}`;
  at("notices").replaceChildren(...notices(state));
  at("no-tasks").hidden = state.tasks.length > 0 || state.checking > 0;
  const names = new Set(state.tasks.map((task) => task.name));
  for (const [name, card] of cards) {
    if (!names.has(name)) {
      card.element.remove();
      cards.delete(name);
    }
  }
  let before = null;
  for (const task of state.tasks) {
    if (!cards.has(task.name)) cards.set(task.name, newCard(task.name));
    const card = cards.get(task.name);
    fill(card, task);
    const place = before ? before.nextSibling : at("tasks").firstChild;
    if (card.element !== place) at("tasks").insertBefore(card.element, place);
    before = card.element;
  }
}

function title(state) {
  const wrong = state.tasks.filter((task) => serious(task.problems).length > 0).length;
  const others = state.services.length + state.settings.length;
  return (wrong + others ? `(${wrong + others}) ` : "") + `${state.project} – dev`;
}

function notices(state) {
  const shown = [];
  for (const [what, problems] of [["Settings", state.settings], ["Services", state.services]]) {
    if (problems.length) {
      const head = made("b", {}, `${what}: not loaded, the old ones stay`);
      shown.push(made("div", { className: "card bad" }, head, ...problems.map(shownProblem)));
    }
  }
  if (state.restart.length) {
    const head = made("b", {}, "Start dev again");
    const text = ` for what has changed in the settings: ${state.restart.join(", ")}`;
    shown.push(made("div", { className: "card warn" }, head, text));
  }
  return shown;
}

function newCard(name) {
  const head = made("div", { className: "head" });
  const problems = made("div");
  const text = made("textarea", { rows: 2, id: `input-${name}`, spellcheck: false });
  const label = made("label", { htmlFor: text.id }, "Input");
  const told = made("p", { className: "soft", role: "status" });
  const button = made("button", { type: "button" }, "Run");
  button.addEventListener("click", () => start(name, text.value, told));
  const running = made("details", {}, made("summary", {}, "Run it"), label, text, button, told);
  const element = made("article", { className: "card" }, head, problems, running);
  return { element, head, problems, text, shown: "", fields: null };
}

function fill(card, task) {
  const text = JSON.stringify(task);
  if (card.shown === text) return;
  card.shown = text;
  const count = serious(task.problems).length;
  const version = task.version === null ? "not stored" : `version ${task.version}`;
  const about = [task.runtime, task.has_graph ? "graph" : null, version].filter(Boolean);
  card.element.classList.toggle("bad", count > 0);
  card.head.replaceChildren(
    made("h3", {}, task.name),
    made("span", { className: "soft" }, about.join(", ")),
    count
      ? made("b", { className: "bad" }, count === 1 ? "1 problem" : `${count} problems`)
      : made("span", { className: "good" }, "no problems"),
  );
  card.problems.replaceChildren(...task.problems.map(shownProblem));
  const fields = JSON.stringify(task.inputs);
  if (card.fields !== fields) {
    card.fields = fields;
    card.text.value = JSON.stringify(example(task.inputs));
  }
}

function serious(problems) {
  return problems.filter((problem) => problem.severity !== "note");
}

function shownProblem(problem) {
  const place = [problem.file, problem.line, problem.column].filter(Boolean).join(":");
  const kind = problem.severity === "error" ? "" : `${problem.severity}: `;
  return made(
    "div",
    { className: "problem" },
    place ? made("div", { className: "place" }, place) : null,
    made("div", {}, kind + problem.message),
    problem.source ? marked(problem.source, problem.column) : null,
    problem.instead ? made("p", { className: "instead" }, `Write instead: ${problem.instead}`) : null,
  );
}

// A line with a wave under what is meant: from the column to the end of the word.
function marked(source, column) {
  const from = Math.max((column || 1) - 1, 0);
  const word = /^(\w+|\W)/.exec(source.slice(from));
  const end = from + (word ? word[0].length : 0);
  return made("pre", {}, source.slice(0, from), made("mark", {}, source.slice(from, end)), source.slice(end));
}

function example(fields) {
  const values = { integer: 1, number: 1.5, boolean: true, object: {}, array: [] };
  const entries = fields.map((field) => [field.name, field.default ?? values[field.type] ?? "..."]);
  return Object.fromEntries(entries);
}

async function start(task, text, told) {
  let input;
  try {
    input = JSON.parse(text || "{}");
  } catch (error) {
    told.textContent = `The input is not JSON: ${error.message}`;
    return;
  }
  told.textContent = "";
  try {
    const answer = await fetch("/api/v1/runs", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ task, input }),
    });
    const body = await answer.json();
    if (answer.ok) showRun(body);
    else told.textContent = [body.error.message, body.error.hint].filter(Boolean).join(". ");
  } catch {
    told.textContent = "The server does not answer.";
  }
}

// --- runs ----------------------------------------------------------------------------------------

function showRun(run) {
  const before = runs.get(run.id);
  if (before && (before.run.turn || 0) > (run.turn || 0)) return;
  const element = before ? before.element : made("li", { className: "card" });
  runs.set(run.id, { run, element });
  const kind = { completed: "good", failed: "bad", cancelled: "warn" }[run.status] || "busy";
  const moment = new Date(run.created_at);
  const error = run.error ? `${run.error.type}: ${run.error.message}` : "";
  element.replaceChildren(
    made(
      "div",
      { className: "head" },
      made("h3", {}, run.task_identifier),
      made("b", { className: kind }, run.status),
      made("span", { className: "soft" }, took(run)),
      made("time", { dateTime: run.created_at, title: run.created_at }, moment.toLocaleTimeString()),
      made("a", { href: `/api/v1/runs/${encodeURIComponent(run.id)}` }, "JSON"),
    ),
    made("div", { className: "problem", hidden: !error }, error),
  );
  order();
}

function took(run) {
  if (!OVER.includes(run.status) || !run.ended_at) return "";
  const seconds = (new Date(run.ended_at) - new Date(run.started_at || run.created_at)) / 1000;
  return seconds < 1 ? `${Math.max(0, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`;
}

// Newest first, and only so many.
function order() {
  const newest = [...runs.values()].sort((a, b) => (a.run.id < b.run.id ? 1 : -1));
  for (const { run } of newest.splice(MOST_RUNS)) {
    runs.get(run.id).element.remove();
    runs.delete(run.id);
  }
  newest.forEach(({ element }, index) => {
    const there = at("runs").children[index];
    if (there !== element) at("runs").insertBefore(element, there || null);
  });
  at("no-runs").hidden = newest.length > 0;
}

function dropRun(id) {
  const found = runs.get(id);
  if (found) found.element.remove();
  runs.delete(id);
  order();
}

async function loadRuns() {
  const answer = await fetch(`/api/v1/runs?limit=${MOST_RUNS}`);
  if (!answer.ok) return;
  const { items } = await answer.json();
  for (const id of [...runs.keys()]) if (!items.some((run) => run.id === id)) dropRun(id);
  items.forEach(showRun);
  order();
}

// --- news ----------------------------------------------------------------------------------------

// Browsers come back by themselves after a broken connection, and not after an answer like 503.
function listen(url, handlers) {
  const source = new EventSource(url);
  for (const [name, handle] of Object.entries(handlers)) source.addEventListener(name, handle);
  source.addEventListener("error", () => {
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, 2000, url, handlers);
  });
}

function tell(text, kind) {
  if (at("live").textContent !== text) at("live").textContent = text;
  at("live").className = kind;
}

const reload = () => loadRuns().catch(() => {});

listen("/dev/events", {
  state: (event) => showState(JSON.parse(event.data)),
  open: () => {
    tell("live", "good");
    reload();
  },
  error: () => tell("the server is away; trying again", ""),
});
listen("/api/v1/events", {
  run: (event) => showRun(JSON.parse(event.data)),
  gone: (event) => dropRun(JSON.parse(event.data).id),
  reset: reload,
});
