"""A report of two things that are collected at the same time, and that somebody has to approve:

    sequential-ecosystem send <run-id> APPROVE --data '{"by": "Ann"}'

The regions of "collect" run side by side, so their states take what they need from
`context["results"]`, by the path of a state; the input would be whatever was returned last.
"""


async def fetch_emails(input):
    response = await fetch(f"{input['api']}/messages")
    return response.raise_for_status().json()["messages"]


def process_emails(input, context):
    messages = context["results"]["collect.mail.fetchEmails"]
    return [message["id"] for message in messages if "nvoice" in message["subject"]]


async def fetch_sales(input):
    response = await fetch(f"{input['api']}/sales", params={"day": input["day"]})
    return response.raise_for_status().json()["total"]


async def generate_report(input, context):
    results = context["results"]
    report = {
        "day": context["input"]["day"],
        "invoices": results["collect.mail.processEmails"],
        "total": results["collect.sales.fetchSales"],
    }
    response = await fetch(f"{context['input']['api']}/reports", method="POST", json=report)
    return {"report": response.raise_for_status().json()["id"], **report}


def handle_error(error):
    return {"report": None, "error": error["message"]}
