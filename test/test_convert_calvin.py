"""CALVIN's folders become episodes, and their pickled annotations are read without executing anything."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from robovlm_ros.bags import list_episodes, observations, read_episode
from robovlm_ros.bags.plain_pickle import read_object_npy
from robovlm_ros.cli.convert import main as convert
from robovlm_ros.contract import Contract
from robovlm_ros.errors import UserError


def folder(path: Path, spans: tuple[tuple[int, int], ...] = ((101, 104), (106, 112))) -> Path:
    """Steps 100 to 112 of CALVIN's making, with annotated spans."""
    rng = np.random.default_rng(0)
    (path / "lang_annotations").mkdir(parents=True)
    for number in range(100, 113):
        np.savez_compressed(
            path / f"episode_{number:07d}.npz",
            rgb_static=rng.integers(0, 256, (200, 200, 3), dtype=np.uint8),
            rgb_gripper=rng.integers(0, 256, (84, 84, 3), dtype=np.uint8),
            robot_obs=rng.normal(0, 1, 15).astype(np.float64),
            actions=rng.normal(0, 1, 7),
            rel_actions=np.array([*rng.uniform(-1, 1, 6), rng.choice([-1.0, 1.0])]),
            scene_obs=rng.normal(0, 1, 24),
        )
    np.save(path / "ep_start_end_ids.npy", np.array([[100, 112]]))
    np.save(path / "lang_annotations/auto_lang_ann.npy", annotations(spans), allow_pickle=True)
    return path


def annotations(spans: tuple[tuple[int, int], ...]) -> Any:
    count = len(spans)
    return {
        "language": {
            "ann": [f"push block {i} to the left" for i in range(count)],
            "task": ["push_red_block_left"] * count,
            "emb": np.random.default_rng(1).normal(0, 1, (count, 1, 384)).astype(np.float32),
        },
        "info": {"episodes": [], "indx": [*spans]},
    }


def test_each_annotated_span_becomes_an_episode_with_the_numbers_of_its_files(tmp_path: Path) -> None:
    source = folder(tmp_path / "training")
    assert convert(["calvin", str(source), str(tmp_path / "out"), "--workers", "1"]) == 0
    found = [read_episode(path) for path in list_episodes(tmp_path / "out")]
    assert [episode.name for episode in found] == ["000000_push_red_block_left", "000001_push_red_block_left"]
    assert [episode.instruction for episode in found] == ["push block 0 to the left", "push block 1 to the left"]
    assert {episode.outcome for episode in found} == {"success"}
    assert found[0].contract == Contract.load("calvin")
    for episode, first, last in ((found[0], 101, 104), (found[1], 106, 112)):
        steps = list(observations(episode))
        assert len(steps) == last - first + 1
        for number, step in zip(range(first, last + 1), steps, strict=True):
            with np.load(source / f"episode_{number:07d}.npz") as stored:
                np.testing.assert_array_equal(step.observation.images["static"], stored["rgb_static"])
                np.testing.assert_array_equal(step.observation.images["gripper"], stored["rgb_gripper"])
                np.testing.assert_array_equal(step.observation.state, stored["robot_obs"].astype(np.float32))
                np.testing.assert_array_equal(step.actions[0, :6], stored["rel_actions"][:6])
                assert step.actions[0, 6] == (stored["rel_actions"][6] > 0)
            assert step.valid.all()


class Harmful:
    """What a pickle can do to those who load it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("protocol", range(2, 6))
def test_annotations_are_read_as_data_in_every_protocol_and_as_numpy_would(tmp_path: Path, protocol: int) -> None:
    value = annotations(((1, 2), (3, 4)))
    value["more"] = [
        None,
        True,
        1.5,
        -7,
        2**70,
        "é",
        b"bytes",
        (),
        {"a": [1, (2, 3, 4, 5)]},
        np.int64(5),
        np.float32(2),
    ]
    value["fortran"] = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    value["again"] = value["language"]["ann"]
    path = tmp_path / "x.npy"
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|O", "fortran_order": False, "shape": ()})
        stream.write(pickle.dumps(np.array(value, dtype=object), protocol))
    expected = np.load(path, allow_pickle=True).item()
    found = read_object_npy(path)
    np.testing.assert_equal(found, expected)
    assert found["info"]["indx"] == [(1, 2), (3, 4)]


def test_a_pickle_that_would_do_something_is_refused_and_does_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source = folder(tmp_path / "training")
    np.save(source / "lang_annotations/auto_lang_ann.npy", {"language": Harmful()}, allow_pickle=True)  # type: ignore[arg-type]
    assert convert(["calvin", str(source), str(tmp_path / "out")]) == 1
    assert "mkdir" in capsys.readouterr().err
    assert not (tmp_path / "harm").exists()
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="no Python object"):
        read_object_npy(source / "ep_start_end_ids.npy")
    (tmp_path / "broken.npy").write_bytes((source / "lang_annotations/auto_lang_ann.npy").read_bytes()[:150])
    with pytest.raises(UserError, match="cannot be read"):
        read_object_npy(tmp_path / "broken.npy")


def test_what_is_no_calvin_folder_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = folder(tmp_path / "training"), str(tmp_path / "out")
    assert convert(["calvin", str(tmp_path), out]) == 1
    assert "no episode_NUMBER.npz" in capsys.readouterr().err
    assert convert(["calvin", str(source), out, "--contract", "tabletop"]) == 1
    assert "one command, named rel_actions or actions" in capsys.readouterr().err
    (source / "episode_0000108.npz").unlink()
    assert convert(["calvin", str(source), out, "--workers", "1"]) == 1
    assert "episode_0000108.npz is missing" in capsys.readouterr().err
    assert [path.name for path in Path(out).iterdir()] == ["000000_push_red_block_left"]
    np.save(source / "ep_start_end_ids.npy", np.array([[100, 105]]))
    assert convert(["calvin", str(source), str(tmp_path / "other")]) == 1
    assert "steps 106 to 112 ('push block 1 to the left') lie in no recording" in capsys.readouterr().err
    (source / "lang_annotations/auto_lang_ann.npy").unlink()
    assert convert(["calvin", str(source), str(tmp_path / "other")]) == 1
    assert "only annotated spans become episodes" in capsys.readouterr().err
