"""Says in words what a run of the lab showed, and whether it showed what it must."""

from benchmarks.classic import NAMES, named
from benchmarks.findings import Findings
from benchmarks.recipes import RECIPES
from benchmarks.states import IDLE
from benchmarks.wires import PLAIN, TLS

CONTROL, OURS = "inherit", "haulage"


def classic_fault(findings: Findings) -> list[str]:
    """Return a sentence for each wire: whether plain inheritance failed by name, and in which of its runs."""
    said = []
    if tries := findings.tries(CONTROL, TLS):
        first: dict[str, tuple[int, str]] = {}
        for number, outcome in enumerate(tries, 1):
            for name, wording in named(outcome.messages).items():
                first.setdefault(name, (number, wording))
        came = [f"`{wording}` in run {number}" for number, wording in first.values()]
        missing = [f"`{name}` did not come" for name in NAMES if name not in first]
        said.append(f"The classic fault over TLS, in {_runs(len(tries))}: {'; '.join(came + missing)}.")
    if tries := findings.tries(CONTROL, PLAIN):
        wrong = next(((n, run.wrong_answers) for n, run in enumerate(tries, 1) if run.wrong_answers), None)
        found = (
            f"{wrong[1]} of them, in run {wrong[0]}" if wrong else "none came, which is luck and no safety"
        )
        said.append(f"Wrong answers without TLS, another process's row, in {_runs(len(tries))}: {found}.")
    return said


def _runs(number: int) -> str:
    return "1 run" if number == 1 else f"{number} runs"


def is_reproduced(findings: Findings) -> bool:
    """True if plain inheritance failed over TLS by one of the known names, or without TLS with more than silence."""
    over_tls = any(named(outcome.messages) for outcome in findings.tries(CONTROL, TLS))
    plain = findings.tries(CONTROL, PLAIN)
    return over_tls or any(outcome.wrong_answers or outcome.messages for outcome in plain)


def holds(findings: Findings) -> bool:
    """True if Haulage's row has no fault in any state, and left no socket of the parent open in a child."""
    return findings.is_clean(OURS) and not findings.sockets_kept(OURS)


def passed(findings: Findings) -> bool:
    """True if what the run was to show was shown; a recipe that was not asked for is not missed."""
    recipes = findings.recipes
    return (OURS not in recipes or holds(findings)) and (CONTROL not in recipes or is_reproduced(findings))


def conclusion(findings: Findings) -> str:
    """The last word: who held in every state, who only with idle connections, and what is wrong with the run itself."""
    held = [recipe for recipe in findings.recipes if findings.is_clean(recipe)]
    idle = [one for one in findings.recipes if findings.is_clean(one, IDLE) and one not in held]
    said = [
        f"Held in every state of the parent: {_titles(held)}.",
        f"Only with idle connections: {_titles(idle)}.",
    ]
    if findings.sockets_kept(OURS) is None and OURS in findings.recipes:
        said.append("Which sockets stay open in children is not known here: there is no /proc, or no TCP.")
    if kept := [recipe for recipe in held if findings.sockets_kept(recipe)]:
        said.append(f"But sockets of the parent stayed open in children: {_titles(kept)}.")
    if CONTROL in findings.recipes and not is_reproduced(findings):
        said.append("NOT SHOWN: the classic fault did not come, so this run proves nothing.")
    if OURS in findings.recipes and not holds(findings):
        said.append(f"FAULT: {RECIPES[OURS].plain_title} did not hold; its rows above say where.")
    return " ".join(said)


def _titles(recipes: list[str]) -> str:
    return "; ".join(RECIPES[recipe].plain_title for recipe in recipes) or "none"
