"""Asks one recipe whether a transaction that is open at the fork survives a child that tidies up what it inherited."""

import json
import os
import signal
import sys

from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import scoped_session, sessionmaker

from benchmarks.recipes import RECIPES, Recipe
from benchmarks.workload import DROP, INSERT, TABLE, ended, execute, first_line, in_clean_process


def lost_to_a_child(recipe: str, url: str) -> str | None:
    """Return the error that the parent's commit gives, or None if its transaction stands."""
    error: str | None = in_clean_process("benchmarks.open_transaction", {"recipe": recipe, "url": url})
    return error


def attempt(recipe: Recipe, url: str) -> str | None:
    execute(url, TABLE)
    recipe.at_start()
    engine = create_engine(url, **recipe.options)
    sessions = scoped_session(sessionmaker(engine))
    sessions.execute(INSERT, {"run": "open transaction", "worker": 0, "number": 0})
    engine = recipe.before_fork(engine)
    child = os.fork()
    if child == 0:
        with ended():
            signal.alarm(10)  # a child that hangs has done its harm
            sessions.remove()
            with recipe.in_child(engine).connect() as connection:
                connection.execute(text("SELECT 1"))
    os.waitpid(child, 0)
    try:
        sessions.commit()
    except SQLAlchemyError as error:
        return first_line(error)
    finally:
        sessions.remove()
        execute(url, DROP)
    return None


def main() -> None:
    order = json.load(sys.stdin)
    print(json.dumps(attempt(RECIPES[order["recipe"]], order["url"])))


if __name__ == "__main__":
    main()
