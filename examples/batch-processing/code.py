"""An inbox in two batches: one function for each state of graph.json.

A state gets what the one before it has returned; `context` has the input of the run, and what
every state so far has returned. Each function is a run of its own, so a batch that is done is not
fetched again, whatever happens to the next.
"""


async def fetch_batch1(input):
    return await fetch_page(input["api"], 1)


async def process_batch1(batch):
    return [shout(message) for message in batch]


async def fetch_batch2(input, context):
    return await fetch_page(context["input"]["api"], 2)


async def process_batch2(batch, context):
    return context["results"]["processBatch1"] + [shout(message) for message in batch]


async def fetch_page(api, page):
    response = await fetch(f"{api}/messages", params={"page": page})
    return response.raise_for_status().json()["messages"]


def shout(message):
    return {**message, "subject": message["subject"].upper()}
