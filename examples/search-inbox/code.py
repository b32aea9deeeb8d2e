"""Page through an inbox, then read what looks interesting.

Every `fetch` is a checkpoint: killed on page 40, the run goes on with page 40.
"""


async def search_inbox(api, word):
    found = []
    page = 1
    while page is not None:
        response = await fetch(f"{api}/messages", params={"page": page})
        listing = response.raise_for_status().json()
        for message in listing["messages"]:
            if word.lower() in message["subject"].lower():
                found.append(await read(api, message["id"]))
        print(f"page {page}: {len(found)} found so far")
        page = listing["next"]
    return {"word": word, "count": len(found), "messages": found}


async def read(api, message_id):
    response = await fetch(f"{api}/messages/{message_id}")
    message = response.raise_for_status().json()
    return {"id": message_id, "subject": message["subject"], "body": message["body"]}
