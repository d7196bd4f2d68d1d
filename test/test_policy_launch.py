"""policy.launch.py: the simulator, the policy and the recorder start together and end together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from robovlm_ros.contract import Contract
from robovlm_ros.vlm.checkpoint import save_policy
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.policy import ActionTokenPolicy
from robovlm_ros.vlm.processor import ActionTokenProcessor
from robovlm_ros.vlm.tiny import TinyVLMConfig, build_model, build_processor

LAUNCH_FILE = Path(__file__).resolve().parent.parent / "launch" / "policy.launch.py"
CONTRACT = Contract.load("tabletop")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A complete checkpoint with random weights."""
    size = TinyVLMConfig(hidden_size=32, vision_layers=1, text_layers=1, heads=2)
    words = build_processor(size)
    vlm = build_model(size, words)
    config = ActionTokenConfig(
        vlm_config=vlm.config, contract=CONTRACT.to_dict(), cameras=["static"], state=["ee.x"], head={"type": "mlp"}
    )
    save_policy(tmp_path / "policy", ActionTokenPolicy.from_vlm(vlm, config), ActionTokenProcessor(config, words))
    return tmp_path / "policy"


def launch(*arguments: str) -> subprocess.Popen[str]:
    """``ros2 launch`` of this launch file, its output in one stream."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ros2 = shutil.which("ros2", path=path)
    assert ros2 is not None
    return subprocess.Popen(
        [ros2, "launch", str(LAUNCH_FILE), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PATH": path},
    )


def test_all_start_and_an_interruption_ends_them_cleanly(domain_id: int, checkpoint: Path, tmp_path: Path) -> None:
    process = launch(
        f"checkpoint:={checkpoint}",
        "instruction:=reach the red block",
        f"directory:={tmp_path / 'episodes'}",
        "sigterm_timeout:=40",  # a machine that does much else takes its time
    )
    watchdog = threading.Timer(100.0, process.kill)
    watchdog.start()
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "following 'reach the red block'" in line:
            process.send_signal(signal.SIGINT)
    watchdog.cancel()
    output = "".join(lines)
    assert process.wait() == 0, output
    for name in ("sim_node", "policy_node", "recorder_node"):
        assert f"[INFO] [{name}-" in output
    assert output.count("process has finished cleanly") == 3, output
    assert "Traceback" not in output


def test_a_checkpoint_that_is_missing_or_does_not_fit_ends_the_launch_before_anything_starts(
    domain_id: int, checkpoint: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.yaml"
    text = (LAUNCH_FILE.parent.parent / "config" / "robots" / "tabletop.yaml").read_text()
    other.write_text(text.replace("rate_hz: 10.0", "rate_hz: 5.0", 1))
    for arguments, reason in (
        (["attention:=fast"], "flash_attention_2"),
        (["checkpoint:=/no/such"], "no checkpoint '/no/such' (a folder, or one of: "),
        ([f"checkpoint:={checkpoint}", f"contract:={other}"], "rate_hz: trained with 10.0, given 5.0"),
    ):
        process = launch(*arguments)
        output = process.communicate(timeout=60)[0]
        assert process.returncode != 0
        assert reason in output
        assert "process started" not in output
        assert "Traceback" not in output
