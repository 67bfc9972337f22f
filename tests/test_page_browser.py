"""The report page in a browser: headless Chromium, where there is one."""

import base64
import json
import os
import shlex
import shutil
import time

import pytest
from page_data import made_run

from onnxsemi._report.page import render, render_two

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = os.environ.get("CHROMEDRIVER") or shutil.which("chromedriver")
if not os.environ.get("CHROMIUM"):  # who names one wants these tests
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"
    ),
    # selenium leaves the sockets to its driver to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
LAYERS = {"conv<1>": 16, "a/very/long/name/of/a/layer/that/does/not/end/soon/Conv": 400}
NAMES = ["ant", "bee", "cat", "a class with a <b>very</b> long name" * 3]
FOLDER = "my runs/it's <b>.run"
WIDE, PHONE = (1200, 900), (390, 844)
OPEN = "for (const fold of document.querySelectorAll('details.fold')) fold.open = true;"


@pytest.fixture(scope="module")
def browser():
    """A browser that keeps its logs; offline."""
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page in a window of some size."""

    def shown(size=WIDE, *, dark=False, opened=True, two=False, anchor="", **how):
        path = tmp_path / "report.html"
        how = {"layers": LAYERS, "bits": (8, 4, 2), "names": NAMES, **how}
        page = render(made_run(path=FOLDER, **how))
        if two:
            page = render_two(made_run(path=FOLDER, **how), made_run(path="b.run", **how))
        path.write_text(page, encoding="utf-8")
        browser.get_log("browser")
        browser.get_log("performance")
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1}
        metrics["mobile"] = size == PHONE
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"},  # no smooth scrolling
        ]
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        browser.get("about:blank")  # the same page with another anchor is loaded anew
        browser.get(path.as_uri() + anchor)
        if opened:
            browser.execute_script(OPEN)
        return browser

    return shown


def marks(driver):
    return driver.find_elements(By.CSS_SELECTOR, "#search .mark")


def tip(driver):
    """What the tooltip says; None if it is hidden."""
    element = driver.find_element(By.ID, "tip")
    return element.text if element.is_displayed() else None


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize(
    "how", [{}, {"labels": False}, {"measured": False}, {"two": True}, {"dark": True}], ids=str
)
def test_no_error_and_no_request(show, size, how):
    driver = show(size, **how)
    assert driver.find_element(By.TAG_NAME, "h1").text.startswith("small.onnx")
    assert driver.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
    addresses = {a["request"]["url"].partition(":")[0] for a in asked}
    assert addresses <= {"file", "data"}
    assert sum(a["request"]["url"].startswith("file:") for a in asked) == 1


@pytest.mark.parametrize("two", [False, True], ids=["one", "two"])
@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_the_page_never_scrolls_sideways(show, width, two):
    driver = show((width, 844), two=two)
    script = "for (const d of document.querySelectorAll('details')) d.open = true;"
    driver.execute_script(script)
    inner, outer = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    assert inner <= outer <= width


def test_strips_scroll_in_their_own_box(show):
    driver = show(PHONE)
    inner, outer = driver.execute_script(
        "const box = document.querySelector('.strips'); return [box.scrollWidth, box.clientWidth]"
    )
    assert inner > outer


def test_colours_follow_the_scheme(show):
    script = "return getComputedStyle(document.body).backgroundColor"
    light, dark = show().execute_script(script), show(dark=True).execute_script(script)
    assert light == "rgb(255, 255, 255)"
    assert dark == "rgb(20, 23, 27)"


class TestTips:
    def test_hover_shows_what_was_tried(self, show):
        driver = show()
        assert tip(driver) is None
        ActionChains(driver).move_to_element(marks(driver)[1]).perform()
        assert "Trial 2, frontier phase" in tip(driver)
        assert "rejected: reason 2" in tip(driver)
        ActionChains(driver).move_to_element(driver.find_element(By.TAG_NAME, "h1")).perform()
        assert tip(driver) is None

    def test_click_pins_it_until_the_next(self, show):
        driver = show()
        first, second, _ = marks(driver)
        ActionChains(driver).move_to_element(first).click().perform()
        ActionChains(driver).move_to_element(second).perform()
        assert "Trial 1" in tip(driver)
        assert "pinned" in first.get_attribute("class")
        ActionChains(driver).click().perform()
        assert "Trial 2" in tip(driver)
        assert "pinned" not in first.get_attribute("class")
        ActionChains(driver).send_keys(Keys.ESCAPE).perform()
        assert tip(driver) is None

    def test_stays_in_the_window_and_follows_when_scrolled(self, show):
        driver = show(PHONE)
        for mark in marks(driver):
            ActionChains(driver).move_to_element(mark).click().perform()
            box = driver.find_element(By.ID, "tip").rect
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE[0]
        top = "return document.getElementById('tip').getBoundingClientRect().top"
        before = driver.execute_script(top)
        driver.execute_script(
            "document.documentElement.style.scrollBehavior = 'auto'; scrollBy(0, 30)"
        )
        time.sleep(0.2)
        assert driver.execute_script(top) == pytest.approx(before - 30, abs=1.5)

    def test_keyboard_goes_from_mark_to_mark(self, show):
        driver = show()
        tab_stops = [mark.get_attribute("tabindex") for mark in marks(driver)]
        assert tab_stops == ["0", "-1", "-1"]
        driver.execute_script("arguments[0].focus()", marks(driver)[0])
        assert "Trial 1" in tip(driver)
        ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
        assert "Trial 2" in tip(driver)
        ActionChains(driver).send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT).perform()
        assert "Trial 3" in tip(driver)
        ActionChains(driver).send_keys(Keys.TAB).perform()
        assert tip(driver) is None

    def test_every_mark_has_a_name(self, show):
        driver = show()
        named = driver.execute_script(
            "return [...document.querySelectorAll('.mark')].every(m => m.ariaLabel && m.role)"
        )
        assert named


class TestStrips:
    def cells(self, driver):
        return [
            c
            for c in driver.find_elements(By.CSS_SELECTOR, ".cells")
            if c.value_of_css_property("display") != "none"
        ]

    def test_hover_names_the_channel(self, show):
        driver = show()
        driver.find_element(By.ID, "by-place").click()
        strip = self.cells(driver)[0]
        row, width = driver.find_element(By.CSS_SELECTOR, ".strip"), strip.rect["width"]
        pitch, bits = float(row.get_attribute("data-pitch")), row.get_attribute("data-bits").split()
        offset = 5.5 * pitch - width / 2
        ActionChains(driver).move_to_element_with_offset(strip, offset, 0).perform()
        assert "conv<1>" in tip(driver)
        assert "channel 5, " in tip(driver)
        said = "float32" if bits[5] == "32" else f"{bits[5]} bits"
        assert said in tip(driver)
        assert "Δloss" in tip(driver)

    def test_arrow_keys_go_from_channel_to_channel(self, show):
        driver = show()
        driver.find_element(By.ID, "by-place").click()
        box = self.cells(driver)[1]
        ActionChains(driver).send_keys(Keys.TAB).perform()  # to the first strip
        ActionChains(driver).send_keys(Keys.TAB).perform()  # to the second
        assert driver.switch_to.active_element == box
        ActionChains(driver).send_keys(*[Keys.ARROW_RIGHT] * 3).perform()
        assert "channel 3, " in tip(driver)

    def test_two_orders(self, show):
        driver = show()
        orders = []
        for choice in ("by-sign", "by-place"):
            driver.find_element(By.ID, choice).click()
            found = self.cells(driver)
            assert len(found) == len(LAYERS)
            orders.append(found[0].get_attribute("data-order").split())
        assert orders[1] == [str(place) for place in range(16)]
        assert orders[0] != orders[1]
        assert sorted(orders[0], key=int) == orders[1]


def test_skip_link_is_the_first_stop(show):
    driver = show()
    ActionChains(driver).send_keys(Keys.TAB).perform()
    assert driver.switch_to.active_element.text == "Skip to the result"


def test_pictures_are_shown(show):
    driver = show()
    widths = driver.execute_script("return [...document.images].map(i => i.naturalWidth)")
    assert widths == [5]


class TestTiles:
    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
    def test_first_on_the_screen_and_whole(self, show, size, dark):
        driver = show(size, dark=dark, opened=False)
        found = driver.find_elements(By.CSS_SELECTOR, ".tiles > div")
        assert len(found) == 4
        assert all(tile.is_displayed() for tile in found)
        assert found[1].rect["y"] + found[1].rect["height"] < size[1]
        assert not driver.execute_script(
            "return [...document.querySelectorAll('.tiles dd')].some("
            "tile => tile.scrollWidth > tile.clientWidth)"
        )

    def test_side_by_side_or_two_by_two(self, show):
        for size, rows in ((WIDE, 1), (PHONE, 2)):
            found = show(size).find_elements(By.CSS_SELECTOR, ".tiles > div")
            assert len({tile.rect["y"] for tile in found}) == rows

    def test_the_verdict_has_its_colour_in_both_schemes(self, show):
        read = "return getComputedStyle(document.querySelector('.tiles .holds b')).color"
        light, dark = (show(dark=dark).execute_script(read) for dark in (False, True))
        assert light == "rgb(19, 119, 56)"
        assert dark == "rgb(118, 207, 138)"


class TestClasses:
    @pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
    def test_bars_are_drawn_and_names_shown(self, show, size):
        driver = show(size, opened=False)
        bars = driver.find_elements(By.CSS_SELECTOR, "#classes .interval")
        assert bars
        assert all(bar.rect["width"] > 100 for bar in bars)
        assert "<b>very</b>" in driver.find_element(By.ID, "classes").text


class TestFolds:
    def folds(self, driver):
        return driver.find_elements(By.CSS_SELECTOR, "details.fold")

    def opened(self, driver):
        return [bool(fold.get_attribute("open")) for fold in self.folds(driver)]

    def test_closed_until_they_are_asked_for(self, show):
        driver = show(opened=False)
        assert self.opened(driver) == [False] * 6
        self.folds(driver)[0].find_element(By.TAG_NAME, "summary").click()
        assert self.opened(driver) == [True] + [False] * 5
        assert len(marks(driver)) == 3
        assert all(mark.rect["width"] > 5 for mark in marks(driver))

    @pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
    @pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
    def test_what_is_in_them_is_drawn(self, show, size, dark):
        driver = show(size, dark=dark)
        drawings = driver.find_elements(By.CSS_SELECTOR, "details.fold .drawing")
        assert len(drawings) == 4
        assert all(d.rect["width"] > 250 and d.rect["height"] > 20 for d in drawings)

    def test_by_keyboard(self, show):
        driver = show(opened=False)
        summary = self.folds(driver)[1].find_element(By.TAG_NAME, "summary")
        driver.execute_script("arguments[0].focus()", summary)
        ActionChains(driver).send_keys(Keys.ENTER).perform()
        assert self.opened(driver)[1]
        ActionChains(driver).send_keys(Keys.SPACE).perform()
        assert not self.opened(driver)[1]

    @pytest.mark.parametrize("place", [0, 1, 5])
    def test_a_link_opens_its_fold(self, show, place):
        anchor = ("#search", "#channels", "#trust")[(0, 1, 5).index(place)]
        driver = show(opened=False, anchor=anchor)
        assert self.opened(driver) == [at == place for at in range(6)]
        top = self.folds(driver)[place].rect["y"] - driver.execute_script("return scrollY")
        assert -5 <= top < WIDE[1]

    def test_a_link_within_the_page_does_too(self, show):
        driver = show(opened=False)
        driver.execute_script("location.hash = '#sizes'")
        time.sleep(0.2)
        assert self.opened(driver)[2]

    def test_printing_opens_them_and_closes_them_again(self, show):
        driver = show(opened=False)
        driver.execute_script(
            OPEN.replace("details.fold", "#search").replace("fold.open", "0, fold.x")
        )
        driver.execute_script("dispatchEvent(new Event('beforeprint'))")
        assert all(self.opened(driver))
        driver.execute_script("dispatchEvent(new Event('afterprint'))")
        assert not any(self.opened(driver))

    def test_they_are_on_paper(self, show):
        sizes = []
        for remove in ("", "document.querySelectorAll('.fold').forEach(fold => fold.remove())"):
            driver = show(opened=False)
            driver.execute_script(remove)
            made = driver.execute_cdp_cmd("Page.printToPDF", {})
            sizes.append(base64.b64decode(made["data"]).count(b"/Type /Page\n"))
        assert sizes[0] >= sizes[1] + 3


class TestCommands:
    def buttons(self, driver):
        return driver.find_elements(By.CSS_SELECTOR, "#frontier > .scroll .copy")

    def test_a_button_a_point(self, show):
        driver = show(opened=False)
        assert len(self.buttons(driver)) == 8
        assert all(button.is_displayed() for button in self.buttons(driver))

    def test_copies_what_is_shown(self, show):
        driver = show(opened=False)
        driver.execute_script(
            "Object.defineProperty(navigator, 'clipboard', {value:"
            "{ writeText: text => { window.copied = text; return Promise.resolve(); } }})"
        )
        button = self.buttons(driver)[0]
        button.click()
        time.sleep(0.1)
        words = shlex.split(driver.execute_script("return window.copied"))
        assert words[:4] == ["onnxsemi", "apply", FOLDER, "--at"]
        assert button.text == "Copied"
        assert driver.find_element(By.ID, "said").get_attribute("textContent") == "Copied"

    def test_without_a_clipboard_it_is_selected(self, show):
        driver = show(opened=False)
        driver.execute_script(
            "Object.defineProperty(navigator, 'clipboard', { value: undefined });"
        )
        self.buttons(driver)[1].click()
        time.sleep(0.1)
        selected = driver.execute_script("return getSelection().toString()")
        assert shlex.split(selected)[2] == FOLDER

    def test_on_a_phone_the_table_scrolls_in_its_box(self, show):
        driver = show(PHONE, opened=False)
        box = driver.find_element(By.CSS_SELECTOR, "#frontier > .scroll")
        assert box.rect["width"] <= PHONE[0]
        driver.execute_script("arguments[0].scrollLeft = 9999", box)
        button = self.buttons(driver)[0]
        assert 0 <= button.rect["x"] - driver.execute_script("return scrollX") <= PHONE[0]

    def test_the_written_point_stands_out(self, show):
        driver = show(opened=False)
        assert driver.find_element(By.CSS_SELECTOR, "#frontier .ring").is_displayed()
        said = driver.find_element(By.CSS_SELECTOR, "#frontier > .scroll").text
        assert said.count("written") == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_two_runs(show, size, dark):
    driver = show(size, dark=dark, two=True)
    found = driver.find_elements(By.CSS_SELECTOR, ".tiles > div")
    assert len(found) == 8
    assert all(tile.is_displayed() for tile in found)
    first, second = (
        driver.find_element(By.CSS_SELECTOR, f"#frontier .mark.{kind}:not(.hollow)")
        for kind in ("now", "other-run")
    )
    assert first.value_of_css_property("fill") != second.value_of_css_property("fill")
    assert first.tag_name != second.tag_name
    ActionChains(driver).move_to_element(second).perform()
    assert tip(driver).startswith("B: b.run")


def test_printed_page_is_not_cut_off(show):
    driver = show((700, 990))
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true;")
    assert not driver.find_element(By.TAG_NAME, "nav").is_displayed()
    inner, outer = driver.execute_script(
        "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    )
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert inner <= outer
