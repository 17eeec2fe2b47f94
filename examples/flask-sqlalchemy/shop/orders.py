"""Place some orders through a running worker, and judge the answers: `python -m shop.orders [how many]`."""

import sys
from collections import Counter, defaultdict
from uuid import uuid4

from celery.exceptions import TimeoutError as NoAnswer

from shop.worker import place_order

how_many = int(sys.argv[1]) if len(sys.argv) > 1 else 40
asked = {article: place_order.delay(article) for article in (str(uuid4()) for _ in range(how_many))}

patience = 30  # seconds, and none for the rest once a task has not answered: its process hangs
counts, messages, used_by = Counter(), Counter(), defaultdict(set)
for article, result in asked.items():
    try:
        answer = result.get(timeout=patience, propagate=False)
    except NoAnswer:
        counts["unanswered"] += 1
        patience = 0.1
        continue
    if result.failed():
        counts["failed"] += 1
        messages[next(line for line in result.traceback.splitlines() if line.startswith("sqlalchemy."))] += 1
    else:
        counts["right" if answer["article"] == article else "wrong"] += 1
        used_by[answer["session"]].add(answer["process"])

shared = sum(len(processes) > 1 for processes in used_by.values())
outcomes = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("right", "wrong", "failed", "unanswered"))
print(f"{how_many} orders: {outcomes}")
print(f"the right ones came from {len(used_by)} sessions, {shared} of them used by more than one process")
for message, count in messages.most_common():
    print(f"{count} x {message}")
sys.exit(counts["right"] < how_many or shared > 0)
