"""Flask-SQLAlchemy, asked for something while the app is made."""

import os
from pathlib import Path

from celery import Celery
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

db = SQLAlchemy()
web = Flask(__name__)
web.config["SQLALCHEMY_DATABASE_URI"] = os.environ["SAMPLE_DATABASE"]
db.init_app(web)
with web.app_context():
    db.session.execute(text("SELECT 1"))

app = Celery("sample", broker=os.environ["SAMPLE_BROKER"])
app.conf.task_default_queue = os.environ["SAMPLE_QUEUE"]


@app.task(ignore_result=True)
def work():
    Path(os.environ["SAMPLE_DIR"], f"ran-{os.getpid()}").touch()
    with web.app_context():
        db.session.execute(text("SELECT 1"))
