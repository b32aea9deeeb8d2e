"""The service "crm": each public function is a method that tasks may call.

This is trusted code, run by the engine and not in the sandbox. A call that was in progress when
the process was killed is made again, with the same `idempotency_key`: whoever keeps the key with
what was done does it once.
"""

import json
from pathlib import Path

from sequential import CallContext

CUSTOMERS = [
    {"id": 1, "name": "Ada", "city": "London"},
    {"id": 2, "name": "Grace", "city": "New York"},
    {"id": 3, "name": "Alan", "city": "London"},
]
NOTES = Path(__file__).parents[1] / "crm-notes.json"


def find_customers(city: str) -> list[dict[str, object]]:
    """The customers who live in a city."""
    return [customer for customer in CUSTOMERS if customer["city"] == city]


def add_note(customer_id: int, text: str, context: CallContext) -> None:
    """Write a note to a customer, once per call of a task."""
    notes = _read()
    notes[context.idempotency_key] = {"customer": customer_id, "text": text}
    NOTES.write_text(json.dumps(notes, indent=2))


def count_notes() -> int:
    """How many notes there are."""
    return len(_read())


def _read() -> dict[str, dict[str, object]]:
    return json.loads(NOTES.read_text()) if NOTES.exists() else {}
