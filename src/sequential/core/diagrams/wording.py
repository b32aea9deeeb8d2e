"""How a drawing says events, conditions and times: as people say them.

`xstate.after.86400000.order.approval` becomes "after 1 d", the end of a handler "done" or "error",
a guard stands in brackets.
"""

import itertools
import re

from sequential.core.statechart.definition import Action, State, Transition
from sequential.core.statechart.simple import HAS_FAILED, HAS_STATUS_ERROR
from sequential.core.statechart.vocabulary import RECORD

_LONGEST = 44
_UNITS = ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"))
# What the simple form adds for its author, who wrote a word instead.
_ADDED = (f"not ({HAS_FAILED['$expr']})", HAS_FAILED["$expr"], HAS_STATUS_ERROR["$expr"])
_WORDS = {"onSuccess": "success", "onFail": "failed", "onDone": "done", "onError": "error"}
_WORD = re.compile(r"\.(on[A-Z][a-z]+)(\[[0-9]+\])?\Z")


def label(transition: Transition) -> str:
    """What to write beside the arrow of a transition: event, then the guard in brackets."""
    word, condition = _event(transition), _condition(transition)
    if not condition and _is_otherwise(transition, word):
        condition = "else"
    return " ".join(part for part in (word, condition and f"[{condition}]") if part)


def remarks(state: State) -> list[str]:
    """What a state does without being left: its handlers, and events that lead nowhere else."""
    runs = [one.src for one in state.invocations]
    lines = [f"runs {', '.join(runs)}"] if runs and runs != [state.name] else []
    for transitions in [*state.on.values(), list(state.always)]:
        for one in transitions:
            if one.targets is None and not _is_only_ours(one):
                does = _actions(one.actions)
                lines.append(f"{label(one) or 'always'}: {does or 'nothing'}")
    return lines


def duration(milliseconds: float) -> str:
    """`90000` as "1.5 min"."""
    for size, unit in _UNITS:
        if milliseconds >= size and (milliseconds * 100 % size == 0 or unit == "s"):
            return f"{milliseconds / size:g} {unit}"
    return f"{milliseconds:g} ms"


def title(state: State) -> str:
    """The name in the box of a state: the letter H for history, as everywhere."""
    if state.type == "history":
        return "H*" if state.deep else "H"
    return state.name


def cut(text: str, longest: int = _LONGEST) -> str:
    """The text on one line and not too long to be drawn."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _event(transition: Transition) -> str:
    source, event = transition.source, transition.event
    if _is_recorded(transition) and (written := _WORD.search(transition.where)):
        return _WORDS.get(written[1], "done")
    for delay in source.delays:
        if event == delay.event:
            named = event.removeprefix("xstate.after.").removesuffix(f".{source.id}")
            return f"after {duration(delay.milliseconds) if delay.milliseconds else named}"
    if event == f"xstate.done.state.{source.id}":
        return "done"
    for invocation in source.invocations:
        of = f" {invocation.src}" if len(source.invocations) > 1 else ""
        if event == f"xstate.done.actor.{invocation.id}":
            return f"done{of}"
        if event == f"xstate.error.actor.{invocation.id}":
            return f"error{of}"
    return event


def _condition(transition: Transition) -> str:
    """The guard as its author wrote it."""
    if transition.guard is None:
        return ""
    text = transition.guard.text
    for added in _ADDED if _is_recorded(transition) else ():
        if text == added:
            return ""
        text = text.removeprefix(f"({added}) and ")
    return text


def _is_otherwise(transition: Transition, word: str) -> bool:
    """Whether it is taken when the guards before it do not hold."""
    source, event = transition.source, transition.event
    for other in source.on.get(event, ()) if event else source.always:
        if other is transition:
            return False
        if _condition(other) and _event(other) == word:
            return True
    return False


def _is_recorded(transition: Transition) -> bool:
    """Whether the simple form made it, of a word of its author."""
    return any(one.type == RECORD for one in transition.actions)


def _is_only_ours(transition: Transition) -> bool:
    """Whether all it does is what the simple form adds: to keep the result."""
    return all(one.type == RECORD for one in transition.actions) and bool(transition.actions)


def _actions(actions: tuple[Action, ...]) -> str:
    """Their names; those that one name stands for are said once."""
    shown = [one for one in actions if one.type != RECORD]
    groups = itertools.groupby(shown, key=lambda one: one.name or one)
    return ", ".join(one.name or one.type for one in (next(group) for _, group in groups))
