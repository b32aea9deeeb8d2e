// What XState does with statecharts: reads cases as JSON lines {config, input, steps}, and prints
// for each the list of observations, after the start and after every step.
//
//   node observe.cjs <folder of the package xstate> [entered]
//
// XState takes simultaneous transitions in the order in which their states were entered, and in
// another one after a restart. SCXML says document order, and so do we: unless the second argument
// is "entered", the two lines that decide it are altered while the package is read.
"use strict";
const fs = require("node:fs");
const Module = require("node:module");
const readline = require("node:readline");

const [, , home, order] = process.argv;
const IN_DOCUMENT_ORDER = ".sort((a, b) => a.order - b.order)";
const DECIDED = /^ *_nodes: (nextStateNodes|Array\.from\(.*getAllStateNodes\(.*),$/;
let altered = 0;

if (order !== "entered") {
  const compile = Module.prototype._compile;
  Module.prototype._compile = function (source, path) {
    const lines = source.split("\n").map((line) => {
      if (!DECIDED.test(line.replace(/,?$/, ","))) return line;
      altered += 1;
      return line.replace(/,?$/, `${IN_DOCUMENT_ORDER},`);
    });
    return compile.call(this, lines.join("\n"), path);
  };
}
const xstate = require(home);
if (order !== "entered" && altered !== 2) throw new Error(`${altered} lines decide the order`);

const MICROSTEPS = 1000;
const list = (value) => (value === undefined ? [] : Array.isArray(value) ? value : [value]);
const json = (value) => (value === undefined ? null : JSON.parse(JSON.stringify(value)));

// Expressions, which the Python side has translated, with Python's truth and tolerant reading.
const h = {
  read: (value, key) => (value !== null && typeof value === "object" ? value[key] ?? null : null),
  truth: (value) =>
    typeof value === "object" && value !== null ? Object.keys(value).length > 0 : Boolean(value),
  divide: (a, b) => {
    if (b === 0) throw new Error("division by zero");
    return a / b;
  },
};

function template(part, input) {
  if (part === null || typeof part !== "object") return () => part;
  if (typeof part.$js === "string") {
    const f = new Function("h", "context", "event", "input", `return ${part.$js};`);
    return ({ context, event }) => f(h, context, event, input) ?? null;
  }
  const fields = Object.entries(part).map(([key, one]) => [key, template(one, input)]);
  if (Array.isArray(part)) return (env) => fields.map(([, fill]) => fill(env));
  return (env) => Object.fromEntries(fields.map(([key, fill]) => [key, fill(env)]));
}

function guard(spec, input) {
  if (spec.$js) {
    const value = template(spec, input);
    return (env) => h.truth(value(env));
  }
  const { guards, guard: inner, state } = spec.params;
  if (spec.type === "and") return xstate.and(guards.map((one) => guard(one, input)));
  if (spec.type === "or") return xstate.or(guards.map((one) => guard(one, input)));
  if (spec.type === "not") return xstate.not(guard(inner, input));
  if (spec.type === "stateIn") return xstate.stateIn(state);
  throw new Error(`no guard ${spec.type}`);
}

function action({ type, params = {} }, input, trace) {
  const fill = template(params, input);
  if (type === "assign") return xstate.assign(fill);
  if (type === "raise") {
    const { id, delay } = params;
    return xstate.raise((env) => fill(env).event, { id, delay });
  }
  if (type === "cancel") return xstate.cancel(params.id);
  if (type === "log") return (env) => trace.push(json(fill(env)));
  throw new Error(`no action ${type}`);
}

function transition(spec, input, trace) {
  if (typeof spec === "string") return { target: spec };
  const out = { ...spec, actions: list(spec.actions).map((one) => action(one, input, trace)) };
  if (spec.guard) out.guard = guard(spec.guard, input);
  return out;
}

function translate(config, input, trace) {
  const one = (spec) => list(spec).map((each) => transition(each, input, trace));
  const byName = (table) =>
    Object.fromEntries(Object.entries(table).map(([name, spec]) => [name, one(spec)]));
  const actions = (spec) => list(spec).map((each) => action(each, input, trace));
  const out = { ...config };
  if (config.on) out.on = byName(config.on);
  if (config.after) out.after = byName(config.after);
  if (config.always) out.always = one(config.always);
  if (config.onDone) out.onDone = one(config.onDone);
  if (config.entry) out.entry = actions(config.entry);
  if (config.exit) out.exit = actions(config.exit);
  if (config.initial?.target)
    out.initial = { ...config.initial, actions: actions(config.initial.actions) };
  if ("output" in config) out.output = template(config.output, input);
  if (config.context) {
    const fill = template(config.context, input);
    out.context = () => fill({ context: {}, event: { input } });
  }
  if (config.invoke)
    out.invoke = list(config.invoke).map((each) => ({
      ...each,
      ...("input" in each && { input: template(each.input, input) }),
      ...("onDone" in each && { onDone: one(each.onDone) }),
      ...("onError" in each && { onError: one(each.onError) }),
    }));
  if (config.states)
    out.states = Object.fromEntries(
      Object.entries(config.states).map(([name, state]) => [name, translate(state, input, trace)]),
    );
  return out;
}

// A handler that ends when it is told to, so that all is synchronous.
const handler = {
  getInitialSnapshot: (_, input) => ({ status: "active", input: json(input) }),
  transition: (snapshot, { type, value }) =>
    type === "resolve"
      ? { ...snapshot, status: "done", output: value }
      : type === "reject"
        ? { ...snapshot, status: "error", error: value }
        : snapshot,
  getPersistedSnapshot: (snapshot) => snapshot,
  restoreSnapshot: (snapshot) => snapshot,
};

function sources(config, found = {}) {
  for (const { src } of list(config.invoke)) found[src] = handler;
  for (const state of Object.values(config.states ?? {})) sources(state, found);
  return found;
}

function observe(actor, trace) {
  const snapshot = actor.getSnapshot();
  const active = snapshot.status === "active";
  const children = Object.entries(snapshot.children ?? {}).filter(
    ([, child]) => child.getSnapshot().status === "active",
  );
  const timers = Object.values(actor.system.getSnapshot()._scheduledEvents);
  const history = Object.entries(snapshot.historyValue ?? {});
  return {
    value: json(snapshot.value),
    context: json(snapshot.context),
    status: snapshot.status,
    output: json(snapshot.output),
    error: snapshot.error instanceof Error ? { thrown: true } : json(snapshot.error),
    trace: trace.splice(0),
    invocations: active ? children.map(([id, { src, getSnapshot }]) => [id, src, getSnapshot.call(snapshot.children[id]).input ?? null]).sort() : [],
    timers: active ? timers.map(({ event }) => event.type).sort() : [],
    history: Object.fromEntries(history.map(([id, nodes]) => [id, nodes.map((n) => n.id).sort()])),
  };
}

function walk({ config, input, steps }) {
  const trace = [];
  const clock = new xstate.SimulatedClock();
  const machine = xstate.createMachine(translate(config, input, trace), { actors: sources(config) });
  machine.options.maxIterations = MICROSTEPS;
  const begin = (snapshot) => {
    const actor = xstate.createActor(machine, { clock, input, snapshot, logger: () => {} });
    actor.subscribe({ error: () => {} }); // it is in the snapshot
    return actor.start();
  };
  let actor = begin();
  const seen = [observe(actor, trace)];
  for (const step of steps) {
    if ("send" in step) actor.send(step.send);
    if ("advance" in step) clock.increment(step.advance);
    for (const type of ["resolve", "reject"])
      if (type in step)
        actor.getSnapshot().children[step[type][0]]?.send({ type, value: step[type][1] });
    if ("restart" in step) actor = begin(JSON.parse(JSON.stringify(actor.getPersistedSnapshot())));
    seen.push(observe(actor, trace));
  }
  return seen;
}

const warn = console.warn;
console.warn = (...text) => (process.env.ORACLE_WARNINGS ? warn(...text) : undefined);
readline.createInterface({ input: fs.createReadStream(null, { fd: 0 }) }).on("line", (line) => {
  let seen;
  try {
    seen = { seen: walk(JSON.parse(line)) };
  } catch (refused) {
    seen = { refused: String(refused.stack) };
  }
  process.stdout.write(`${JSON.stringify(seen)}\n`);
});
