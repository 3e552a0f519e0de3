"""Files that scripts read, generated: each function writes into the folder that a script starts in."""

from __future__ import annotations

import random
from pathlib import Path

WORDS = "the a cat dog sits runs on under red green old new house tree and or never always".split()


def text(folder: Path, path: str = "data", lines: int = 400) -> None:
    """Sentences as train.txt, valid.txt and test.txt."""
    maker = random.Random(0)
    (folder / path).mkdir(parents=True, exist_ok=True)
    for part, share in (("train", 1.0), ("valid", 0.25), ("test", 0.25)):
        rows = (" ".join(maker.choices(WORDS, k=20)) for _ in range(int(lines * share)))
        (folder / path / f"{part}.txt").write_text("\n".join(rows) + "\n")


def tokens(folder: Path, path: str) -> None:
    """nanoGPT's files of 16-bit tokens."""
    import numpy as np

    maker = np.random.default_rng(0)
    (folder / path).mkdir(parents=True, exist_ok=True)
    for part in ("train", "val"):
        maker.integers(0, 64, 20_000).astype(np.uint16).tofile(folder / path / f"{part}.bin")


def sine(folder: Path) -> None:
    """A hundred sine waves of a thousand points, float64."""
    import numpy as np
    import torch

    phases = np.random.default_rng(2).integers(-80, 80, (100, 1))
    torch.save(np.sin((np.arange(1000) + phases) / 20.0), folder / "traindata.pt")


def words(folder: Path, path: str) -> None:
    """One text file, with the letters of the line that a script continues."""
    maker = random.Random(0)
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    lines = (" ".join(maker.choices(WORDS, k=20)) for _ in range(400))
    (folder / path).write_text("O God, O God!\n" + "\n".join(lines))


def bert(folder: Path, path: str = "bert-base-cased") -> None:
    """A tiny BERT and its tokenizer in a folder that is called like the model."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    place = folder / path
    place.mkdir(parents=True, exist_ok=True)
    (place / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))
    BertTokenizerFast(str(place / "vocab.txt")).save_pretrained(place)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    BertForSequenceClassification(BertConfig(vocab_size=5 + len(WORDS), **sizes)).save_pretrained(place)


def images(folder: Path, path: str = "data") -> None:
    """The folders that an image folder's stand-in is asked for; the images themselves are made when they are read."""
    for part in ("train", "val"):
        (folder / path / part).mkdir(parents=True, exist_ok=True)
