"""Calls, methods and attributes that fail or differ in the VM: the rule fires, and they do."""

import pytest

from sequential.runtimes.sandbox.lint import lint
from sequential.runtimes.sandbox.lint_values import ABSENT, NEVER_CALLED, NO_ATTRIBUTES
from sequential.runtimes.sandbox.vm_names import vm_names
from support.sandbox_vm import Case, check

DATES = "from datetime import date, datetime, timedelta, timezone\n"
DATACLASS = "from dataclasses import dataclass, field\n"
TRY = "import json\ntry:\n    json.loads('x')\nexcept ValueError as e:\n    "

CALLS = [
    Case("await gather(fetch('u'), return_exceptions=True)", "takes no `return_exceptions`"),
    Case("import asyncio\nawait asyncio.gather(fetch('u'), return_exceptions=True)", "takes no"),
    Case("from asyncio import gather as g\nawait g(fetch('u'), return_exceptions=True)", "takes"),
    Case("import json\njson.dumps({}, default=str)", "takes no `default`"),
    Case("import json\njson.dumps({}, cls=str)", "takes no `cls`"),
    Case("import json\njson.loads('{}', object_hook=dict)", "takes no `object_hook`"),
    Case("import json\njson.loads('{}', object_pairs_hook=list)", "takes no `object_pairs_hook`"),
    *(
        Case(f"{DATACLASS}@dataclass({option})\nclass A:\n    x: int", "takes no", [2])
        for option in (
            "order=True",
            "init=False",
            "repr=False",
            "unsafe_hash=True",
            "kw_only=True",
            "slots=True",
            "match_args=False",
        )
    ),
    *(
        Case(
            f"{DATACLASS}@dataclass\nclass A:\n    x: int = field(default=1, {option})", "takes no"
        )
        for option in ("init=False", "repr=False", "hash=True", "compare=False", "kw_only=True")
    ),
    Case("open('a').read()", "a task has no files"),
    Case("with open('a') as f:\n    f.read()", "a task has no files", [1]),
    Case("import os\nos.environ['A']", "no environment variables"),
    Case("import os\nos.environ.get('A')", "no environment variables"),
    Case("from os import getenv\ngetenv('A')", "no environment variables"),
    Case("import os\nos.listdir('.')", "a task has no files"),
    Case("import os\nos.path.exists('a')", "a task has no files"),
    Case("import os\nos.path.expanduser('~')", "no home directory"),
    Case("from pathlib import Path\nPath('a').read_text()", "a task has no files"),
    Case("from pathlib import Path\np = Path('a') / 'b'\np.exists()", "a task has no files"),
    Case("import sys\nsys.stderr.write('x')", "standard error cannot be written to"),
    Case("x = object()", "cannot be made here"),
    Case("class A:\n    x = property(lambda self: 1)\nA().x", "no properties", [2]),
    Case("from typing import TypeVar\nT = TypeVar('T')", "cannot be called"),
    Case("raise ValueError('a', 1)", "one text and nothing else"),
    Case("raise KeyError(3)", "takes a text"),
    Case("raise SystemExit(3)", "takes a text"),
    Case("raise ValueError({'a': 1})", "takes a text"),
    Case("e = ['x']\nraise RuntimeError(e)", "takes a text"),
    Case("raise ImportError('x', name='y')", "one text"),
    Case("next(x for x in [1])", "a list in the sandbox"),
    Case("it = (x for x in [1])\nnext(it)", "a list in the sandbox"),
    *(
        Case(f"next({made})", "a list in the sandbox")
        for made in ("map(str, [1])", "zip([1])", "enumerate([1])", "reversed([1])")
    ),
    Case("import itertools\n[x for x in itertools.count()]", "never ends"),
    Case("import itertools\nx = (x for x in itertools.cycle('a'))", "never ends"),
    Case("import itertools\nfor i in map(str, itertools.count()):\n    break", "never ends", [2]),
    Case("from itertools import repeat\nenumerate(repeat(1))", "never ends"),
    Case("from itertools import count\nzip(count(), count(2))", "never ends"),
    Case("await gather([fetch('u')])", "one by one"),
    Case("await gather(fetch(u) for u in 'ab')", "one by one"),
    Case("calls = [fetch('u')]\nawait gather(calls)", "one by one"),
    Case("r = await settle([fetch('u')])\nr[0]['ok']", "one by one", [1], otherwise=True),
    Case("import re\nre.sub('a', lambda m: 'b', 'a')", "no function"),
    Case("import re\ndef f(m):\n    return 'b'\nre.compile('a').sub(f, 'a')", "no function"),
    Case("'ä'.encode('latin-1')", 'no encoding "latin-1"'),
    Case("b'a'.decode(encoding='cp1252')", 'no encoding "cp1252"'),
    Case("str(b'a', 'iso-8859-1')", "no encoding"),
    Case("bytes('a', 'latin1')", "no encoding"),
    Case(f"{DATES}datetime.strptime('2026', '%Y')", "needs a year"),
    Case(f"{DATES}datetime.strptime('03:04', '%H:%M')", "needs a year"),
    Case(f"{DATES}datetime.strptime('2026-01', '%Y-%m')", "needs a year"),
    Case("bytes([97, 98])", "no list of numbers"),
    Case("n = [97]\nbytes(n)", "no list of numbers"),
    Case("from typing import Dict\nAlias = Dict[str, int]", "only stand in an annotation"),
    Case("from typing import Callable\nF = Callable[[int], str]", "only stand in an annotation"),
]
VALUES = [
    Case("sorted(['b', 'A'], key=str.lower)", "`str.lower` does not exist"),
    Case("list(map(str.strip, [' a']))", "`str.strip` does not exist"),
    Case("str.upper('a')", "`str.upper` does not exist"),
    Case("d = {'a': 1}\nmax(d, key=d.get)", "can only be called"),
    Case("a = []\nadd = a.append", "can only be called"),
    Case("x = 'a'.upper", "can only be called"),
    Case("import re\nfind = re.compile('a').search", "can only be called"),
    Case("import re\nlist(filter(re.compile('a').match, ['a']))", "can only be called"),
    Case(f"{DATACLASS}{DATES}f = datetime.now", "can only be called"),
    Case("from collections import defaultdict\nd = defaultdict({}.get)", "can only be called"),
    Case("n = 5\nn.bit_length()", "`int` has no `bit_length`"),
    Case("n = len('abc')\nn.bit_length()", "`int` has no `bit_length`"),
    Case("(5).to_bytes(2, 'big')", "`int` has no `to_bytes`"),
    Case("int.from_bytes(b'a', 'big')", "`int` has no `from_bytes`"),
    Case("(1.5).is_integer()", "`float` has no `is_integer`"),
    Case("'a'.translate({97: 'b'})", "`str` has no `translate`"),
    Case("str.maketrans('a', 'b')", "`str` has no `maketrans`"),
    Case("'{a}'.format_map({'a': 1})", "`str` has no `format_map`"),
    Case("s = {1}\ns.difference_update([1])", "`set` has no `difference_update`"),
    Case(f"{DATES}datetime.utcnow()", "`datetime` has no `utcnow`"),
    Case(f"{DATES}datetime.fromtimestamp(0)", "`datetime` has no `fromtimestamp`"),
    Case(f"{DATES}datetime.today()", "`datetime` has no `today`"),
    Case("import datetime as dt\ndt.datetime.utcnow()", "`datetime` has no `utcnow`"),
    Case(f"{DATES}now = datetime.now()\nnow.isocalendar()", "`datetime` has no `isocalendar`"),
    Case(f"{DATES}date.today().toordinal()", "`date` has no `toordinal`"),
    Case("from pathlib import Path\nPath('a/b').relative_to('a')", "`Path` has no `relative_to`"),
    Case("from pathlib import Path\nPath('a').match('*')", "`Path` has no `match`"),
    Case("from pathlib import Path\nPath.home()", "`Path` has no `home`"),
    Case("def f(when):\n    return when.isocalendar()\nx = [f(1)]", "no `.isocalendar`", [2]),
    Case(f"{TRY}e.pos", "an exception has no `pos`"),
    Case(f"{TRY}e.__cause__", "an exception has no `__cause__`"),
    Case(f"{TRY}e.__class__.__name__", "an exception has no `__class__`"),
    Case(f"{TRY}e.add_note('x')", "an exception has no `add_note`"),
    Case("def f():\n    pass\nx = f.__name__", "functions have no attributes"),
    Case("def f():\n    pass\nf.calls = 0", "functions have no attributes"),
    Case("class A:\n    pass\nx = A().__dict__", "no `__dict__`"),
    Case("class A:\n    pass\nx = A.__dict__", "no `__dict__`"),
]
DUNDERS = [
    Case("class A:\n    def __len__(self):\n        return 0\nlen(A())", "`__len__`", [2]),
    Case(
        "class A:\n    def __len__(self):\n        return 0\nbool(A())",
        "never calls `__len__`",
        [2],
        otherwise=False,
    ),
    Case(
        "class A:\n    def __bool__(self):\n        return False\nbool(A())",
        "never calls `__bool__`",
        [2],
        otherwise=False,
    ),
    Case(
        "class A:\n    def __lt__(self, o):\n        return True\nsorted([A(), A()])",
        "`__lt__`",
        [2],
    ),
    Case("class A:\n    def __iadd__(self, o):\n        return 1\na = A()\na += 1", "add", [2]),
    Case("class A:\n    def __getattr__(self, n):\n        return 1\nA().x", "getattr", [2]),
    Case("class A:\n    def __getattribute__(self, n):\n        return 1\nA().x", "getattr", [2]),
    Case("class A:\n    def __reversed__(self):\n        return []\nreversed(A())", "rev", [2]),
    Case("class A:\n    def __bytes__(self):\n        return b''\nbytes(A())", "bytes", [2]),
    Case("class A:\n    def __complex__(self):\n        return 1j\ncomplex(A())", "complex", [2]),
    Case(
        "import os\nclass A:\n    def __fspath__(self):\n        return ''\nos.fspath(A())",
        "__fspath__",
        [3],
    ),
    Case("class A:\n    def __await__(self):\n        return iter([])\nawait A()", "await", [2]),
    Case(
        "class A:\n    def __format__(self, s):\n        return 'x'\nf'{A()}'",
        "never calls `__format__`",
        [2],
        otherwise="x",
    ),
    Case(
        "class A:\n    def __new__(cls):\n        return 5\nA()",
        "never calls `__new__`",
        [2],
        otherwise=5,
    ),
    Case(
        "class A:\n    def __setattr__(self, n, v):\n        pass\n"
        "a = A()\na.x = 1\nhasattr(a, 'x')",
        "never calls `__setattr__`",
        [2],
        otherwise=False,
    ),
    Case(
        "class A:\n    def __eq__(self, o):\n        return True\n    def __ne__(self, o):\n"
        "        return True\nA() != A()",
        "never calls `__ne__`",
        [4],
        otherwise=True,
    ),
    Case(
        "class A:\n    def __class_getitem__(cls, k):\n        return k\nA[1]",
        "never calls `__class_getitem__`",
        [2],
    ),
    Case(
        "class A:\n    def __getitem__(self, k):\n        return [1, 2][k]\n[x for x in A()]",
        "`A` has no `__iter__`",
        [4],
    ),
]


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.source)
def test_the_call_fails(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", VALUES, ids=lambda case: case.source)
def test_the_attribute_is_not_there(case: Case) -> None:
    check(case)


@pytest.mark.parametrize("case", DUNDERS, ids=lambda case: case.source)
def test_the_special_method_is_never_called(case: Case) -> None:
    check(case)


def test_what_is_absent_everywhere_is_absent_in_the_vm() -> None:
    methods = vm_names().methods.values()
    for name in ABSENT:
        assert not any(name in one.methods for one in methods)
        assert any(name in one.absent for one in [*methods, *vm_names().type_methods.values()])


@pytest.mark.parametrize(
    "source",
    [
        "from dataclasses import dataclass\n@dataclass(repr=True, eq=True)\nclass A:\n    x: int",
        "class A:\n    def get(self):\n        return 1\nf = A().get\nf()",
        "from dataclasses import dataclass\n@dataclass\nclass A:\n    count: int\nA(1).count",
        "class Codec:\n    def encode(self, x):\n        return x\nCodec().encode('latin-1')",
        "import itertools\nlist(map(lambda a, b: a + b, [1], itertools.count()))",
        "class A:\n    def __init__(self):\n        self.count = 1\nA().count",
        "from collections import namedtuple\nP = namedtuple('P', 'count index')\nP(1, 2).count",
        "import random\npick = random.choice",
        "import datetime\ndatetime.date(2026, 1, 1).year",
        "send = services.mail.send",
        "from services import mail\nlist_mail = mail.list",
        "r = await fetch('u')\nread = r.json\nget = r.headers.get",
        (
            "class A:\n    def translate(self, x):\n        return x\n"
            "def f(a):\n    return a.translate(1)"
        ),
        "raise ValueError",
        "def f(e):\n    raise ValueError(e)",
        "raise OSError(f'a {1}')",
        "next(iter([1]), None)",
        "import itertools\nfor i in itertools.count():\n    break",
        "import itertools\nlist(zip(itertools.count(), 'ab'))",
        "await gather(*[fetch(u) for u in 'ab'])",
        "'a'.encode('UTF8').decode('utf-8', 'replace')",
        "from datetime import datetime\ndatetime.strptime('1/2/26', '%m/%d/%y')",
        "from datetime import datetime\ndatetime.strptime('1 Jan 2026 03:04', '%d %b %Y %H:%M')",
        "from typing import Optional\nMaybe = Optional[int]",
        "from typing import Dict\nx: Dict[str, int] = {}",
        "class A:\n    pass\nx = (A.__name__, A().__class__, type(1).__name__, int.__name__)",
        "try:\n    1\nexcept OSError as e:\n    x = e.args",
        "class A:\n    def __eq__(self, o):\n        return True\nA() == A()",
        "import os\nos.path.join(os.getcwd(), 'a')",
        "from pathlib import Path\nPath('a/b.txt').suffix",
    ],
)
def test_what_works_is_left_alone(source: str) -> None:
    assert lint(source) == []


def test_every_rule_says_what_to_write() -> None:
    assert all([*ABSENT.values(), *NEVER_CALLED.values(), *NO_ATTRIBUTES.values()])
