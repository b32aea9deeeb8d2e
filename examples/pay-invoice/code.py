"""One payment, as a task of its own: `approval` starts a run of it for each invoice.

`concurrency` in config.json keeps all workers together from paying more than two at a time.
"""


async def pay_invoice(api, invoice):
    if not isinstance(invoice, int):
        raise ValueError(f"not the number of an invoice: {invoice!r}")
    response = await fetch(f"{api}/hooks/payments", method="POST", json={"invoice": invoice})
    return response.raise_for_status().json()["delivery"]
