"""Files on the shortlist are scored by what they draw, and of those that draw as well the cleaner one goes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from impasto import events
from impasto.config import RunConfig
from impasto.engine.config import Scores
from impasto.engine.scored import weighed
from impasto.engine.scores import probes_of
from impasto.errors import ModelFileError
from impasto.events import Candidate, Picked, Spent
from tests.engine import forks
from tests.engine.test_validate import MEASURE, QUIET, config, pictures, train, weights

assert pictures  # a fixture


def candidate(name: str, *, recommended: bool = False, **scores: float) -> Candidate:
    return Candidate(
        step=1, file=name, reason="why", recommended=recommended, measured_at=1, losses={}, training={}, scores=scores
    )  # fmt: skip


def first(*others: Candidate, **scores: float) -> Candidate:
    found = weighed([candidate("best", recommended=True, **scores), *others])
    assert [each.recommended for each in found] == [True, *[False] * len(others)]
    return found[0]


def test_of_those_that_draw_as_well_the_cleaner_one_is_recommended() -> None:
    copying = {"similarity": 0.8, "copies": 0.5, "leak": 0.1}
    chosen = first(candidate("early", similarity=0.78, copies=0.0, leak=0.1), **copying)
    assert chosen.file == "early"
    assert chosen.reason == "why; it draws as well as best, and copies 0% in place of 50%"


@pytest.mark.parametrize(
    "scores",
    [
        {"similarity": 0.7, "copies": 0.0, "leak": 0.1},  # less like the pictures
        {"similarity": 0.8, "copies": 0.45, "leak": 0.1},  # hardly cleaner
        {"similarity": 0.8, "copies": 0.0, "leak": 0.3},  # cleaner in one way, worse in another
        {},  # not scored
    ],
    ids=str,
)
def test_without_good_reason_the_loss_decides(scores: dict[str, float]) -> None:
    assert first(candidate("early", **scores), similarity=0.8, copies=0.5, leak=0.1).file == "best"


def test_probes_name_the_trigger_and_stay_silent_without_one() -> None:
    drawn = {"prompts": [{"text": "a zorb at sea"}, {"text": "a dog"}]}
    asked = probes_of(RunConfig.model_validate({"preview": drawn, "scores": {"trigger": "zorb", "instead": "ball"}}))
    assert [(each.text, each.seed) for each in asked.with_trigger] == [("a zorb at sea", 1), ("a zorb at sea", 2)]
    assert {each.text for each in asked.without} == {"a ball at sea"}
    alone = probes_of(RunConfig.model_validate({"scores": {"trigger": "zorb", "seeds": [7]}}))
    assert [each.text for each in alone.with_trigger] == ["zorb"]
    assert probes_of(RunConfig.model_validate({"preview": drawn})).with_trigger == ()


def test_settings_that_would_score_nothing_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"without scores\.trigger nothing is scored"):
        Scores(instead="dog")
    with pytest.raises(ValidationError, match="'a dog' has no 'zorb' in it"):
        Scores(trigger="zorb", prompts=("a dog",))


@pytest.mark.parametrize("held_out", [True, False])
def test_a_run_scores_its_files_and_trains_as_ever(tiny_base: Path, pictures: Path, held_out: bool) -> None:
    scores = {"trigger": "thing", "instead": "dog", "seeds": [1, 2], "steps": 2, "pictures": 4}
    measure = MEASURE if held_out else {"pictures": 0}
    sections = {"validation": measure, "save": {**QUIET, "every_steps": 1}}
    (plain,) = train(config(tiny_base, pictures, "plain", **sections))
    (run,) = train(config(tiny_base, pictures, "scored", scores=scores, **sections))
    assert forks.same(weights(run), weights(plain))
    (picked,) = [each for each in events.read(run.events) if isinstance(each, Picked)]
    assert all(
        each.scores.keys() == {"similarity", "leak", "diversity", "copies", "match"} for each in picked.candidates
    )
    assert all(isinstance(each.scores["similarity"], float) for each in picked.candidates)
    assert [each.recommended for each in picked.candidates] == [True, *[False] * (len(picked.candidates) - 1)]
    assert all((run.path / each.file).is_file() for each in picked.candidates)
    if not held_out:
        assert {each.step for each in picked.candidates} > {4}
    assert any("scores" in each.parts for each in events.read(run.events) if isinstance(each, Spent))


def test_an_encoder_that_is_none_is_found_out_before_the_training(
    tiny_base: Path, pictures: Path, tmp_path: Path
) -> None:
    scores = {"trigger": "thing", "encoder": str(tmp_path)}
    with pytest.raises(ModelFileError, match="E-SCO-001"):
        train(config(tiny_base, pictures, scores=scores))
    assert not (pictures.parent / "runs" / "anna" / "anna.safetensors").exists()


def test_a_share_that_rounds_to_nothing_has_no_sign() -> None:
    assert events.scored({"similarity": -0.001, "leak": None, "copies": 0.5}) == "like the pictures 0%, copies 50%"
