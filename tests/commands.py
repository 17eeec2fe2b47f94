"""Every command that a file or a page has, against the program that it starts. Nothing is run."""

import re
import shlex
from pathlib import Path

import click
import pytest
from celery.bin.celery import celery
from flower.options import default_options
from uvicorn.main import main as uvicorn

from app.cli.main import haulage
from local.home import PROJECT

OURS = r"(?:haulage [a-z]|celery -A|uvicorn app)"


def check_words(command: click.Command, words: list[str]) -> None:
    """Fail unless the program knows these subcommands and options. Nothing is run."""
    context = click.Context(command, **command.context_settings)
    try:
        _, rest, _ = command.make_parser(context).parse_args(list(words))
    except click.UsageError as error:
        pytest.fail(f"{words}: {error.format_message()}")
    if isinstance(command, click.Group) and rest:
        subcommand = command.get_command(context, rest[0])
        assert subcommand is not None, f"there is no {rest[0]} in {words}"
        check_words(subcommand, rest[1:])


def check_command(words: list[str]) -> None:
    program, *rest = words
    name = Path(program).name
    if name == "haulage":
        check_words(haulage, rest)
    elif name == "uvicorn":
        check_words(uvicorn, rest)
        assert rest[0] == "app.web.main:app"
    elif name == "celery":
        check_words(celery, rest)
        assert rest[:2] == ["-A", "tasks.worker"]
        if rest[2] == "flower":
            options = {word.removeprefix("--").partition("=")[0] for word in rest[3:]}
            assert options <= set(default_options.as_dict()), "Flower knows them"
    elif name == "python":
        assert rest[0] == "-c"
        compile(rest[1], "command", "exec")
    elif name == "sh":
        assert (PROJECT / "deploy" / rest[0].lstrip("/")).exists(), rest
    else:
        assert name in {"postgres", "sleep", "psql", "redis-cli"}, (
            words
        )  # run in tests/acceptance/test_image.py


def blocks(page: str) -> str:
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", page, re.MULTILINE | re.DOTALL))


def commands_in(page: str) -> list[list[str]]:
    """Return the commands of ours that stand in a page's blocks, and those that stand in a sentence."""
    lines = blocks(page).replace("\\\n", " ").splitlines()
    in_blocks = [re.search(rf"(?:^|[\s/])(?<!-n )({OURS}.*)$", line) for line in lines]
    words = " ".join(re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL).split())
    in_sentences = re.findall(rf"`(?:\w+=\S+ )*({OURS}[^`]*)`", words)
    found = [one[1] for one in in_blocks if one] + in_sentences
    return [shlex.split(re.split(r"[#|>]", one)[0]) for one in found]
