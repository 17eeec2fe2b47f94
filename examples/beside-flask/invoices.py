"""Invoices: an application of its own beside Haulage. It imports nothing of it; it knows a function and a task's name."""

import json
import os
from pathlib import Path
from urllib.request import Request, urlopen

from celery import Celery
from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

CORP = 7
INBOX = Path(os.environ["INBOX_DIR"], str(CORP))
HAULAGE = f"{os.environ['HAULAGE_URL']}/api/v1/corporations/{CORP}"
TOKEN = {"Authorization": f"Bearer {os.environ['HAULAGE_TOKEN']}"}

app = Flask("invoices")
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
db = SQLAlchemy(app)
queue = Celery("invoices", broker=os.environ["REDIS_URL"], backend=os.environ["REDIS_URL"])


class Invoice(db.Model):
    number = db.Column(db.Integer, primary_key=True)
    customer = db.Column(db.String, nullable=False)
    upload_id = db.Column(db.Uuid, nullable=False)


@app.cli.command("create-tables")
def create_tables():
    db.create_all()


@app.post("/invoices/<int:number>/<customer>")
def write(number, customer):
    """Through SQL: the invoice and its upload are one transaction. Both are there, or neither."""
    filename = f"invoices/{number}.pdf"
    enqueue = text("SELECT corporate.enqueue_upload(:corp, :filename)")
    upload_id = db.session.scalar(enqueue, {"corp": CORP, "filename": filename})
    db.session.add(Invoice(number=number, customer=customer, upload_id=upload_id))
    try:
        db.session.flush()
    except IntegrityError:
        db.session.rollback()  # and nothing is queued
        return {"error": "there is such an invoice"}, 409
    put_into_inbox(filename, request.get_data())  # before the commit: a worker may come right after it
    db.session.commit()
    return {"upload_id": upload_id}, 202


@app.get("/invoices/<int:number>")
def show(number):
    """What became of it: Haulage's HTTP interface knows."""
    invoice = db.get_or_404(Invoice, number)
    with urlopen(Request(f"{HAULAGE}/uploads/{invoice.upload_id}", headers=TOKEN), timeout=5) as answer:  # noqa: S310
        return {"customer": invoice.customer, "state": json.load(answer)["state"]}


@app.post("/scans/<name>")
def scan(name):
    """Through Celery, by the task's name, and wait for the result."""
    put_into_inbox(f"scans/{name}", request.get_data())
    sent = queue.send_task("tasks.uploads.upload_file", [CORP, f"scans/{name}"], queue="uploads")
    return sent.get(timeout=60)


def put_into_inbox(filename, content):
    path = INBOX / filename
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
