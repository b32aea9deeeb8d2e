"""Random tasks for property tests: calls, sleeps, gathers, errors, prints, loops, the clock."""

from hypothesis import strategies as st

HEADER = """
import asyncio, random, time
from datetime import datetime
seen = []
def note(x):
    seen.append(x)
    print("note", x)
    return x
async def call(i):
    try:
        return await services.tool.work(i)
    except (ValueError, OSError) as error:
        return note(str(error))
"""

_leaf = st.one_of(
    st.integers(0, 40).map(lambda i: f"note(await call({i}))"),
    st.integers(0, 40).map(lambda i: f"note(await settle(services.tool.work({i}), call({i + 1})))"),
    st.integers(1, 9).map(lambda s: f"await asyncio.sleep({s})"),
    st.integers(1, 9).map(lambda s: f"time.sleep({s})"),
    st.just("note(random.randint(0, 9))"),
    st.just("note(datetime.now().year > 2000)"),
    st.just("local = [len(seen), {'k': (1, b'x')}]; note(local)"),
    st.integers(0, 40).map(lambda i: f"note(await call_host_tool('tool', 'work', [{i}]))"),
)


def _indent(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _block(children: st.SearchStrategy[list[str]]) -> st.SearchStrategy[list[str]]:
    bodies = st.lists(children, min_size=1, max_size=3).map(lambda b: [x for c in b for x in c])
    return st.one_of(
        st.tuples(st.integers(1, 3), bodies).map(
            lambda t: [f"for i{len(t[1])} in range({t[0]}):", *_indent(t[1])]
        ),
        bodies.map(lambda b: ["try:", *_indent(b), "finally:", "    note('finally')"]),
        bodies.map(
            lambda b: [
                "try:",
                *_indent(b),
                "except (ValueError, OSError) as e:",
                "    note(str(e))",
            ]
        ),
        st.lists(bodies, min_size=1, max_size=3).map(_gather),
    )


def _gather(branches: list[list[str]]) -> list[str]:
    lines = []
    for number, branch in enumerate(branches):
        lines += [f"async def branch{number}():", *_indent(branch), f"    return {number}"]
    calls = ", ".join(f"branch{number}()" for number in range(len(branches)))
    return [*lines, f"note(await settle({calls}))"]


_statement = st.recursive(_leaf.map(lambda line: [line]), _block, max_leaves=12)


@st.composite
def programs(draw: st.DrawFn) -> str:
    """The source of a task named `job`."""
    body = [line for part in draw(st.lists(_statement, min_size=1, max_size=4)) for line in part]
    return "\n".join([HEADER, "async def job():", *_indent(body), "    return seen", ""])


def work(i: int) -> object:
    """The service the programs call: most numbers are answered, some refused."""
    if i % 11 == 10:
        raise OSError(f"no {i}")
    if i % 7 == 6:
        return {"list": [i, None, 1.5], "text": "é" * i}
    return i * i
