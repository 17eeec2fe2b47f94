"""What the shop keeps."""

from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import func

db = SQLAlchemy()


class Order(db.Model):
    """One order, and which server session of PostgreSQL wrote it down."""

    __tablename__ = "shop_orders"

    id = db.Column(db.Integer, primary_key=True)
    article = db.Column(db.String, nullable=False)
    written_by = db.Column(db.Integer, nullable=False, default=func.pg_backend_pid())
