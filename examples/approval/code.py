"""Work that waits for a person, and hands a part of it to a task of its own.

`wait_for_event` puts the run away until somebody answers, in the next minute or the next month:

    sequential-ecosystem answer <run-id> approval --data '{"by": "Ann", "ok": true}'

`run_task` starts `pay-invoice` as a run of its own, which any worker may drive, and waits for it.
"""


async def approval(api, invoices, patience):
    try:
        answer = await wait_for_event("approval", timeout=patience)
    except TimeoutError:
        return {"paid": [], "reason": "nobody answered"}
    if not answer["ok"]:
        return {"paid": [], "reason": f"refused by {answer['by']}"}

    payments = [run_task("pay-invoice", {"api": api, "invoice": invoice}) for invoice in invoices]
    outcomes = await settle(*payments)
    paid = [invoices[number] for number, outcome in enumerate(outcomes) if outcome["ok"]]
    return {"paid": paid, "reason": f"approved by {answer['by']}"}
