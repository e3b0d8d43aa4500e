"""The live view as people see it, at the widths and heights that terminals have."""

import io
import time

import pytest
from rich.console import Console

from orchestrator import events as ev
from orchestrator.cli.frame import ASCII, frame
from orchestrator.cli.plain import Lines, Story
from orchestrator.views import view

FOOTER = "Ctrl-C: stop safely"


@pytest.fixture(autouse=True)
def _utc(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def picture(story, *, width=100, height=45, **options):
    shown = view(story.rollout, events=story.events, measurements=story.measurements, now=story.now)
    return frame(shown, story.events, width=width, height=height, footer=FOOTER, **options)


def lines(story, **options):
    return [line.rstrip() for line in picture(story, **options).plain.splitlines()]


def canary(story, made):
    story.upto_canary()
    for number in range(1, 5):
        story.measured(made.judgement(requests=20 * number), bad=number % 2)
    return story.waiting("evidence", "the gates need more evidence", 40)


def test_golden_canary(story, made):
    assert "\n".join(lines(canary(story, made), width=90, height=45)) == GOLDEN


def test_golden_rolled_back(story):
    shown = lines(story.upto_rolled_back(), width=90)
    assert shown[2].split() == ["Status", "●", "rolled", "back", "13s"]
    assert any(line.startswith("├── ✗ canary 10%") for line in shown)
    assert any("✗ errors   FAIL      green 15% errors" in line for line in shown)
    assert not any(line.startswith("Step ") for line in shown), "an ended rollout is at no step"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140])
@pytest.mark.parametrize("height", [12, 16, 24, 60])
def test_it_fits(story, made, width, height):
    shown = lines(canary(story, made), width=width, height=height)
    assert len(shown) <= height
    assert max(len(line) for line in shown) <= width
    assert shown[0].startswith("Rollout   diabetes-20261122-7kq3m"[:width])


def test_a_low_terminal_keeps_the_current_step_and_its_gates(story, made):
    text = "\n".join(lines(canary(story, made), width=100, height=17))
    assert "◌ canary 10%" in text
    assert "? errors" in text
    assert "bootstrap" not in text
    assert "4 before" in text


def test_without_colour_sides_differ_in_texture(story, made):
    coloured, plain = (lines(canary(story, made) if colour else story, colour=colour) for colour in (True, False))
    bar = next(line for line in plain if line.startswith("Traffic"))
    assert "█" * 36 + "▒" * 4 in bar
    assert "▒" not in "".join(coloured)


def test_ascii_only(story, made):
    text = "\n".join(lines(canary(story, made), glyphs=ASCII, colour=False))
    assert text.isascii()


def test_blue_is_blue_and_green_is_green_also_when_they_have_changed_places(made):
    story = made.Story()
    text = picture(story.upto_canary())
    styles = {text.plain[span.start : span.end]: str(span.style) for span in text.spans}
    assert "blue" in styles["blue 90%"]
    assert "green" in styles["green 10%"]


def test_a_share_that_is_tiny_is_still_seen(story):
    story.upto_canary().split({"blue": 999, "green": 1})
    bar = next(line for line in lines(story, colour=False) if line.startswith("Traffic"))
    assert "█" * 39 + "▒" in bar
    assert "green 0.1%" in bar


def test_no_traffic_at_all(made):
    story = made.Story()
    assert any("none" in line for line in lines(story) if line.startswith("Traffic"))


def test_a_pause_says_why_and_what_to_type(story):
    story.upto_canary().tell(ev.Paused("asked", "paused by ada: lunch"))
    text = "\n".join(lines(story))
    assert "Why       paused by ada: lunch" in text
    assert "Do        rollout resume diabetes-20261122-7kq3m" in text
    assert "hold stopped at 10s" in text


def test_a_deploy_that_failed_shows_its_reason_below_itself(story):
    story.enter(0).leave(0).enter(1)
    story.leave(1, "exited 3 times: ImportError: no module named sklearn", "failed")
    story.tell(ev.RollbackBegan("step", "deploy green did not succeed"))
    assert any("ImportError" in line for line in lines(story))


def test_it_is_drawn_by_rich_as_it_was_made(story, made):
    console = Console(width=90, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(picture(canary(story, made), width=90))
    drawn = [line.rstrip() for line in console.export_text(styles=False).splitlines()]
    assert drawn == "\n".join(lines(story, width=90)).splitlines()


# --- plain lines


def test_the_story_leaves_out_what_the_next_line_says(story):
    told = list(Story().lines(story.upto_rolled_back().events))
    assert told[0].startswith("10:00:00  rollout diabetes-20261122-7kq3m on endpoint diabetes")
    assert "10:00:04  step 4: shadow 10%" in told
    assert "10:00:04      traffic blue 100%, mirror green 10%" in told
    measured = [line for line in told if "-> CONTINUE" in line]
    assert len(measured) == 1, "six polls said the same"
    assert not any("done and verified" in line for line in told)
    assert "rolled back: gate errors" in told[-1]


def test_figures_are_told_again_after_some_time(story, made):
    story.upto_canary()
    for number in range(1, 25):
        story.measured(made.judgement(requests=number))
    told = [line for line in Story().lines(story.events) if "-> CONTINUE" in line and ":12 " not in line]
    assert 2 <= len(told) <= 5


def test_a_log_in_a_reason_is_indented_below(story):
    story.enter(1).leave(1, "exited 3 times, its log ends with:\nTraceback\nImportError", "failed")
    first, *rest = list(Story().lines(story.events))[-1].splitlines()
    assert first.endswith("its log ends with:")
    assert [line.strip() for line in rest] == ["Traceback", "ImportError"]
    assert all(line.startswith(" " * 10) for line in rest)


def test_a_log_is_told_once(story):
    reason = "exited 3 times, its log ends with:\nImportError"
    story.enter(1).leave(1, reason, "failed").tell(ev.RollbackBegan("step", reason))
    story.tell(ev.Finished("rolled_back", reason))
    assert "\n".join(Story().lines(story.events)).count("ImportError") == 1


def test_lines_print_each_event_once_and_fall_silent_when_nobody_reads(story):
    stream = io.StringIO()
    face = Lines(stream)
    face.show(story.events)
    story.enter(0)
    face.show(story.events)
    assert len(stream.getvalue().splitlines()) == 3
    broken = Closed()
    face = Lines(broken)
    face.say("nobody reads this")
    face.say("nor this")
    assert broken.tries == 1


class Closed(io.StringIO):
    """A pipe that nobody reads any more."""

    tries = 0

    def write(self, text):
        self.tries += 1
        raise BrokenPipeError


GOLDEN = """\
Rollout   diabetes-20261122-7kq3m
Endpoint  diabetes (local)
Status    ● running  16s  driven by 4711 on laptop
Step      5/7  canary 10%  hold 6s left, deadline 41s left
Traffic   ████████████████████████████████████████  blue 90%  green 10%
Waiting   for evidence: the gates need more evidence (40s left)

Steps
├── ✔ bootstrap blue  3.2s
├── ✔ deploy green  1.4s
├── ✔ test green  100ms
├── ✔ shadow 10%  7s
├── ◌ canary 10%  4s
│   ├── ? errors   CONTINUE  green 0% errors against blue 0.28% over 80 requests: needs
│   │                        more evidence (80 of 100 requests, 80% of the way to PASS)
│   └── ✔ latency  PASS      green p95 <= 51 ms against blue <= 46 ms over 80 requests:
│                            within the tolerance of 2x
├── · promote 100%
└── · delete blue

  p95     blue   ▅▆▅▆▅▅▆▅▆▅▅  46 ms
          green  ▇█▇█▇▇█▇█▇▇  51.4 ms
  errors  blue   ▂▁▂▁▂▁▂▁▂▁▂  0.56%
          green  ▁▁▁▁▁▁▁█▁█▁  0%

10:00:11  step 5: canary 10%
10:00:11  traffic blue 90%, green 10%
10:00:11  in place and verified, held for 10s
10:00:12  green 0% errors against blue 1.1% over 20 requests: needs more evidence (20 of …

Ctrl-C: stop safely"""
