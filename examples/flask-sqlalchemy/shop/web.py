"""The Flask application."""

import os

from flask import Flask

from shop.models import Order, db


def create_app():
    app = Flask("shop")
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
    db.init_app(app)

    @app.get("/orders")
    def orders():
        return [order.article for order in db.session.scalars(db.select(Order))]

    return app
