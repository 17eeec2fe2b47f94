"""The Celery worker: `celery -A shop.worker worker`."""

import os

from celery import Celery, Task
from sqlalchemy import func, select

from shop.models import Order, db
from shop.web import create_app

flask_app = create_app()

# Innocent, and the fault: this runs in the worker's first process, and leaves a connection in the pool that all its
# children will inherit.
with flask_app.app_context():
    db.create_all()
    orders_before = db.session.scalar(select(func.count(Order.id)))


class InTheApp(Task):
    def __call__(self, *arguments, **options):
        with flask_app.app_context():
            return self.run(*arguments, **options)


celery = Celery("shop", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"], task_cls=InTheApp)
celery.conf.task_default_queue = "shop"
celery.conf.broker_connection_retry_on_startup = True


@celery.task
def place_order(article):
    order = Order(article=article)
    db.session.add(order)
    db.session.commit()
    return {"article": order.article, "session": order.written_by, "process": os.getpid()}
