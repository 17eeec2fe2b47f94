import pytest

from app.graph.names import mapped


@pytest.mark.parametrize(
    ("name", "in_drive"),
    [
        ("report.pdf", "report.pdf"),
        ("a:b", "a\uff1ab"),
        ('"*<>?\\|', "\uff02\uff0a\uff1c\uff1e\uff1f\uff3c\uff5c"),
        ("tab\there", "tab\u2409here"),
        ("\x7f", "\u2421"),
        (" lead", "\u2420lead"),
        ("trail ", "trail\u2420"),
        (" ", "\u2420"),
        ("end.", "end\uff0e"),
        ("~$lock.docx", "\uff5e$lock.docx"),
        ("CON", "\uff23ON"),
        ("lpt0", "\uff4cpt0"),
        ("Desktop.ini", "\uff24esktop.ini"),
        (".lock", "\uff0elock"),
        ("con.txt", "con.txt"),
        ("a_vti_b", "a\uff3fvti_b"),
        ("_VTI_", "\uff3fVTI_"),
        ("#%", "#%"),
        ("\u00fc\U0001f600", "\u00fc\U0001f600"),
    ],
)
def test_what_microsoft_refuses_becomes_its_likeness(name: str, in_drive: str) -> None:
    assert mapped(name) == in_drive
    assert mapped(in_drive) == in_drive
