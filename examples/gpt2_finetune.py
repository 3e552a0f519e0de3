"""GPT-2 fine-tuned as a classifier. It runs without an error, and five things in it are wrong.

    lrlint check examples/gpt2_finetune.py:setup

The comments say where lrlint finds each of them; `examples/verify.py` holds it to that.
"""

from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR
from transformers import GPT2Config, GPT2ForSequenceClassification

STEPS = 3_000


def setup():
    model = GPT2ForSequenceClassification(GPT2Config(num_labels=2, pad_token_id=50256))
    embeddings = [model.transformer.wte.weight, model.transformer.wpe.weight]

    # The list of BERT: GPT-2 calls its layer norms ln_1, ln_2 and ln_f.
    exempt = ("bias", "LayerNorm.weight")
    blocks = [(n, p) for n, p in model.transformer.named_parameters() if n.startswith(("h.", "ln_f"))]
    decayed = [p for n, p in blocks if not any(part in n for part in exempt)]
    spared = [p for n, p in blocks if any(part in n for part in exempt)]

    optimizer = AdamW(  # expect: LR101
        [
            {"params": embeddings, "lr": 1e-5, "weight_deacy": 0.0},  # expect: LR602
            {"params": decayed, "weight_decay": 0.1},  # expect: LR304
            {"params": spared, "weight_decay": 0.0},
        ],
        lr=5e-5,
    )
    # One peak for all groups, and a horizon in batches although gradients are accumulated over four of them.
    scheduler = OneCycleLR(optimizer, max_lr=5e-5, total_steps=4 * STEPS, cycle_momentum=False)  # expect: LR401, LR403
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": STEPS}
