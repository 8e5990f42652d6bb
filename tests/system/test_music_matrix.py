"""Whatever is asked of whichever model: priced before it runs, and made as it was planned.

All combinations are quoted; made are so many that every model meets every length, and every format. The rest
is for ``python -m tests.system.matrix``.
"""

from collections.abc import Iterator

import pytest

from tests.system.matrix import ALL, FORMATS, LENGTHS_S, MODELS, Bench, Case, open_bench

#: Beyond, four clips take long to make,
_LONGEST_OF_FOUR_S = 30
#: and what is compressed takes long to encode.
_LONGEST_OF_ANY_FORMAT_S = 60


def chosen() -> Iterator[Case]:
    """One case for each model and length; formats, clips and seeds take turns."""
    turn = 0
    for model in MODELS:
        for length_s in LENGTHS_S:
            turn += 1
            formats = FORMATS if length_s <= _LONGEST_OF_ANY_FORMAT_S else ("wav", "flac")
            clips = 4 if turn % 2 and length_s <= _LONGEST_OF_FOUR_S else 1
            seeded = turn % 3 != 0 and model.per_seeded_call > 0
            yield Case(model, length_s, formats[turn % len(formats)], clips, seeded)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with open_bench(tmp_path_factory.mktemp("matrix")) as opened:
        yield opened


def test_everything_is_quoted_as_it_is_reckoned(bench: Bench) -> None:
    wrong = [str(case) for case in ALL if not is_quoted_right(bench, case)]
    assert wrong == []


def is_quoted_right(bench: Bench, case: Case) -> bool:
    answer = bench.quote(case.request)
    if case.refused:
        return answer.status_code == 400 and answer.json()["errors"][0]["field"] == "seed"
    quote = answer.json()
    plan = {name: quote["plan"][name] for name in ("calls", "clips", "takes_per_clip", "seconds", "format")}
    return quote["price"]["micros"] == case.price_micros and plan == {
        "calls": case.calls,
        "clips": case.clips,
        "takes_per_clip": case.takes,
        "seconds": case.length_s,
        "format": case.audio_format,
    }


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("length_s", [29.5, 0, 301, "30"])
def test_lengths_that_are_none_are_refused(bench: Bench, model: object, length_s: object) -> None:
    answer = bench.quote({"prompt": "x", "durationSeconds": length_s})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "durationSeconds")


@pytest.mark.slow
@pytest.mark.parametrize("case", list(chosen()), ids=str)
def test_it_is_made_as_it_was_planned(bench: Bench, case: Case) -> None:
    bench.make(case)
