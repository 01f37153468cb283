"""The console in a browser, on a real server with keys that has learned: every view, by mouse and by keyboard alone."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

import shipped
import taught
from perfuse.evaluation.load import Server, serving
from processes import PATIENCE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
expect.set_options(timeout=PATIENCE * 1000)

ADMIN, READER = "console-admin-key", "console-reader-key"
KEYS = f"""
- {{key: {ADMIN}, scopes: [generate, feedback, admin]}}
- {{key: {READER}, scopes: [generate]}}
"""
PROMPT = "Given numbers, keep those that are even, double each one and return them sorted."
CODE = "def sorted_even_doubled(numbers):\n    return sorted(number * 2 for number in numbers if number % 2 == 0)\n"
PHONE = {"width": 360, "height": 740}
SCREEN = {"width": 1280, "height": 860}
VIEWS = ("text", "plan", "learning", "server")

CONTRASTS = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const color = parts(getComputedStyle(each).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    throw new Error("no ground");
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const skipped = element.closest("svg, [aria-hidden=true], :disabled, .skip, script, template");
    if (skipped || !walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const [a, b] = [light(parts(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), element.className || element.tagName, walker.currentNode.data.slice(0, 40)]);
  }
  return found;
}"""
NAMELESS = """() => [...document.querySelectorAll("input, select, textarea, button, a, [tabindex='0']")]
  .filter((e) => e.checkVisibility() && !(e.labels?.length || e.getAttribute("aria-label") || e.textContent.trim()))
  .map((e) => e.outerHTML)"""


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    data_dir = tmp_path_factory.mktemp("console") / "data"
    return data_dir, taught.teach(data_dir)


@pytest.fixture(scope="module")
def server(learned: tuple[Path, dict[str, str]]) -> Iterator[Server]:
    data_dir, _ = learned
    keys = data_dir.parent / "keys.yaml"
    keys.write_text(KEYS)
    with serving(data_dir, "--keys", str(keys), "--train-after", "10000") as started:
        asyncio.run(started.ready())
        yield started


@pytest.fixture(scope="module")
def browser(server: Server) -> Iterator[Browser]:  # after the server: Playwright keeps an event loop running
    with sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield chromium
        chromium.close()


class Desk:
    """A page of the console. What it logs as errors is kept, and what it loads is counted."""

    def __init__(self, browser: Browser, server: Server, *, key: str = ADMIN, **context: object) -> None:
        self.root = f"http://127.0.0.1:{server.port}/"
        self.context = browser.new_context(**{"viewport": SCREEN, "reduced_motion": "reduce", **context})
        self.context.set_default_timeout(PATIENCE * 1000)
        self.page: Page = self.context.new_page()
        self.faults: list[str] = []
        self.loaded: dict[str, int] = {}
        self.page.on("console", lambda said: self.faults.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfinished", self._count)
        self.page.goto(f"{self.root}#text")
        expect(self.page.locator("#status")).to_contain_text("ready, queue")
        if key:
            self.page.keyboard.press("k")
            self.page.get_by_label("API key").fill(key)
            self.page.keyboard.press("Enter")

    def _count(self, request: Request) -> None:
        path = "/" + request.url.removeprefix(self.root).partition("#")[0]
        if path == "/" or path.startswith("/console/"):
            self.loaded[path] = request.sizes()["responseBodySize"]

    def visit(self, view: str) -> None:
        self.page.locator(f"nav [href='#{view}']").click()
        expect(self.page.locator(f"#{view}")).to_be_visible()

    def fill(self, prompt: str = PROMPT) -> None:
        self.visit("text")
        self.page.get_by_label("Prompt").fill(prompt)
        self.page.get_by_role("button", name="Fill").click()
        expect(self.page.locator("#text .facts")).to_contain_text("Forwards")

    def plan(self) -> None:
        self.visit("plan")
        expect(self.page.get_by_label("Environment")).to_have_value("maze2d-umaze")
        self.page.locator("#plan .ask .primary").click()
        expect(self.page.locator("#plan .facts")).to_contain_text("Valid")

    def adaptation(self, identity: str) -> None:
        self.visit("learning")
        self.page.locator(f"#adaptations [href='#learning/{identity}']").click()
        expect(self.page.locator("#adaptation h2").first).to_contain_text(identity[:20])


@pytest.fixture
def desk(browser: Browser, server: Server) -> Iterator[Desk]:
    opened = Desk(browser, server)
    yield opened
    opened.context.close()
    assert opened.faults == []


def shoot(desk: Desk, name: str) -> None:
    """A picture for the documentation, where somebody wants it."""
    if folder := os.environ.get("CONSOLE_PICTURES"):
        desk.page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def test_text_fills_on_the_canvas_and_feedback_on_it_is_kept(desk: Desk) -> None:
    desk.fill()
    page = desk.page
    expect(page.locator("#canvas")).to_have_text(CODE)
    slider = page.locator("#text").get_by_label("Shown step")
    slider.fill("0")
    expect(page.locator("#canvas .masked")).to_contain_text("░")
    expect(page.locator("#canvas .fresh")).to_contain_text("def sorted_even_doubled(numbers):")
    expect(page.locator("#text output")).to_contain_text("step 1 of at most")
    expect(page.locator("#text .facts")).to_contain_text("champion, gain")
    page.get_by_role("button", name="Accept").click()
    expect(page.locator("#text .feedback [role=status]")).to_have_text(re.compile(r"^Accepted; kept as fb_\S+\.$"))
    page.get_by_role("button", name="Correct…").click()
    expect(page.locator("#text").get_by_label("As it should have been")).to_have_value(CODE)
    expect(page.locator("#text").get_by_label("Function under test")).to_have_value("sorted_even_doubled")
    page.locator("#text").get_by_label("Tests, one a line").fill("[[1, 2, 4]] -> [4, 8]\nnonsense")
    page.get_by_role("button", name="Send correction").click()
    expect(page.locator("#text .feedback [role=alert]")).to_contain_text("Test not understood")
    page.locator("#text").get_by_label("Tests, one a line").fill("[[1, 2, 4]] -> [4, 8]\n[null] raises TypeError")
    page.get_by_role("button", name="Send correction").click()
    expect(page.locator("#text .feedback [role=status]")).to_have_text(
        re.compile(r"^Correction sent; kept as fb_\S+\.$")
    )


def test_an_infilling_keeps_what_was_given_apart(desk: Desk) -> None:
    page = desk.page
    page.get_by_role("button", name="A gap").click()
    expect(page.locator("#text .facts")).to_contain_text("Forwards")
    given = page.locator("#canvas .given")
    expect(given.first).to_have_text("def sorted_doubled(numbers):\n    return sorted(")
    expect(given.last).to_have_text(" for number in numbers)\n")
    expect(page.locator("#canvas .given")).to_have_count(2)
    page.get_by_label("Prefix").fill("<b>x</b> = ")
    page.get_by_role("button", name="Fill").click()
    expect(given.first).to_have_text("<b>x</b> = ")  # markup is text
    expect(page.locator("#canvas b")).to_have_count(0)


def test_what_runs_can_be_cancelled(desk: Desk) -> None:
    desk.page.locator("#text summary").first.click()
    desk.page.get_by_label("Sampler").select_option("ancestral")
    desk.page.get_by_label("Most tokens").fill("200")
    desk.page.get_by_label("Prompt").fill(PROMPT)
    desk.page.keyboard.press("Control+Enter")
    desk.page.keyboard.press("Escape")
    expect(desk.page.locator("#text .facts")).to_have_text("Statecancelled")
    expect(desk.page.get_by_role("button", name="Cancel")).to_be_disabled()


def test_a_plan_is_drawn_on_its_maze_with_every_candidate(desk: Desk) -> None:
    desk.plan()
    page = desk.page
    expect(page.locator("#plan .facts")).to_contain_text("verified")
    expect(page.locator("#maze path.chosen")).to_have_count(1)
    expect(page.locator("#maze path.candidate")).to_have_count(16)
    page.locator("#plan").get_by_label("Shown step").fill("2")
    expect(page.locator("#plan output")).to_have_text("step 3 of at most 8")
    expect(page.locator("#maze path.candidate")).to_have_count(16)
    expect(page.locator("#maze path.chosen")).to_have_count(0)
    page.get_by_role("button", name="Reject").click()
    expect(page.locator("#plan .feedback [role=status]")).to_contain_text("Rejected; kept as fb_")
    expect(page.locator("#plan").get_by_role("button", name="Correct…")).to_be_hidden()


def test_a_refusal_is_shown_with_its_hint_and_its_field(desk: Desk) -> None:
    desk.visit("plan")
    page = desk.page
    expect(page.get_by_label("Environment")).to_have_value("maze2d-umaze")
    box = page.locator("#maze").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # the wall in the middle
    expect(page.locator("[name=gx]")).to_have_value(re.compile(r"1\.(79|80)"))
    page.locator("#plan .ask .primary").click()
    problem = page.locator("#plan .answer > .problem")
    expect(problem).to_contain_text("Invalid request · 422")
    expect(problem).to_contain_text("lies in a wall of maze2d-umaze")
    expect(problem).to_contain_text("free cells: (1, 2)")
    expect(problem).to_contain_text("request ")
    expect(page.locator("[name=gx]")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("[name=x]")).not_to_have_attribute("aria-invalid", "true")
    assert [fault for fault in desk.faults if "422" not in fault] == []
    desk.faults.clear()  # the browser itself logs every answer of that kind


def test_adaptations_are_shown_with_their_reports_and_steered(desk: Desk, learned: tuple[Path, dict[str, str]]) -> None:
    _, ids = learned
    page = desk.page
    desk.adaptation(ids["rejected"])
    detail = page.locator("#adaptation")
    for words in ("31 won, 2 lost of 60", "0 won, 9 lost of 384", "+0.483", "fell by 2.34 points", "agent-7, console"):
        expect(detail).to_contain_text(words)
    expect(page.locator("#clusters")).to_contain_text("25 %")
    desk.adaptation(ids["canary"])
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept())[1])
    detail.get_by_role("button", name="Promote…").click()
    expect(detail.locator(".badge").first).to_have_text("champion")
    detail.get_by_role("button", name="Roll back…").click()
    expect(detail.locator(".badge").first).to_have_text("retired")
    desk.adaptation(ids["champion"])
    expect(detail.locator(".badge").first).to_have_text("champion")
    assert asked == [
        "Make it the champion of its cluster with the next request?",
        "Take it out of service? What served before it, or the base model, answers instead.",
    ]


def test_a_source_is_taken_back_after_two_questions(desk: Desk) -> None:
    desk.visit("learning")
    answers = iter(["nobody-there", None])
    desk.page.on("dialog", lambda dialog: dialog.accept(next(answers) or ""))
    desk.page.get_by_role("button", name="Take back a source…").click()
    expect(desk.page.locator("#learning [role=status]")).to_have_text("0 items, 0 memories, 0 adaptations have left.")


def test_the_server_is_seen_at_a_glance(desk: Desk) -> None:
    desk.fill()
    desk.visit("server")
    page = desk.page
    expect(page.locator("#kinds")).to_contain_text("diffuse")
    expect(page.locator("#models")).to_contain_text(shipped.CODE)
    expect(page.locator(".tile", has_text="Batch").locator("p")).not_to_have_text("–")
    expect(page.locator(".tile", has_text="Engines busy")).to_contain_text("1 ready, 0 died")
    expect(page.locator("#server .facts")).to_contain_text("synced to disk")


def test_without_a_key_the_page_says_so_and_asks_for_one(browser: Browser, server: Server) -> None:
    desk = Desk(browser, server, key="")
    desk.visit("learning")
    expect(desk.page.locator("#learning .problem")).to_contain_text("this server needs a key")
    desk.page.get_by_label("API key").fill(READER)
    desk.page.get_by_label("API key").press("Enter")
    expect(desk.page.locator("#adaptations a")).to_have_count(4)
    expect(desk.page.locator("#learning .problem")).to_be_hidden()
    desk.page.on("dialog", lambda dialog: dialog.accept())
    desk.page.locator("#adaptations a").first.click()
    desk.page.get_by_role("button", name="Promote…").click()
    expect(desk.page.locator("#learning .problem")).to_contain_text("this needs a key with scope 'admin'")
    desk.page.reload()
    expect(desk.page.locator("#learning .problem")).to_contain_text("this server needs a key")
    assert desk.page.evaluate("JSON.stringify({...localStorage, ...sessionStorage})") == '{"theme":"auto"}'
    desk.context.close()


@pytest.mark.parametrize(
    ("scheme", "viewport"), [("light", SCREEN), ("dark", SCREEN), ("light", PHONE)], ids=["light", "dark", "phone"]
)
def test_every_view_can_be_read_and_fits(
    browser: Browser, server: Server, learned: tuple[Path, dict[str, str]], scheme: str, viewport: dict[str, int]
) -> None:
    desk = Desk(browser, server, color_scheme=scheme, viewport=viewport, device_scale_factor=1)
    page = desk.page
    for view in VIEWS:
        if view == "text":
            desk.fill("Find the first word with more than 4 letters, put an exclamation mark after it and return it; "
                      "without one return None.")  # fmt: skip
            page.locator("#text").get_by_label("Shown step").fill("1")
        elif view == "plan":
            desk.plan()
        elif view == "learning":
            desk.adaptation(learned[1]["rejected"])
        else:
            desk.visit(view)
            expect(page.locator("#models")).to_contain_text(shipped.CODE)
        assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
        assert [each for each in page.evaluate(CONTRASTS) if each[0] < 4.5] == []
        assert page.evaluate(NAMELESS) == []
        shoot(desk, f"{view}-{scheme if viewport is SCREEN else 'phone'}")
    ground = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert ground == {"light": "rgb(245, 246, 246)", "dark": "rgb(17, 20, 22)"}[scheme]
    desk.context.close()
    assert desk.faults == []
    assert sum(desk.loaded.values()) < 200_000
    assert set(desk.loaded) >= {"/", "/console/console.css", "/console/console.js"}


def test_the_theme_can_be_chosen_and_stays(desk: Desk) -> None:
    page = desk.page
    grounds = []
    for name in ("light", "dark", "auto"):
        page.keyboard.press("t")
        expect(page.locator("#theme")).to_have_text(f"Theme: {name}")
        grounds.append(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))
    assert grounds == ["rgb(245, 246, 246)", "rgb(17, 20, 22)", "rgb(245, 246, 246)"]
    page.keyboard.press("t")
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: light")


def test_all_of_it_works_by_keyboard(desk: Desk) -> None:
    page = desk.page
    press = page.keyboard.press
    press("2")
    expect(page.get_by_label("Environment")).to_have_value("maze2d-umaze")
    press("Control+Enter")
    expect(page.locator("#plan .facts")).to_contain_text("verified")
    press("a")
    expect(page.locator("#plan .feedback [role=status]")).to_contain_text("Accepted; kept as fb_")
    press("1")
    page.get_by_label("Prompt").focus()
    page.keyboard.type(PROMPT)  # letters in a field are no shortcuts
    press("Control+Enter")
    expect(page.locator("#text .facts")).to_contain_text("Forwards")
    page.get_by_role("button", name="Fill").focus()
    press("r")
    expect(page.locator("#text .feedback [role=status]")).to_contain_text("Rejected; kept as fb_")
    press("c")
    expect(page.locator("#text").get_by_label("As it should have been")).to_be_focused()
    press("3")  # goes into the field
    expect(page.locator("#text")).to_be_visible()
    page.reload()
    expect(page.locator("#status")).to_contain_text("ready")
    order = []
    for _ in range(10):
        press("Tab")
        order.append(
            page.evaluate("document.activeElement.id || document.activeElement.name || document.activeElement.hash")
        )
    assert order == ["#main", *(f"#{view}" for view in VIEWS), "theme", "", "prompt", "prefix", "suffix"]


def test_the_reference_page_draws_every_operation(browser: Browser, server: Server) -> None:
    page = browser.new_context().new_page()
    faults: list[str] = []
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: faults.append(asked.url) if str(server.port) not in asked.url else None)
    page.goto(f"http://127.0.0.1:{server.port}/docs")
    expect(page.locator(".opblock", has_text="/diffuse")).to_be_visible(timeout=20_000)
    page.locator(".opblock", has_text="/feedback").locator("button").first.click()
    expect(page.locator(".opblock.is-open")).to_contain_text("generation_id", timeout=20_000)
    assert [fault for fault in faults if not fault.startswith(("data:", "blob:"))] == []
    page.context.close()
