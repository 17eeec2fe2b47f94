import io
import json
import logging
import threading
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from app import logs


@pytest.fixture
def written() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    logger = logging.getLogger("tests.logs")
    logger.propagate = False
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    yield logger, stream
    logger.removeHandler(handler)


Written = tuple[logging.Logger, io.StringIO]


def test_text_gets_the_facts_at_the_end_of_its_first_line(written: Written) -> None:
    logger, stream = written
    logs.adorn(logger, "text")

    with logs.about(upload=7, corporation=8, request=None):
        logger.warning("one\ntwo")
    logger.warning("three")

    assert stream.getvalue() == "WARNING one [upload=7 corporation=8]\ntwo\nWARNING three\n"


def test_json_is_one_object_for_each_line(written: Written) -> None:
    logger, stream = written
    logs.adorn(logger, "json")

    with logs.about(request="r"), logs.about(upload=7):
        try:
            int("ü")
        except ValueError:
            logger.exception("that %s", "failed")

    (line,) = stream.getvalue().splitlines()
    told = json.loads(line)
    assert (told["level"], told["logger"], told["message"]) == ("error", "tests.logs", "that failed")
    assert (told["request"], told["upload"]) == ("r", "7")
    assert "ValueError: invalid literal" in told["traceback"]
    assert told["time"].endswith("+00:00")


@pytest.mark.parametrize("style", ["text", "json"])
def test_to_adorn_twice_is_to_adorn_once(written: Written, style: logs.Style) -> None:
    logger, stream = written
    logs.adorn(logger, style)
    logs.adorn(logger, style)

    with logs.about(upload=7):
        logger.warning("x")

    assert stream.getvalue().count("upload") == 1


def test_a_thread_knows_only_what_it_was_given(written: Written) -> None:
    logger, stream = written
    logs.adorn(logger, "text")

    with logs.about(upload=7):
        threads = [
            threading.Thread(target=logger.warning, args=["alone"]),
            threading.Thread(target=copy_context().run, args=[logger.warning, "told"]),
        ]
        for thread in threads:
            thread.start()
            thread.join()

    assert stream.getvalue() == "WARNING alone\nWARNING told [upload=7]\n"
