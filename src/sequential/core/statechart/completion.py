"""What it means that a final state was entered.

It queues `xstate.done.state.<parent>` with the output of the final state. A parallel state is done
when each region has reached a final child of its own; a final child of the machine ends it. Our
extension: a final state with an `invoke` counts only when all its handlers have ended.
"""

from typing import Any

from sequential.core.statechart.definition import State
from sequential.core.statechart.working_copy import WorkingCopy


class _Scope:
    def __init__(self, copy: WorkingCopy, event: Any) -> None:
        self.context, self.event, self.input = copy.context, event, copy.input


def has_ended(copy: WorkingCopy, final: State) -> bool:
    """Whether none of the handlers of a final state is in flight."""
    return not any(one.id in copy.invocations for one in final.invocations)


def complete(copy: WorkingCopy, final: State, finished: set[State]) -> None:
    """Tell of a final state that was reached; `finished` are parallel states told of already."""
    output = copy.event.get("output") if final.invocations else None
    if final.output is not None:
        output = final.output.render(copy, copy.count)
    parent = final.container
    if parent.type == "compound":
        copy.queue_event(_done(parent, output))
    completed = final
    above = parent if parent.type == "parallel" else parent.parent
    while (
        above is not None
        and above.type == "parallel"
        and above not in finished
        and _is_done(copy, above)
    ):
        finished.add(above)
        copy.queue_event(_done(above, None))
        completed, above = above, above.parent
    if above is not None:
        return
    copy.status = "done"
    own = copy.chart.root.output
    if own is not None:
        event = _done(completed, output if completed is final else None)
        copy.output = own.render(_Scope(copy, event), copy.count)


def _done(state: State, output: Any) -> dict[str, Any]:
    return {"type": f"xstate.done.state.{state.id}", "output": output}


def _is_done(copy: WorkingCopy, state: State) -> bool:
    if state.type == "parallel":
        return all(_is_done(copy, region) for region in state.regions)
    if state.type == "final":
        return has_ended(copy, state)
    return any(
        child.type == "final" and child in copy.active and has_ended(copy, child)
        for child in state.regions
    )
