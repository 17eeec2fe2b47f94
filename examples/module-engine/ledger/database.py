"""The engine and the session factory, made where everybody can import them."""

import os

from sqlalchemy import Column, Integer, String, create_engine, func
from sqlalchemy.orm import declarative_base, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)
Base = declarative_base()


class Entry(Base):
    """One line of the ledger, and which server session of PostgreSQL wrote it."""

    __tablename__ = "ledger_entries"

    id = Column(Integer, primary_key=True)
    subject = Column(String, nullable=False)
    written_by = Column(Integer, nullable=False, default=func.pg_backend_pid())
