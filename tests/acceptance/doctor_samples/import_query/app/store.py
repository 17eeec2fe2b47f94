"""A query while modules are imported: its connection lies in the pool when the children are forked."""

import os

from sqlalchemy import create_engine, text

engine = create_engine(os.environ["SAMPLE_DATABASE"], pool_size=2)
with engine.connect() as connection:
    VERSION = connection.execute(text("SELECT version()")).scalar()
