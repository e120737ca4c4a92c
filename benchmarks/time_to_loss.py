"""Time to a loss: how soon the pipeline reaches the bits per byte that transformers' GPT2LMHeadModel ends with.

    python -m benchmarks.time_to_loss FOLDER [--seconds 300] [--rates 0.0005 0.0015 0.004] [-S key=value ...]

FOLDER has train.jsonl and validation.jsonl (a column `text`). Theirs: GPT2LMHeadModel with AdamW in fp32, PyTorch's and
transformers' defaults, the full vocabulary, warm-up and cosine over the seconds it is given, once for each rate; the clock
starts after its imports. Ours: the stage `train` as a process, its whole life counted, with `-S` changes to params.yaml.
Both: 4 layers, 4 heads, width 256, context 128, batch 8; the whole validation text is scored in the same way afterwards.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import scratch
from stages.compute import machine

SHAPE = {"n_layer": 4, "n_head": 4, "n_embd": 256, "block_size": 128, "stride": 128, "batch_size": 8}
OURS = {  # found by trying; one pass over more text beats several passes over less
    **{"epochs": 1, "optimizer": "muon", "learning_rate": 0.006, "min_learning_rate": 0.0005, "warmup_steps": 50},
    **{"vocabulary": "corpus", "eval_every": 0, "checkpoint_every": 100_000},
    "max_samples": 900,  # takes less than a third of their time, even without bf16
}
WARM_UP = 0.05  # of their seconds


def prepare(folder: Path, data: Path, **changes: Any) -> Path:
    """A scratch project with the tokens of these stories."""
    scratch.project(folder, **SHAPE | {"dataset": str(data.resolve()), "max_samples": None, "max_val_samples": None} | changes)
    for stage in ("download", "tokenize"):
        scratch.run(folder, f"stages.{stage}")
    return folder


def seconds_of(folder: Path, module: str, *words: str) -> float:
    """How long a module of this checkout runs in `folder`."""
    start = time.perf_counter()
    scratch.run(folder, module, *words)
    return time.perf_counter() - start


def losses(model: Path, folder: Path) -> tuple[float, float]:
    """Bits per byte and nats per token of the validation text; each token is scored once, with 64 tokens of context or more."""
    from model import hf
    from stages.common import files
    from stages.corpus.tokens import TokenFile
    from stages.evaluation.scoring import score

    sums = score(hf.load(model), TokenFile.open(folder / "data/tokenize", "validation"), stride=64)
    meta = files.read_json(folder / "data/tokenize/meta.json", "tokenize")
    nats = float(sums.nll.sum())
    return nats / math.log(2) / meta["splits"]["validation"]["bytes"], nats / float(sums.tokens.sum())


def theirs(rate: float, seconds: float, out: Path) -> None:
    """transformers' model in the training loop of its documentation, for this many seconds, in the folder with the tokens."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    from stages.corpus.tokens import TokenFile
    from stages.training.batches import Batches
    from stages.training.schedule import learning_rate

    stream = TokenFile.open(Path("data/tokenize"), "train").stream
    batches = Batches(stream, SHAPE["block_size"], SHAPE["stride"], SHAPE["batch_size"], 1, 0)
    torch.manual_seed(0)
    shape = {"n_layer": SHAPE["n_layer"], "n_head": SHAPE["n_head"], "n_embd": SHAPE["n_embd"], "n_positions": 128}
    config = GPT2Config(vocab_size=50_257, bos_token_id=None, eos_token_id=None, **shape)
    config.resid_pdrop = config.embd_pdrop = config.attn_pdrop = 0.0
    net = GPT2LMHeadModel(config)
    net.train()
    optimizer = torch.optim.AdamW(net.parameters(), lr=rate)
    start, step, grain = time.perf_counter(), 0, 100_000
    while (spent := time.perf_counter() - start) < seconds:
        tokens, targets = map(torch.from_numpy, batches.read(batches.starts(step)))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(int(spent / seconds * grain), grain, rate, 0.0, int(WARM_UP * grain))
        logits = net(input_ids=tokens).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
    net.save_pretrained(out)
    print(f"transformers, rate {rate:g}: {step:,} steps in {spent:.0f} s", file=sys.stderr)


def main() -> None:
    """Print the table, or work for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--rates", type=float, nargs="*", default=[0.0005, 0.0015, 0.004])
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="key=value")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        theirs(float(args.worker[0]), args.seconds, Path(args.worker[1]))
        return
    changes = OURS | scratch.parse(args.changes)
    with tempfile.TemporaryDirectory() as place:
        mine = prepare(Path(place) / "ours", args.folder, **changes)
        seconds = seconds_of(mine, "stages.train")
        rows = [(f"ours: {', '.join(f'{k}={v}' for k, v in changes.items())}", seconds, mine / "data/train/model", mine)]
        if args.rates:
            other = prepare(Path(place) / "theirs", args.folder, vocabulary="full")
        for rate in args.rates:
            out = other / f"model-{rate:g}"
            words = [str(args.folder), "--seconds", str(args.seconds), "--worker", str(rate), str(out)]
            scratch.run(other, "benchmarks.time_to_loss", *words)
            rows.append((f"GPT2LMHeadModel + AdamW, rate {rate:g}", args.seconds, out, other))
        print(f"\nOn {machine.cpu_name()}, {machine.set_threads(0)} threads\n")
        print("| | seconds | bits/byte | nats/token |\n|---|---:|---:|---:|")
        for name, spent, model, folder in rows:
            bits, nats = losses(model, folder)
            print(f"| {name} | {spent:.0f} | {bits:.4f} | {nats:.4f} |", flush=True)


if __name__ == "__main__":
    main()
