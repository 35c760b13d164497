import pytest
from IPython.core.completer import provisionalcompleter

from sglnb.magics.command import SUBCOMMANDS, VIEWS
from sglnb.magics.completion import body_words, make_matcher, option_words


class State:
    def fork(self, size=1):
        """Branches."""

    def text(self):
        """All text."""


def gen(name=None, max_tokens=None, *, regex=None):
    """Let the model write."""


LENT = {"s": State, "gen": gen}


@pytest.fixture
def complete(shell):
    shell.Completer.custom_matchers.append(make_matcher(lambda: LENT))

    def words(text):
        with provisionalcompleter():
            return [c.text for c in shell.Completer.completions(text, len(text))]

    return words


def test_options(complete):
    assert complete("%%sgl --ma") == ["--max-tokens"]
    assert "--temperature" in complete("%%sgl -o r --")


def test_options_already_given_are_left_out():
    assert "--seed" not in option_words("--seed 3 --")


def test_values():
    assert option_words("--view ") == list(VIEWS)
    assert option_words("--view to") == list(VIEWS)
    assert option_words("--temperature ") == []


def test_views(complete):
    assert complete("%%sgl --view t") == ["text", "tokens", "tree"]
    assert complete("%%sgl --view tree,t") == ["tree,tokens"]


def test_sub_commands(complete):
    assert complete("%sgl st") == ["status", "stop"]
    assert set(SUBCOMMANDS) <= set(complete("%sgl "))


def test_body(complete):
    assert "fork" in complete("%%sgl\ns.fo")
    assert "gen" in complete("%%sgl --seed 1\ns += ge")
    assert "regex=" in complete('%%sgl\ns += gen("a", re')


def test_notebook_names_in_the_body(complete, shell):
    shell.user_ns["capital_of_france"] = "Paris"
    assert "capital_of_france" in complete("%%sgl\ns += capital_")


def test_nothing_is_added_to_other_cells(complete):
    assert "gen" not in complete("x = ge")
    assert "fork" not in complete("s.fo")


def test_keywords_given_already_are_left_out():
    words, _ = body_words('gen("a", regex="x", ', LENT)
    assert "max_tokens=" in words
    assert "regex=" not in words
