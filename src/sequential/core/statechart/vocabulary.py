"""The words of a graph, and what to write instead of words that are not for graphs."""

STATE_KEYS = frozenset(
    "id type initial states on after always invoke entry exit onDone history target output "
    "tags meta description".split()
)
MACHINE_KEYS = STATE_KEYS | {"context", "version", "$schema", "title", "implementations"}
IMPLEMENTATION_KEYS = frozenset("guards actions delays".split())
TRANSITION_KEYS = frozenset("target guard actions reenter description meta".split())
INVOKE_KEYS = frozenset("id src input onDone onError description meta retry timeoutMs".split())
ACTION_KEYS = frozenset("type params description".split())
GUARD_KEYS = frozenset("type params description".split())
INITIAL_KEYS = frozenset("target actions description meta".split())

SHORTHAND = ("onDone", "onError", "onSuccess", "onFail")  # of the simple form, on leaf states
WAYS_OUT = ("on", "after", "always")

TYPES = ("atomic", "compound", "parallel", "final", "history")
ACTIONS = ("assign", "raise", "cancel", "log", "emit")
RECORD = "sequential.record"  # what the simple form does with a handler's result
GUARDS = ("and", "or", "not", "stateIn")
NO_PARAMS = '{what} {name} of "implementations" takes no "params": it has context, event and input'

KEY_HINTS = {
    "cond": 'renamed "guard" in XState v5',
    "internal": 'XState v5: leave it out, or write "reenter": true for the opposite',
    "data": 'renamed "output" in XState v5',
    "activities": 'removed in XState v5: use "invoke"',
    "strict": "removed in XState v5: leave it out",
    "delimiter": 'removed in XState v5: write "." between names',
    "predictableActionArguments": "removed in XState v5: leave it out",
    "onEntry": 'renamed "entry"',
    "onExit": 'renamed "exit"',
    "guards": 'put it into "implementations" of the machine: {"guards": {"<name>": ...}}',
    "actions": 'put it into "implementations" of the machine: {"actions": {"<name>": ...}}',
    "delays": 'put it into "implementations" of the machine: {"delays": {"<name>": ...}}',
    "actors": 'write "invoke": {"src": "<function or task:name>"}',
    "setup": 'write "implementations": {"guards": ..., "actions": ..., "delays": ...}',
    "in": 'write "guard": {"type": "stateIn", "params": {"state": "#id"}}',
    "onSnapshot": "observing running children is not supported: wait for onDone",
    "systemId": "actor systems are not supported: leave it out",
    "route": "routable states are not supported: use an event",
    "parallel": 'write "type": "parallel"',
    "handlerType": 'write "invoke": {"src": "<function or task:name>"}',
    "taskName": 'write "invoke": {"src": "task:<name>"}',
    "taskInput": 'write "invoke": {"src": ..., "input": ...}',
    "code": 'put the code into code.py, as a function, and name it in "invoke": {"src": ...}',
    "timeout": 'write "invoke": {"src": ..., "timeoutMs": ...}, or "after"',
    "retries": 'write "invoke": {"src": ..., "retry": {"retries": ...}}',
}
TYPE_HINTS = {
    "conditional": 'write "always": [{"guard": {"$expr": ...}, "target": ...}, "<otherwise>"]',
    "switch": 'write "always": a list of {"guard": {"$expr": ...}, "target": ...}',
    "choice": 'write "always": a list of {"guard": {"$expr": ...}, "target": ...}',
    "normal": "leave it out",
    "task": 'write "invoke": {"src": "task:<name>"}',
}
ACTION_HINTS = {
    "sendTo": 'actors take no events here: use "raise"',
    "sendParent": 'a handler\'s result reaches the graph by "onDone"',
    "spawnChild": 'use "invoke", or "src": "task:<name>" for a child task',
    "stopChild": 'leave the state that has the "invoke"',
    "enqueueActions": 'use several transitions with "guard"',
    "forwardTo": 'actors take no events here: use "raise"',
    "send": 'renamed "raise" in XState v5',
    "choose": 'use several transitions with "guard"',
    "pure": 'use several transitions with "guard"',
    "respond": 'a handler\'s result reaches the graph by "onDone"',
    "stop": 'leave the state that has the "invoke"',
}
