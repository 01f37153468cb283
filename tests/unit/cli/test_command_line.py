"""The commands as a user runs them, in this process where that is enough."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import pytest
import yaml
from typer.testing import CliRunner

import perfuse
from perfuse.cli import app as cli_app
from perfuse.cli import doctor, plan, remote, terminal
from perfuse.cli.app import app, main
from perfuse.config import ServeConfig
from perfuse.errors import CheckpointError, ConfigError, InvalidRequest, StoreLocked
from perfuse.requests import (
    Candidates,
    Preview,
    Refinement,
    SamplerOptions,
    SyntaxProblem,
    TextOutput,
    TextResult,
    Trajectory,
    TrajectoryResult,
    Verification,
)

RUN = CliRunner()
OPTIONS = [field.name for field in fields(SamplerOptions)]


def perfuse_(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "perfuse", *arguments], capture_output=True, text=True)


def test_importing_the_command_line_costs_no_torch() -> None:
    code = "import sys, perfuse.cli, perfuse.api.front; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_every_setting_is_a_flag_with_its_variable() -> None:
    shown = " ".join(RUN.invoke(app, ["serve", "--help"], env={"COLUMNS": "400"}).output.split())
    for name in ServeConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in shown
        assert f"PERFUSE_{name.upper()}" in shown


def test_serve_gives_the_settings_to_the_supervisor(monkeypatch, tmp_path: Path) -> None:
    given: list[ServeConfig] = []
    supervisor = SimpleNamespace(serve=lambda config: given.append(config) or 7)
    monkeypatch.setitem(sys.modules, "perfuse.engine.supervisor", supervisor)
    file = tmp_path / "c.yaml"
    file.write_text("workers: 2\n")
    flags = ["serve", "--config", str(file), "--port", "0", "--model", "a", "--model", "b", "--reproducible"]
    assert RUN.invoke(app, flags).exit_code == 7
    config = given[0]
    assert (config.port, config.workers, config.reproducible) == (0, 2, True)
    assert config.model == (Path("a"), Path("b"))


def test_the_description_goes_to_stdout() -> None:
    text = RUN.invoke(app, ["openapi"]).stdout
    assert yaml.safe_load(text) == json.loads(RUN.invoke(app, ["openapi", "--json"]).stdout)


def test_version() -> None:
    assert perfuse_("--version").stdout == f"{perfuse.__version__}\n"


def test_an_error_is_a_sentence_a_hint_and_an_exit_code() -> None:
    done = perfuse_("serve", "--port", "70000")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: port: Input should be less than or equal to 65535; got 70000\n"
        "hint:  set --port, PERFUSE_PORT or port in the configuration file\n"
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError("x [y]"), 2), (CheckpointError("x [y]"), 3), (StoreLocked("x [y]"), 4), (InvalidRequest("x [y]"), 1)],
)
def test_exit_codes_follow_the_error(monkeypatch, capsys, error, code) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr(cli_app, "app", fails)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert (stopped.value.code, capsys.readouterr().err) == (code, "error: x [y]\n")


def test_debug_shows_the_traceback(monkeypatch, capsys) -> None:
    def fails() -> None:
        raise ConfigError("it is wrong")

    monkeypatch.setattr(cli_app, "app", fails)
    monkeypatch.setattr(cli_app._Debug, "on", True)
    with pytest.raises(SystemExit):
        main()
    assert "Traceback" in capsys.readouterr().err


def test_an_interrupt_is_130(monkeypatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_app, "app", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130


def test_a_reader_that_leaves_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "perfuse", "openapi"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 1


class Engine:
    """Stands for ArrowEngine."""

    asked: ClassVar[dict[str, object]] = {}

    def __init__(self, models: object) -> None:
        self.models = models

    def diffuse(self, *, on_preview, **fields: object) -> TextResult:
        Engine.asked = fields
        on_preview(Preview(step=1, of=2, body={"canvas": lambda: "def \u2591"}))
        output = TextOutput(
            text=f"{fields['prompt']}!", fill="!", finish_reason="complete", confidence=0.5, steps_done=2, forwards=2
        )
        return TextResult(model="m@1", outputs=(output,))

    def plan(self, **fields: object) -> TrajectoryResult:
        return TrajectoryResult(
            model="p@1",
            status="verified",
            trajectory=Trajectory(dt=0.01, states=((1.0, 2.0, 0.0, 0.5),)),
            verification=Verification(collision_free=True, arrival_step=0),
            candidates=Candidates(sampled=16, valid=16),
            confidence=1.0,
            steps_done=8,
        )


@pytest.fixture
def engine(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "perfuse.arrow_engine", SimpleNamespace(ArrowEngine=Engine))


@pytest.mark.usefixtures("engine")
def test_generate_writes_the_text_to_stdout_and_the_rest_to_stderr() -> None:
    done = RUN.invoke(app, ["generate", "double it"])
    assert (done.exit_code, done.stdout) == (0, "double it!\n")
    answer = json.loads(RUN.invoke(app, ["generate", "x", "--json"]).stdout)
    assert answer["outputs"][0]["text"] == "x!"


@pytest.mark.usefixtures("engine")
def test_generate_takes_code_to_be_refined_from_a_file(tmp_path: Path) -> None:
    code = tmp_path / "main.c"
    code.write_text("int x\n")
    command = [
        "generate",
        "Sum.",
        "--language",
        "c",
        "--refine",
        str(code),
        "--error",
        "expected ';'",
        "--width",
        "line",
    ]
    assert RUN.invoke(app, command).exit_code == 0
    asked = Engine.asked["refine"]
    assert (asked, Engine.asked["language"], Engine.asked["syntax"]) == (
        Refinement(code="int x\n", error="expected ';'", width="line"),
        "c",
        "auto",
    )


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--refine", "{file}"], "expected --refine FILE together with --error TEXT"),
        (["--error", "x"], "expected --refine FILE together with --error TEXT"),
        (["--refine", "{file}", "--error", "x"], "expected code in '{file}': "),
        (["--syntax", "always"], "the request cannot be read: Invalid enum value 'always'"),
    ],
)
def test_generate_says_what_cannot_be_asked(tmp_path: Path, options: list[str], said: str) -> None:
    file = str(tmp_path / "missing.py")
    done = RUN.invoke(app, ["generate", "x", *(option.format(file=file) for option in options)])
    assert isinstance(done.exception, InvalidRequest)
    assert str(done.exception).startswith(said.format(file=file))


def test_generate_says_where_the_text_does_not_parse(monkeypatch) -> None:
    class Broken(Engine):
        def diffuse(self, **fields: object) -> TextResult:
            problem = SyntaxProblem(message="SyntaxError: invalid syntax", line=2, column=5)
            output = TextOutput(
                text="x",
                fill="x",
                finish_reason="syntax",
                confidence=0.5,
                steps_done=2,
                forwards=2,
                syntax_error=problem,
            )
            return TextResult(model="m@1", outputs=(output,))

    monkeypatch.setitem(sys.modules, "perfuse.arrow_engine", SimpleNamespace(ArrowEngine=Broken))
    done = RUN.invoke(app, ["generate", "x"])
    assert done.stderr.splitlines() == [
        "line 2, column 5: SyntaxError: invalid syntax",
        "syntax, 2 forwards, confidence 0.50",
    ]


def test_generate_reads_the_schema_from_a_file(monkeypatch, tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    class Asked(Engine):
        def diffuse(self, **fields: object) -> TextResult:
            asked.append(fields)
            return super().diffuse(**fields)

    monkeypatch.setitem(sys.modules, "perfuse.arrow_engine", SimpleNamespace(ArrowEngine=Asked))
    file = tmp_path / "schema.json"
    file.write_text('{"type": "null"}')
    assert RUN.invoke(app, ["generate", "x", "--schema", str(file)]).exit_code == 0
    assert RUN.invoke(app, ["generate", "x", "--regex", "a+"]).exit_code == 0
    assert [(each["schema"], each["regex"]) for each in asked] == [({"type": "null"}, None), (None, "a+")]
    file.write_text("[]")
    done = RUN.invoke(app, ["generate", "x", "--schema", str(file)])
    assert isinstance(done.exception, InvalidRequest)
    assert done.exception.detail == f"expected a JSON object in {str(file)!r}: Expected `object`, got `array`"


@pytest.mark.usefixtures("engine")
def test_generate_takes_a_sampler_and_its_options() -> None:
    flags = ["--sampler", "margin", "--option", "window=8", "--option", "schedule=cosine", "--guidance-ramp", "0.5"]
    assert RUN.invoke(app, ["generate", "x", *flags, "--option", "stop_entropy=.05"]).exit_code == 0
    options = SamplerOptions(window=8, schedule="cosine", stop_entropy=0.05)
    asked = (Engine.asked["sampler"], Engine.asked["sampler_options"], Engine.asked["guidance_ramp"])
    assert asked == ("margin", options, 0.5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("level=high", "expected --option NAME=VALUE with a number; got 'level=high'"),
        ("depth=3", f"no sampler has an option 'depth'; expected one of {', '.join(OPTIONS)}"),
    ],
)
@pytest.mark.usefixtures("engine")
def test_an_option_that_there_is_not_is_refused(option: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        RUN.invoke(app, ["generate", "x", "--option", option], catch_exceptions=False)
    assert raised.value.detail == message


@pytest.mark.usefixtures("engine")
def test_generate_shows_the_canvas_on_a_terminal(monkeypatch) -> None:
    shown = []

    class Live:
        def __init__(self, **options: object) -> None: ...

        def __enter__(self) -> Live:
            return self

        def __exit__(self, *error: object) -> None: ...

        def update(self, text: object, **options: object) -> None:
            shown.append(str(text))

    monkeypatch.setattr("perfuse.cli.generate.interactive", lambda: True)
    monkeypatch.setattr("perfuse.cli.generate.Live", Live)
    assert RUN.invoke(app, ["generate", "x"]).exit_code == 0
    assert shown == ["def \u2591\n1 of about 2 steps"]


@pytest.mark.usefixtures("engine")
def test_plan_writes_states_to_stdout() -> None:
    done = RUN.invoke(app, ["plan", "maze2d-umaze", "--state", "1,1,0,0", "--goal", "3,1"])
    assert done.stdout == "1.0000 2.0000 0.0000 0.5000\n"
    done = RUN.invoke(app, ["plan", "maze2d-umaze", "--state", "1,1,0,0", "--goal", "3,1", "--json"])
    assert json.loads(done.stdout)["status"] == "verified"


@pytest.mark.parametrize("text", ["1,2", "a,b,c,d", ""])
def test_plan_says_how_numbers_are_written(text: str) -> None:
    with pytest.raises(InvalidRequest, match=rf"^--state: expected 4 numbers with commas between, got '{text}'$"):
        plan._numbers(text, 4, "--state")


class Answer:
    """Stands for a streamed answer of a server."""

    def __init__(self, status: int, lines: list[str], body: bytes = b"") -> None:
        self.status_code, self.lines, self.body = status, lines, body

    def __enter__(self) -> Answer:
        return self

    def __exit__(self, *error: object) -> None: ...

    def read(self) -> bytes:
        return self.body

    def iter_lines(self) -> list[str]:
        return self.lines


RESULT = (
    'data: {"outputs":[{"text":"t","finish_reason":"complete","forwards":2,"confidence":0.5}],'
    '"status":"verified","trajectory":null,"confidence":1.0,"candidates":{}}'
)


def serve_answer(monkeypatch, answer: Answer) -> list[tuple]:
    import httpx2

    asked: list[tuple] = []

    class Client(Answer):
        def __init__(self, **options: object) -> None: ...

        def stream(self, *what: object, **more: object) -> Answer:
            asked.append((what, more))
            return answer

    monkeypatch.setattr(httpx2, "Client", Client)
    return asked


def test_a_server_is_asked_when_there_is_an_address(monkeypatch) -> None:
    lines = [": ping", "event: preview", 'data: {"step":1,"of":2,"canvas":"x"}', "", "event: result", RESULT]
    asked = serve_answer(monkeypatch, Answer(200, lines))
    done = RUN.invoke(app, ["generate", "p", "--url", "http://h:1/", "--key", "k", "--seed", "4"])
    assert done.stdout == "t\n"
    (method, url), more = asked[0]
    assert (method, url) == ("POST", "http://h:1/v1/diffuse")
    assert more["headers"]["authorization"] == "Bearer k"
    body = json.loads(more["content"])
    assert (body["modality"], body["prompt"], body["seed"], body["stream"]) == ("text", "p", 4, True)
    assert "template" not in body
    done = RUN.invoke(app, ["plan", "e", "--state", "1,1,0,0", "--goal", "3,1", "--url", "http://h:1"])
    assert (done.exit_code, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("answer", "code", "detail"),
    [
        (Answer(422, [], b'{"code":"invalid_request","detail":"no","hint":"h"}'), "invalid_request", "no"),
        (Answer(502, [], b"<html>"), "unavailable", "the answer is not from perfuse"),
        (
            Answer(200, ["event: error", 'data: {"code":"non_finite_output","detail":"NaN"}']),
            "non_finite_output",
            "NaN",
        ),
        (Answer(200, []), "unavailable", "the server at http://h:1 ended its answer early"),
        (Answer(418, [], b'{"code":"brewing","detail":"tea"}'), "internal_error", "tea"),
    ],
)
def test_what_a_server_refuses_is_raised(monkeypatch, answer, code, detail) -> None:
    serve_answer(monkeypatch, answer)
    with pytest.raises(perfuse.errors.PerfuseError) as caught:
        remote.ask("http://h:1", None, "diffuse", {}, lambda _: None)
    assert (caught.value.code, caught.value.detail) == (code, detail)


def test_no_server_is_said() -> None:
    with pytest.raises(perfuse.errors.Unavailable, match=r"^no answer from http://127.0.0.1:1: "):
        remote.ask("http://127.0.0.1:1", None, "diffuse", {}, lambda _: None)


def test_train_gives_the_configuration_to_the_recipe(monkeypatch, tmp_path: Path) -> None:
    given: list[object] = []
    for name in ("code", "maze2d"):
        config = "CodeConfig" if name == "code" else "MazeConfig"
        recipe = SimpleNamespace(
            **{config: lambda **fields: fields, "main": lambda config: given.append(config) or tmp_path}
        )
        monkeypatch.setitem(sys.modules, f"perfuse.training.recipes.{name}", recipe)
    assert RUN.invoke(app, ["train", "code", "--twin", "ar", "--minutes", "1"]).stdout == f"{tmp_path}\n"
    assert RUN.invoke(app, ["train", "maze2d", "--maze", "large", "--resume"]).stdout == f"{tmp_path}\n"
    assert (given[0]["twin"], given[0]["minutes"]) == ("ar", 1.0)
    assert (given[1]["maze"], given[1]["resume"]) == ("large", True)


def test_eval_and_bench_print_json(monkeypatch) -> None:
    figures = SimpleNamespace(as_dict=lambda: {"x": 1.5, "longer": 2.0})
    scripts = {
        "perfuse.evaluation.code": SimpleNamespace(
            PRETRAINED=Path("p"),
            evaluate_code=lambda *a, **k: {"pass_at_1": 1},
            evaluate_infill=lambda *a, **k: {"same": 1},
        ),
        "perfuse.evaluation.languages": SimpleNamespace(named_language=lambda name: None, evaluate_language=None),
        "perfuse.evaluation.maze2d": SimpleNamespace(
            evaluate=lambda *a, **k: {"folder": str(a[0].name)}, references=lambda maze: {"maze": maze}
        ),
        "perfuse.evaluation.reproducibility": SimpleNamespace(measure=lambda **k: figures),
        "perfuse.evaluation.bench_serve": SimpleNamespace(run=lambda **k: figures),
        "perfuse.evaluation.bench_latency": SimpleNamespace(run=lambda **k: figures),
        "perfuse.pipelines.shipped": SimpleNamespace(SHIPPED=Path("p")),
    }
    for name, script in scripts.items():
        monkeypatch.setitem(sys.modules, name, script)
        parent, _, child = name.rpartition(".")
        monkeypatch.setattr(__import__(parent, fromlist=["x"]), child, script, raising=False)
    for command, expected in (
        ("eval code --json", {"pass_at_1": 1}),
        ("eval infill", {"same": 1}),
        ("eval maze2d --maze large --json", {"folder": "maze2d-large"}),
        ("eval maze2d --references --json", {"maze": "umaze"}),
        ("eval reproducible --json", {"x": 1.5, "longer": 2.0}),
        ("bench serve --json", {"x": 1.5, "longer": 2.0, "cpu_flags": doctor.cpu_flags()}),
        ("bench latency --json", {"x": 1.5, "longer": 2.0, "cpu_flags": doctor.cpu_flags()}),
    ):
        assert json.loads(RUN.invoke(app, command.split()).stdout) == expected
    assert RUN.invoke(app, ["bench", "serve"]).stdout == "x       1.5\nlonger  2\n"


def test_groups_of_figures_are_printed_under_their_name(monkeypatch) -> None:
    figures = SimpleNamespace(as_dict=lambda: {"load": 0.7, "mixed": {"rate": 25.0}})
    latency = SimpleNamespace(run=lambda **k: figures)
    monkeypatch.setitem(sys.modules, "perfuse.evaluation.bench_latency", latency)
    assert RUN.invoke(app, ["bench", "latency"]).stdout == "load        0.7\nmixed.rate  25\n"


def test_doctor_reports_what_there_is(tmp_path: Path) -> None:
    done = RUN.invoke(app, ["doctor", "--json", "--data-dir", str(tmp_path)])
    report = json.loads(done.stdout)
    assert report["perfuse"] == perfuse.__version__
    assert report["fsync_ms"] > 0
    assert report["sandbox"]["tier"] in {"standard", "none"}
    assert "torch_threads" in report
    assert report["store"] == report["queue"] == "synced to disk: survives power loss"
    assert list(tmp_path.iterdir()) == []
    lines = RUN.invoke(app, ["doctor", "--data-dir", str(tmp_path)]).stdout.splitlines()
    assert {line.split()[0] for line in lines} == set(report)


def test_doctor_fails_where_the_queue_cannot_be_reached(tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/no-redis"
    done = RUN.invoke(app, ["doctor", "--json", "--data-dir", str(tmp_path), "--queue", address])
    assert done.exit_code == 1
    assert json.loads(done.stdout)["queue"].startswith("error: Redis cannot be reached: ")


def test_doctor_reads_cpu_flags(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor : 0\nflags : fpu avx2 amx_bf16 other\n")
    assert doctor.cpu_flags(info) == ["avx2", "amx_bf16"]
    assert doctor.cpu_flags(tmp_path / "nothing") == []


def test_nobody_watches_a_pipe() -> None:
    assert not terminal.interactive()
