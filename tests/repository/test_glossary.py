"""One word for one thing: words that the glossary has replaced do not come back into the code."""

from __future__ import annotations

import re

from tests.repository.test_architecture import CHECKOUT, modules

# What the code does not say any more, as in the right column of docs/glossary.md.
GONE = ("liars?", "laments?", "(?:min|mated|strange)_lead", "lead over")


def test_words_that_were_replaced_do_not_come_back() -> None:
    words = re.compile(rf"\b_?(?:{'|'.join(GONE)})\b", re.IGNORECASE)
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in modules()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if words.search(line)
    ]
    assert found == []


def test_every_word_of_the_glossary_stands_once() -> None:
    page = (CHECKOUT / "docs/glossary.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE)[2:]
    words = [word.strip("* ") for row in rows for word in row.split(",")]
    assert len(words) > 40
    assert len(words) == len(set(words))
