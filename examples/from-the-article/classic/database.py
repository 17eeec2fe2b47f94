"""The engine, made once, where everybody can import it; and the one table."""

import os

from sqlalchemy import Column, ForeignKey, Integer, MetaData, String, create_engine
from sqlalchemy.orm import declarative_base, sessionmaker

engine = create_engine(os.environ["DATABASE_URL"])
Session = sessionmaker(engine)
Base = declarative_base(metadata=MetaData(schema="classic"))


class Item(Base):
    """A file or a folder; a corporation's root folder has no parent."""

    __tablename__ = "vmb_items"

    id = Column(Integer, primary_key=True)
    corp_index = Column(Integer, nullable=False)
    parent_id = Column(ForeignKey("classic.vmb_items.id"))
    name = Column(String, nullable=False)
    onedrive_item_id = Column(String)
    child_count = Column(Integer, nullable=False, default=0)
