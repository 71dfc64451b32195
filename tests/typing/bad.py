"""Typed uses that mypy --strict must refuse: each on the line that ends in `# E:` and the kind of the error."""

import gqueue

queue = gqueue.Queue("reports")
gqueue.Queue()  # E: call-arg
gqueue.Queue("reports", capacity="many")  # E: arg-type


@queue.task
def add(a: int, b: int = 0) -> int:
    return a + b


queue.task(priority="high")  # E: call-overload
add("1", 2)  # E: arg-type
add.enqueue("1", 2)  # E: arg-type
add.enqueue()  # E: call-arg
add.enqueue(1, c=2)  # E: call-arg
add.job(1, 2, 3)  # E: call-arg
add.options(durable=1)  # E: arg-type
add.options(when_full="later")  # E: arg-type
add.options(priority="high").enqueue(1)  # E: arg-type
add.options(priority=1).enqueue("1")  # E: arg-type
text: str = add.enqueue(1).result()  # E: assignment
queue.enqueue_many([add])  # E: arg-type
add.enqueue(1).id = "mine"  # E: misc
gqueue.Retry(delay="soon")  # E: arg-type
gqueue.no_such_name()  # E: attr-defined
