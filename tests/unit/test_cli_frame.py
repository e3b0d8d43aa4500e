"""The live view as people see it, at the widths and heights that terminals have."""

import io
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.cells import cell_len
from rich.console import Console

from orchestrator import events as ev
from orchestrator.cli.frame import frame
from orchestrator.cli.paint import ASCII, UNICODE
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


def picture(story, *, width=100, height=45, footer=FOOTER, **options):
    shown = view(story.rollout, events=story.events, measurements=story.measurements, now=story.now)
    return frame(shown, story.events, width=width, height=height, footer=footer, **options)


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


SIZES = [(20, 5), (20, 60), (40, 10), (40, 60), (60, 20), (80, 12), (80, 24), (140, 16), (200, 60)]


@pytest.mark.parametrize("kind", ["running", "paused", "approval", "rolled back", "succeeded", "begun"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_fits(story, made, width, height, kind):
    stand(story, made, kind)
    for colour, glyphs in ((True, UNICODE), (False, ASCII)):
        shown = lines(story, width=width, height=height, colour=colour, glyphs=glyphs)
        assert len(shown) <= height
        assert max(map(cell_len, shown)) <= width
        assert any(story.rollout.phase.replace("_", " ") in line for line in shown), "the phase is what matters most"


def stand(story, made, kind):
    match kind:
        case "running":
            canary(story, made)
        case "paused":
            canary(story, made).tell(ev.Paused("asked", "paused by ada: lunch", story.now + timedelta(hours=24)))
        case "approval":
            story.upto_canary().waiting("approval", "waits for approval: 正式リリースしますか？ " * 3, 3600)
        case "rolled back":
            story.upto_rolled_back()
        case "succeeded":
            story.upto_end()


@pytest.mark.parametrize(
    ("height", "kept"),
    [
        (1, ["phase"]),
        (2, ["phase", "step"]),
        (3, ["phase", "step", "traffic"]),
        (4, ["phase", "step", "traffic", "gates"]),
        (5, ["phase", "step", "traffic", "gates", "footer"]),
    ],
)
@pytest.mark.parametrize("width", [20, 40, 80])
def test_what_matters_most_goes_last(story, made, width, height, kept):
    text = picture(canary(story, made), width=width, height=height, footer="keys p x q").plain
    parts = {"phase": "running", "step": "5/7 canary", "traffic": "green 10%", "gates": "errors", "footer": "keys p"}
    assert [part for part, sign in parts.items() if sign in text] == kept


def test_golden_small(story, made):
    assert "\n".join(lines(canary(story, made), width=20, height=5, footer="keys p x q")) == SMALLEST
    assert "\n".join(lines(story, width=40, height=10, footer="p pause  x abort  q quit")) == SMALL


def test_a_small_picture_keeps_every_share(made):
    story = made.Story()
    story.upto_canary().split({"blue": 999, "green": 1})
    story.rollout = replace(
        story.rollout,
        expected=replace(story.rollout.expected, traffic={"recommender-version-41": 995, "recommender-version-42": 5}),
    )
    assert "…sion-41 99.5%  …sion-42 0.5%" in lines(story, width=30, height=5)
    assert "~sion-41 99.5%  ~sion-42 0.5%" in lines(story, width=30, height=5, glyphs=ASCII)


def test_wide_characters_keep_the_columns_in_line(story, made):
    story.enter(0).leave(0)
    long = "昇格前の確認" * 3
    story.rollout = replace(
        story.rollout, stages=tuple(replace(record, name=f"{long} {record.name}") for record in story.rollout.stages)
    )
    story.enter(1).waiting("approval", f"waits for approval: {long * 4}", 3600)
    for width in (20, 41, 60, 90):
        shown = lines(story, width=width, height=40)
        assert max(map(cell_len, shown)) <= width
        assert any("昇格前の確認" in line for line in shown)
    waiting = [
        line for line in lines(story, width=60, height=40) if "昇格前" in line and not line.startswith(("├", "└"))
    ]
    assert {len(line) - len(line.lstrip()) for line in waiting if line.startswith(" ")} == {10}


@pytest.mark.parametrize("width", [20, 60, 100])
def test_nothing_that_a_plan_says_moves_the_cursor(story, width):
    story.upto_canary().waiting("approval", "look\x1b[2J at\r\nthis\x07\tnow", 3600)
    text = picture(story, width=width, height=30).plain
    assert all(character.isprintable() or character == "\n" for character in text)
    assert "?[2J" in text


def test_a_terminal_without_unicode_gets_none(story):
    story.upto_canary().waiting("approval", "waits for approval: 本番へ×2?", 3600)
    assert picture(story, glyphs=ASCII, colour=False).plain.isascii()


def test_a_notice_is_wrapped_where_there_is_room_and_cut_where_there_is_none(story, made):
    notice = "pause refused: it is past the point of no return: stable is being deleted, so it goes on to its end"
    assert " ".join(lines(canary(story, made), width=60, height=45, footer=notice)[-2:]) == notice
    assert lines(story, width=20, height=5, footer=notice)[-1] == "pause refused: it is"


def test_drift_says_both_ways_out(story):
    story.upto_canary().tell(ev.Paused("drift", "somebody else changed the endpoint: blue 50%"))
    text = " ".join(" ".join(lines(story)).split())
    assert f"Do rollout resume {story.id} --take-back to undo it, or --keep-theirs to leave it so and end" in text


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
SMALLEST = """\
● running  16s
5/7 canary 10%  hol…
blue 90%  green 10%
? errors  ✔ latency
keys p x q"""
SMALL = """\
diabetes-20261122-7kq3m
● running  16s
5/7 canary 10%  hold 6s left, deadline …
blue 90%  green 10%
for evidence: the gates need more
evidence (40s left)
? errors  CONTINUE  green 0% errors aga…
✔ latency PASS  green p95 <= 51 ms agai…
p pause  x abort  q quit"""
