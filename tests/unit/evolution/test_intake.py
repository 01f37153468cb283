"""From an item of the inbox to a verified row: real verifiers, run in the jail."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from perfuse import plugins
from perfuse.errors import InvalidRequest
from perfuse.evolution.curate import Rules, curate
from perfuse.evolution.intake import row_of, verify
from perfuse.store.learning import Feedback
from perfuse.wire import FeedbackItem, Installed, JsonSchema, PythonCase, PythonTests

CASES = [{"args": [2], "expected": 4}, {"args": ["x"], "expected": "xx"}, {"args": [None], "raises": "TypeError"}]
TESTS = PythonTests("double", msgspec.convert(CASES, list[PythonCase]))
RIGHT = "def double(x):\n    return x * 2\n"
WRONG = "def double(x):\n    return x + 2\n"


def item(output: str = WRONG, **said: Any) -> FeedbackItem:
    request = {"modality": "text", "prompt": "Double it.", "prefix": "def ", "suffix": "", "seed": 3}
    result = {"outputs": [{"text": "other", "fill": ""}, {"text": output, "fill": output[4:]}]}
    return FeedbackItem(
        received=5.0, tenant="t", source="agent-7", generation="g", kind="diffuse", model="code-small@3", seed=3,
        generated=4.0, snapshot=8, adaptations=("ad_1",), request=msgspec.Raw(msgspec.json.encode(request)),
        result=msgspec.Raw(msgspec.json.encode(result)), output=1, **said,
    )  # fmt: skip


def verdict(**said: Any) -> tuple[bool | None, bool | None]:
    row = verify([row_of("fb_1", item(**said))])[0]
    return row.output_passed, row.correction_passed


def test_a_row_holds_what_the_model_read() -> None:
    said = item()
    request = {"prompt": "Double it.", "language": "c", "refine": {"code": "x\ny\n", "error": "a.c:2:1: error: no"}}
    row = row_of("fb_1", msgspec.structs.replace(said, request=msgspec.Raw(msgspec.json.encode(request))))
    assert (row.prompt, row.prefix, row.suffix) == ("c: Double it.\nwrong:\nx\ny\n\nerror: error: no", "", "")
    request["refine"]["width"] = "line"  # type: ignore[index]
    row = row_of("fb_1", msgspec.structs.replace(said, request=msgspec.Raw(msgspec.json.encode(request))))
    assert (row.prompt, row.prefix, row.suffix) == ("c: Double it.\nerror: error: no", "x\n", "")


def test_a_row_holds_the_request_the_answer_and_what_was_said() -> None:
    assert row_of("fb_1", item(correction=RIGHT, verifier=TESTS)) == Feedback(
        id="fb_1", tenant="t", generation="g", source="agent-7", received=5.0, model="code-small@3",
        prompt="Double it.", prefix="def ", suffix="", output=WRONG, adaptations=("ad_1",), correction=RIGHT,
        reward=None, verifier=msgspec.json.encode(TESTS).decode(), output_passed=None, correction_passed=None,
        state="new", reason="", cluster="", embedder="", embedding=b"",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("said", "reward"),
    [
        ({"reward": -0.25}, -0.25),
        ({"accepted": True}, 1.0),
        ({"accepted": False}, -1.0),
        ({"outcome": {"success": True, "steps": 4}}, 1.0),
        ({"outcome": {"success": False}}, -1.0),
        ({"outcome": {"success": 1}}, None),
        ({"outcome": {"steps": 4}}, None),
        ({"correction": RIGHT}, None),
    ],
)
def test_acceptance_and_success_count_as_rewards(said: dict[str, Any], reward: float | None) -> None:
    assert row_of("fb_1", item(**said)).reward == reward


def test_feedback_about_a_plan_is_not_about_a_text() -> None:
    with pytest.raises(InvalidRequest) as refused:
        row_of("fb_1", msgspec.structs.replace(item(), kind="plan"))
    assert refused.value.detail == "expected feedback about a text; got feedback about a plan"


def test_tests_judge_the_output_and_the_correction() -> None:
    assert verdict(verifier=TESTS, correction=RIGHT) == (False, True)
    assert verdict(verifier=TESTS, output=RIGHT) == (True, None)
    assert verdict(verifier=TESTS, output=RIGHT, correction=WRONG) == (True, False)
    assert verdict(verifier=TESTS, output=RIGHT, correction=RIGHT) == (True, True)


def test_without_a_verifier_nothing_is_judged() -> None:
    assert verdict(correction=RIGHT) == (None, None)
    assert verify([]) == []


@pytest.mark.parametrize(
    "attack",
    [
        "def double(x):\n    while True:\n        pass\n",
        "import os\ndef double(x):\n    os.fork()\n    return x * 2\n",
        "def double(x):\n    return 'x' * 10**9\n",
        "class Same:\n    def __eq__(self, other):\n        return True\ndef double(x):\n    return Same()\n",
        "no python",
    ],
    ids=["endless", "fork", "a gigabyte", "equals all", "syntax"],
)
def test_a_hostile_correction_fails_alone(attack: str) -> None:
    rows = [row_of("fb_1", item(correction=attack, verifier=TESTS)), row_of("fb_2", item(RIGHT, verifier=TESTS))]
    bad, good = verify(rows)
    assert (bad.correction_passed, good.output_passed) == (False, True)


def test_a_schema_judges_texts_as_json() -> None:
    schema = JsonSchema({"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}})
    assert verdict(verifier=schema, output='{"a": "1"}', correction='{"a": 1}') == (False, True)


def test_verified_rows_are_curated_into_a_good_and_a_bad_example() -> None:
    other = msgspec.structs.replace(item(correction=WRONG), source="agent-8")
    rows = verify([row_of("fb_1", item(correction=RIGHT, verifier=TESTS)), row_of("fb_2", other)])
    examples = curate(rows, Rules()).examples
    assert {(e.text, e.good, e.by) for e in examples} == {(RIGHT, True, "verifier"), (WRONG, False, "verifier")}


def test_a_function_of_another_package_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "verifier", lambda name: lambda text, arguments: arguments["holds"] in text)
    assert verdict(correction=RIGHT, verifier=Installed("holding", {"holds": "* 2"})) == (False, True)


def test_a_function_that_fails_gives_no_verdict(caplog: pytest.LogCaptureFixture) -> None:
    row = verify([row_of("fb_1", item(correction=RIGHT, verifier=Installed("gone", {})))])[0]
    assert (row.output_passed, row.correction_passed) == (None, None)
    (judged,) = curate([row], Rules()).rows
    assert (judged.state, judged.reason) == ("quarantined", "its verifier could not judge")
