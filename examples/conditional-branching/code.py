"""One of two ways: `{"success": False}` and an exception lead to "onFail", the rest to "onSuccess".

Where a way begins, the function gets what was returned; after an exception its name and message.
"""


async def check_status(input):
    status = await fetch(f"{input['api']}/shops/{input['shop']}/kettle")
    return {"success": status.ok, "answer": status.json()}


async def process_a(result):
    return {"path": "A", "price": result["answer"]["price"]}


async def process_b(result):
    return {"path": "B", "reason": result["answer"]["error"]}
