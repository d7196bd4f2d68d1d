"""Memory and seconds of a full-size PaliGemma: its folder is made, made a policy, loaded, and asked for one action.

``python tools/benchmark_memory.py --json FILE`` writes 12 GB below ``--directory`` and deletes them again. Weights
are random (no download), of the size of google/paligemma-3b-pt-224, in bfloat16. Each step runs in a process of its
own, whose peak resident memory is measured; the command fails when one is above ``--limit-gb``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "3b": {
        "text": {
            "num_hidden_layers": 18, "hidden_size": 2048, "intermediate_size": 16384, "num_attention_heads": 8,
            "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 257216,
        },
        "vision": {
            "num_hidden_layers": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16,
            "image_size": 224, "patch_size": 14,
        },
    },
    "tiny": {
        "text": {
            "num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2,
            "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 4096,
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 2,
            "image_size": 224, "patch_size": 14,
        },
    },
}  # fmt: skip
"""Configurations: that of google/paligemma-3b-pt-224, and one to try this script with."""


def write(folder: Path, size: str) -> dict[str, Any]:
    """A folder of that vision-language model as a hub would give it."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        PreTrainedTokenizerFast,
    )
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    from robovlm_ros.vlm.checkpoint import save_vlm
    from robovlm_ros.vlm.tiny import WORDS

    special = ("<pad>", "<unk>", "<s>", "</s>", "<image>")
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate((*special, *WORDS))}, unk_token="<unk>"))
    words.normalizer, words.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        extra_special_tokens=["<image>"],
    )  # fmt: skip
    pixels = SIZES[size]["vision"]["image_size"]
    image_processor = SiglipImageProcessorPil(size={"height": pixels, "width": pixels})
    image_processor.image_seq_length = (pixels // SIZES[size]["vision"]["patch_size"]) ** 2
    width = SIZES[size]["text"]["hidden_size"]
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", **SIZES[size]["text"]},
        vision_config={"model_type": "siglip_vision_model", **SIZES[size]["vision"], "vision_use_head": False},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=width,
        hidden_size=width,
    )
    with torch.device("meta"):
        model = PaliGemmaForConditionalGeneration(config)
    model = model.to(torch.bfloat16).to_empty(device="cpu")
    model.tie_weights()
    generator = torch.Generator().manual_seed(0)
    block = torch.randn(1 << 20, generator=generator).mul_(0.02).to(torch.bfloat16)  # drawing 3e9 numbers takes minutes
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for start in range(0, len(flat), len(block)):
            part = flat[start : start + len(block)]
            part.copy_(block[: len(part)])
    save_vlm(folder / "vlm", model, PaliGemmaProcessor(image_processor, tokenizer))
    return {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def adopt(folder: Path, size: str) -> dict[str, Any]:
    """A new policy on that model, saved complete: what fine-tuning does, less the training."""
    from robovlm_ros.contract import Contract
    from robovlm_ros.vlm.checkpoint import load_vlm, save_policy
    from robovlm_ros.vlm.configuration import ActionTokenConfig
    from robovlm_ros.vlm.policy import ActionTokenPolicy
    from robovlm_ros.vlm.processor import ActionTokenProcessor

    begin = time.monotonic()
    vlm, processor = load_vlm(folder / "vlm")
    loaded = time.monotonic() - begin
    contract = Contract.load("tabletop")
    config = ActionTokenConfig(
        vlm_config=vlm.config,
        contract=contract.to_dict(),
        cameras=[contract.cameras[0].name],
        state=list(contract.state_names),
        head={"type": "mlp"},
    )
    save_policy(folder / "policy", ActionTokenPolicy.from_vlm(vlm, config), ActionTokenProcessor(config, processor))
    return {"load_seconds": round(loaded, 1)}


def act(folder: Path, size: str) -> dict[str, Any]:
    """The policy is loaded and asked for two actions: the second is what each further one costs."""
    import numpy as np

    from robovlm_ros.observation import Observation
    from robovlm_ros.runtime.engine import PolicyEngine

    begin = time.monotonic()
    engine = PolicyEngine.load(folder / "policy", threads=2)
    figures: dict[str, Any] = {"load_seconds": round(time.monotonic() - begin, 1), "dtype": str(engine.policy.dtype)}
    camera = engine.contract.camera(engine.cameras[0])
    image = np.random.default_rng(0).integers(0, 256, (camera.height, camera.width, 3), dtype=np.uint8)
    state = np.zeros(len(engine.contract.state_names), np.float32)
    for name in ("first", "second"):
        begin = time.monotonic()
        seen = Observation(stamp_ns=0, images={camera.name: image}, state=state, instruction="reach the red block")
        chunk = engine.infer(seen)
        figures[f"{name}_action_seconds"] = round(time.monotonic() - begin, 2)
        if not np.isfinite(chunk.actions).all():
            raise RuntimeError("the actions are not finite")
    return figures


STEPS: dict[str, Callable[[Path, str], dict[str, Any]]] = {"write": write, "adopt": adopt, "act": act}


def run(step: str, folder: Path, size: str) -> dict[str, Any]:
    """A step in a process of its own, with its peak resident memory [GB of 1e9 bytes] and its seconds."""
    command = [sys.executable, __file__, "--step", step, "--directory", str(folder), "--size", size]
    begin = time.monotonic()
    answer = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"benchmark_memory: step '{step}' failed (exit status {answer.returncode})")
    figures: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    return {**figures, "seconds": round(time.monotonic() - begin, 1)}


def main() -> int:
    """Run all steps, print a line for each, and compare with the limit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, help="where the folders are written for a while; default: TMPDIR")
    parser.add_argument("--size", choices=SIZES, default="3b", help="size of the model (default: 3b)")
    parser.add_argument("--limit-gb", type=float, default=16.0, help="largest peak memory [GB] (default: 16)")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        figures = STEPS[options.step](options.directory, options.size)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9  # Linux counts in KiB
        print(json.dumps({**figures, "peak_gb": round(peak, 2)}))
        return 0
    results: dict[str, Any] = {"size": options.size, "limit_gb": options.limit_gb}
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="robovlm_memory_") as folder:
        for step in STEPS:
            results[step] = run(step, Path(folder), options.size)
            print(f"benchmark_memory: {step}: {json.dumps(results[step])}", flush=True)
    peak = max(results[step]["peak_gb"] for step in STEPS)
    results["peak_gb"] = peak
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(f"benchmark_memory: peak {peak} GB, limit {options.limit_gb} GB")
    return int(peak > options.limit_gb)


if __name__ == "__main__":
    sys.exit(main())
