"""SGLang's kinds of programs, written with ``import sglnb as sgl`` and run on the embedded model.

The model is tiny: what is asserted is the structure (which variables, how many branches, what form
a constraint gives), not wisdom.
"""

from __future__ import annotations

import ast
import json
import operator
import re

import pytest

import sglnb as sgl
from sglnb.lang.ir import REGEX_FLOAT, REGEX_INT, REGEX_STR


@pytest.fixture(autouse=True)
def on_the_engine(engine):
    """Programs name no backend, as in a notebook."""
    sgl.set_default_backend(engine)
    yield
    sgl.set_default_backend(None)
    engine.check()


# -- few-shot questions, and batches -------------------------------------------------------


@sgl.function
def few_shot_qa(s, question):
    s += "Short answers to short questions.\n\n"
    for q, a in [("What is the capital of Spain?", "Madrid"), ("What is 2 + 3?", "5")]:
        s += f"Q: {q}\nA: {a}\n"
    s += "Q: " + question + "\n"
    s += "A:" + sgl.gen("answer", stop="\n", temperature=0, max_tokens=16)


def test_few_shot_qa():
    state = few_shot_qa.run(question="What is the capital of Italy?")
    assert "\n" not in state["answer"]
    assert state.text().endswith("A:" + state["answer"])
    questions = ["What is 7 + 15?", "Which city is the capital of France?", "What is 9 + 1?"]
    states = few_shot_qa.run_batch([{"question": q} for q in questions], progress_bar=False)
    alone = [few_shot_qa.run(question=q)["answer"] for q in questions]
    assert [s["answer"] for s in states] == alone
    assert all(s.get_meta_info("answer")["cached_tokens"] > 10 for s in states)


def test_bound_prompts_and_streams():
    @sgl.function
    def ask(s, prompt, question):
        s += prompt + "Q: " + question + "\nA:" + sgl.gen("answer", stop="\n", max_tokens=12)

    kind = ask.bind(prompt="Answer kindly.\n")
    state = kind.run(question="Who are you?", temperature=0, stream=True)
    pieces = list(state.text_iter("answer"))
    assert "".join(pieces) == state["answer"]
    assert state.text().startswith("Answer kindly.\nQ: Who are you?\nA:")


# -- a conversation ------------------------------------------------------------------------


@sgl.function
def two_turns(s, first, second):
    s += sgl.system("You are helpful and brief.")
    s += sgl.user(first)
    s += sgl.assistant(sgl.gen("answer_1", max_tokens=24))
    with s.user():
        s += second
    with s.assistant():
        s += sgl.gen("answer_2", max_tokens=24)


def test_multi_turn_chat():
    state = two_turns.run(
        first="What is the capital of Italy?", second="And of France?", temperature=0
    )
    assert [m["role"] for m in state.messages()] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
    ]
    assert state.messages()[2]["content"] == state["answer_1"].lstrip()
    assert state.get_meta_info("answer_2")["cached_tokens"] > 20
    text = "".join(two_turns.run("Hi.", "Why?", temperature=0, stream=True).text_iter())
    assert text == two_turns.run("Hi.", "Why?", temperature=0).text()


def test_several_answers_in_a_conversation():
    @sgl.function
    def chat(s, first, second):
        s += sgl.user(first)
        s += sgl.assistant(sgl.gen("answer_1", max_tokens=12, n=2))
        s += sgl.user(second)
        s += sgl.assistant(sgl.gen("answer_2", max_tokens=12))

    states = chat.run_batch([("What is 7 + 15?", "Sure?"), ("What is 2 + 2?", "Why?")], seed=1)
    for state in states:
        assert len(state["answer_1"]) == 2
        assert isinstance(state["answer_2"], str)
        assert state.messages()[1]["content"] == state["answer_1"][0].lstrip()


# -- forks ---------------------------------------------------------------------------------


@sgl.function
def tip_suggestion(s, topic, count):
    s += "Act as a coach.\nUser: Some tips for " + topic + ", please.\nCoach:\n"
    for i in range(count):
        s += f"{i + 1}." + sgl.gen(f"tip_{i}", max_tokens=10, stop=[".", "\n"]) + ".\n"
    forks = s.fork(count)
    for i, fork in enumerate(forks):
        fork += f"In more words, tip {i + 1}:" + sgl.gen("detail", max_tokens=16, stop="\n\n")
    forks.join()
    for i in range(count):
        s += f"Tip {i + 1}:" + forks[i]["detail"] + "\n"
    s += "In short," + sgl.gen("summary", max_tokens=16)


def test_tip_suggestion():
    state = tip_suggestion.run(topic="sleeping well", count=3, temperature=0.3, seed=2)
    assert len(state["detail"]) == 3
    assert [f"tip_{i}" in state for i in range(3)] == [True] * 3
    for i, detail in enumerate(state["detail"]):
        assert f"Tip {i + 1}:{detail}\n" in state.text()
    infos = state.get_meta_info("detail")
    shared = len(state.text().partition("Tip 1:")[0].split())
    assert all(info["cached_tokens"] >= shared for info in infos)
    assert state.text().endswith("In short," + state["summary"])


def test_programs_that_call_programs():
    @sgl.function
    def expand(s, tip):
        s += "More about this tip: " + tip + "\n" + sgl.gen("detail", max_tokens=10)

    @sgl.function
    def tips(s, topic):
        s += "Two tips for " + topic + ".\n1." + sgl.gen("a", max_tokens=6, stop="\n") + "\n"
        s += "2." + sgl.gen("b", max_tokens=6, stop="\n") + "\n"
        details = [expand(tip=s[name]) for name in "ab"]
        for detail in details:
            s += "So:" + detail["detail"] + "\n"
        s["states"] = details

    state = tips.run(topic="reading more", temperature=0)
    assert [d.run_id for d in state["states"]] == [state.run_id] * 2
    assert state.text().count("So:") == 2


def test_parallel_encoding():
    facts = ["Liam's father is Ethan.", "Julian's father is Noah.", "Ann's father is Tom."]

    @sgl.function
    def read_and_answer(s, question):
        s += "Remember what follows.\n"
        forks = s.fork(len(facts))
        forks += lambda i: f"Fact {i}: {facts[i]}\n"
        forks.join(mode="concate_and_append")
        s += "Q: " + question + "\nA:" + sgl.gen("answer", max_tokens=8, stop="\n")

    state = read_and_answer.run(question="Who is Julian's father?", temperature=0)
    lines = "".join(f"Fact {i}: {fact}\n" for i, fact in enumerate(facts))
    assert state.text().startswith("Remember what follows.\n" + lines + "Q: ")


def test_parallel_sample():
    @sgl.function
    def sample(s, question, n):
        s += "Task: 1 + 1\nThought: easy.\nTool: calculator\nAnswer: 2\n"
        s += "Task: " + question + "\n"
        forks = s.fork(n)
        forks += "Thought:" + sgl.gen("thought", stop="\n", max_tokens=10) + "\n"
        forks += "Tool: " + sgl.gen("tool", choices=["calculator", "browser"]) + "\n"
        forks += "Answer: " + sgl.gen("answer", dtype=int, max_tokens=5) + "\n"
        forks.join()

    state = sample.run(question="5 + 2 + 4", n=4, temperature=1.0, seed=3)
    assert len(state["thought"]) == len(state["tool"]) == len(state["answer"]) == 4
    assert set(state["tool"]) <= {"calculator", "browser"}
    assert all(re.fullmatch(r"[-+]?[0-9]+", answer) for answer in state["answer"])


def test_a_judge_with_several_dimensions():
    dimensions = ["clarity", "originality", "evidence"]

    @sgl.function
    def judge(s, essay):
        s += sgl.system("You judge essays.")
        s += sgl.user("The essay: " + essay)
        s += sgl.assistant("Ready.")
        forks = s.fork(len(dimensions))
        for fork, dimension in zip(forks, dimensions, strict=True):
            fork += sgl.user(f"Judge its {dimension}. End with a mark from 1 to 5.")
            fork += sgl.assistant(
                sgl.gen("reason", max_tokens=12, stop=".")
                + ". Mark: "
                + sgl.gen("mark", choices=list("12345"))
            )
        forks.join()
        marks = [int(mark) for mark in s["mark"]]
        s += sgl.user(f"The marks are {', '.join(s['mark'])}. What is the grade?")
        s += sgl.assistant(sgl.gen("grade", choices=["A", "B", "C", "D"]))
        return sum(marks) / len(marks)

    state = judge.run(essay="The sea is wide. I like it.", temperature=0)
    assert len(state["mark"]) == len(state["reason"]) == 3
    assert state["grade"] in "ABCD"
    assert 1 <= state.ret_value <= 5
    assert len(state.get_meta_info("grade")["input_token_logprobs"]) == 4


def test_tree_of_thought():
    @sgl.function
    def think(s, question, width, depth):
        s += sgl.user(question)
        s += sgl.assistant_begin()
        frontier = [s]
        for level in range(depth):
            grown = []
            for state in frontier:
                forks = state.fork(width)
                forks += f"\nStep {level + 1}:" + sgl.gen(f"step_{level}", max_tokens=6, stop="\n")
                forks += " Good? " + sgl.gen(f"vote_{level}", choices=["yes", "no"])
                grown += list(forks)
            frontier = grown
        s["leaves"] = [leaf.text() for leaf in frontier]

    state = think.run(question="What is 12 * 3?", width=2, depth=2, temperature=0.8, seed=4)
    leaves = state["leaves"]
    assert len(leaves) == 4
    assert all(leaf.count("Good?") == 2 for leaf in leaves)
    halves = {leaf.partition("\nStep 2:")[0] for leaf in leaves}
    assert len(halves) <= 2
    assert all(leaf.startswith(state.text()) for leaf in leaves)


# -- tools ---------------------------------------------------------------------------------


def calculate(expression: str) -> str:
    """The value of a sum or a product, "?" for anything else."""
    steps = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}

    def value(node):
        if isinstance(node, ast.BinOp):
            return steps[type(node.op)](value(node.left), value(node.right))
        return ast.literal_eval(node)

    try:
        return str(value(ast.parse(expression.strip(), mode="eval").body))
    except (SyntaxError, ValueError, KeyError, TypeError):
        return "?"


def test_tool_use():
    @sgl.function
    def compute(s, left, right):
        s += "calculate(x) gives the value of x.\ncalculate(1+2)=3\ncalculate(4*5)=20\n"
        s += f"Q: What is {left} times {right}?\nA: calculate("
        s += sgl.gen("expression", regex=r"[0-9]{1,4}\*[0-9]{1,4}", max_tokens=16) + ")="
        with s.var_scope("answer"):
            s += calculate(s["expression"])

    state = compute.run(left=25, right=98, temperature=0)
    left, right = state["expression"].split("*")
    assert int(state["answer"]) == int(left) * int(right)
    assert state.text().endswith(f"calculate({state['expression']})={state['answer']}")


def test_choosing_a_tool():
    @sgl.function
    def tool_use(s, question):
        s += "To find out: " + question + " I take a "
        s += sgl.gen("tool", choices=["calculator", "search engine"]) + ". "
        if s["tool"] == "calculator":
            s += "I type:" + sgl.gen("expression", max_tokens=8)
        else:
            s += "I look for:" + sgl.gen("word", max_tokens=8)

    state = tool_use.run(question="What is 5 + 5?", temperature=0)
    made = "expression" if state["tool"] == "calculator" else "word"
    assert state.text().endswith(state[made])
    scored = state.get_meta_info("tool")["input_token_logprobs"]
    assert ["".join(t[2] for t in tokens).strip() for tokens in scored] == [
        "calculator",
        "search engine",
    ]


def test_react():
    @sgl.function
    def react(s, question, turns=3):
        s += (
            "Question: Where was the first king of Spain born?\n"
            "Thought 1: I look for the king.\nAction 1: Search [first king of Spain]\n"
            "Observation 1: Charles was born in Ghent.\n"
            "Thought 2: I know it.\nAction 2: Finish [Ghent]\n\n"
        )
        s += "Question: " + question + "\n"
        for i in range(1, turns + 1):
            s += f"Thought {i}:" + sgl.gen(f"thought_{i}", stop=[".", "\n"], max_tokens=12) + ".\n"
            s += f"Action {i}: " + sgl.select(f"action_{i}", ["Search", "Finish"]) + " ["
            if s[f"action_{i}"] == "Finish" or i == turns:
                s += sgl.gen("answer", stop=["]", "\n"], max_tokens=8) + "]\n"
                return
            s += sgl.gen(f"query_{i}", stop=["]", "\n"], max_tokens=8) + "]\n"
            s += f"Observation {i}: nothing was found about {s[f'query_{i}']}.\n"

    state = react.run(question="Where does the maker of Linux live?", temperature=0)
    state.sync()
    made = [name for name in state.variables if name.startswith("action_")]
    assert 1 <= len(made) <= 3
    assert "answer" in state
    text = state.text()
    assert text.count("Observation") - 1 == len(made) - 1
    assert text.endswith(f"[{state['answer']}]\n")


def test_an_expert_is_named_first():
    @sgl.function
    def expert_answer(s, question):
        s += "Question: " + question + "\nSomeone who knows is"
        s += sgl.gen("expert", stop=[".", "\n"], max_tokens=8) + ".\n"
        s += "So" + s["expert"] + " says that" + sgl.gen("answer", stop=".", max_tokens=12) + "."

    state = expert_answer.run(question="What is the capital of France?", temperature=0.1, seed=1)
    assert state.text().count(state["expert"]) >= 2
    assert state.text().endswith(state["answer"] + ".")


# -- forms ---------------------------------------------------------------------------------


def test_json_piece_by_piece():
    @sgl.function
    def describe(s, city):
        s += "The city of " + city + " as a JSON object:\n"
        with s.var_scope("json"):
            s += '{\n  "name": ' + sgl.gen_string(max_tokens=24) + ",\n"
            s += '  "population": ' + sgl.gen_int(max_tokens=6) + ",\n"
            s += '  "area": ' + sgl.gen(regex=REGEX_INT, stop=[" ", "\n"], max_tokens=6) + ",\n"
            s += '  "height": ' + sgl.gen(dtype=float, max_tokens=8) + ",\n"
            s += '  "old": ' + sgl.gen("old", dtype=bool, max_tokens=4) + "\n}"

    @sgl.function
    def by_patterns(s):
        s += '{"a": ' + sgl.gen("a", regex=REGEX_STR, max_tokens=16)
        s += ', "b": ' + sgl.gen("b", regex=REGEX_FLOAT, stop=[" ", "\n"], max_tokens=8) + "}"

    state = describe.run(city="Paris", temperature=0)
    text = state["json"]
    shape = (
        r'\{\n  "name": "[\w\s]*"?,\n  "population": [-+]?[0-9]+,\n  "area": [-+]?[0-9]+,\n'
        r'  "height": [-+]?[0-9]*\.?[0-9]+,\n  "old": (True|False)\n\}'
    )
    assert re.fullmatch(shape, text)
    state = by_patterns.run(temperature=0)
    assert re.match(r'"[\w\s]*', state["a"])
    float(state["b"])


def test_json_as_one_pattern():
    pattern = (
        r'\{"name": "[A-Z][a-z]{1,12}", "house": "(red|blue)", "age": [0-9]{1,3}, '
        r'"wand": \{"wood": "[a-z]{1,10}", "length": [0-9]{1,2}\.[0-9]\}\}'
    )

    @sgl.function
    def character(s, name):
        s += sgl.user("Describe " + name + " as JSON.")
        s += sgl.assistant(sgl.gen("json", max_tokens=96, regex=pattern))

    for state in character.run_batch([{"name": "Tom"}, {"name": "Ann"}], temperature=0):
        made = json.loads(state["json"])
        assert list(made) == ["name", "house", "age", "wand"]
        assert made["house"] in ("red", "blue")
        assert isinstance(made["wand"]["length"], float)
        info = state.get_meta_info("json")
        assert info["forced_tokens"] > info["completion_tokens"] / 4


def test_an_address_by_regex():
    number = r"(25[0-5]|2[0-4]\d|[01]?\d\d?)"
    regex = rf"({number}\.){{3}}{number}"

    @sgl.function
    def address(s):
        s += "Q: What is the address of a name server?\nA: "
        s += sgl.gen("answer", temperature=0, regex=regex)

    answer = address.run()["answer"]
    assert re.fullmatch(regex, answer)
    assert all(0 <= int(part) <= 255 for part in answer.split("."))


# -- probabilities -------------------------------------------------------------------------


def test_multiple_choice_with_scores():
    @sgl.function
    def true_or_false(s, statement):
        s += "Statement: The capital of Spain is Madrid.\nAnswer: True\n"
        s += "Statement: " + statement + "\nAnswer: "
        s += sgl.select("answer", ["True", "False", "Unknown"])

    statements = ["The capital of Italy is Rome.", "The capital of France is Rome."]
    states = true_or_false.run_batch([{"statement": each} for each in statements])
    for state in states:
        scores = state.get_meta_info("answer")["normalized_prompt_logprobs"]
        best = max(range(3), key=scores.__getitem__)
        assert state["answer"] == ["True", "False", "Unknown"][best]


def test_decoding_from_several_first_tokens():
    """Branch on the likeliest first tokens and keep the surest answer."""

    @sgl.function
    def decode(s, question, k):
        s += "Question: " + question + "\nAnswer:"
        first = s.fork(1)[0]
        first += sgl.gen(
            "first",
            max_tokens=1,
            temperature=0,
            return_logprob=True,
            top_logprobs_num=k,
            return_text_in_logprobs=True,
        )
        top = first.get_meta_info("first")["output_top_logprobs"][0]
        forks = s.fork(k)
        for fork, (_, _, text) in zip(forks, top, strict=True):
            fork += text + sgl.gen(
                "rest", max_tokens=6, temperature=0, return_logprob=True, top_logprobs_num=2
            )
        forks.join()
        gaps = []
        for info in s.get_meta_info("rest"):
            pairs = [(a[0], b[0]) for a, b in info["output_top_logprobs"]]
            gaps.append(sum(a - b for a, b in pairs) / len(pairs))
        s["gaps"] = gaps
        s["best"] = s["rest"][gaps.index(max(gaps))]

    state = decode.run(question="What is the capital of Italy?", k=3)
    assert len(state["rest"]) == len(state["gaps"]) == 3
    assert min(state["gaps"]) >= 0
    assert state["best"] in state["rest"]


def test_majority_of_several_answers():
    @sgl.function
    def vote(s, question):
        s += sgl.user(question)
        s += sgl.assistant(
            sgl.gen(
                "sum",
                n=7,
                regex="[0-9]{1,3}",
                max_tokens=4,
                pick=lambda texts: texts.index(max(texts, key=texts.count)),
            )
        )

    state = vote.run(question="What is 7 + 15?", temperature=1.0, seed=5)
    assert len(state["sum"]) == 7
    winner = state.messages()[-1]["content"]
    assert state["sum"].count(winner) == max(map(state["sum"].count, state["sum"]))
