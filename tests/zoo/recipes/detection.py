"""Detection, segmentation, three dimensions, speech, re-identification, graphs and recommendation.

Every function is a sound published recipe as a target; its docstring names it and what is unusual about it.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import transformers as hf
from torch import nn
from torch.optim import SGD, Adadelta, Adagrad, Adam, AdamW, RMSprop, SparseAdam
from torch.optim.lr_scheduler import ExponentialLR, LambdaLR, LinearLR, MultiStepLR, PolynomialLR, SequentialLR, StepLR

from zoo import models, nets

Target = dict[str, Any]


def _named(model: nn.Module, *parts: str) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(parameters whose name holds one of the parts, the others)."""
    inside = [p for n, p in model.named_parameters() if any(part in n for part in parts)]
    return inside, [p for n, p in model.named_parameters() if not any(part in n for part in parts)]


def detr() -> Target:
    """DETR: backbone at a tenth, decay 1e-4 on everything, frozen norms as buffers, clip .1."""
    model = nets.DETR()
    backbone, rest = _named(model, "backbone")
    optimizer = AdamW([{"params": rest}, {"params": backbone, "lr": 1e-5}], lr=1e-4, weight_decay=1e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 200), "total_steps": 300,
            "clip_norm": 0.1, "example_inputs": nets.image()}  # fmt: skip


def deformable_detr() -> Target:
    """Deformable DETR: backbone, sampling offsets and reference points at a tenth."""
    model = nets.DETR(deformable=True)
    slow, rest = _named(model, "backbone", "sampling_offsets", "reference_points")
    backbone = list(model.backbone.parameters())
    points = [p for p in slow if all(p is not b for b in backbone)]
    groups = [{"params": rest, "lr": 2e-4}, {"params": backbone, "lr": 2e-5}, {"params": points, "lr": 2e-5}]
    optimizer = AdamW(groups, lr=2e-4, weight_decay=1e-4)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 40), "total_steps": 50}


def detectron2_rcnn() -> Target:
    """detectron2: SGD .02, norms without decay, one group per kind of hyperparameter, warm-up from a thousandth."""
    model = nets.ResNet()
    norms = {id(p) for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in norms], "lr": 0.02, "weight_decay": 1e-4},
        {"params": [p for p in model.parameters() if id(p) in norms], "lr": 0.02, "weight_decay": 0.0},
    ]
    optimizer = SGD(groups, lr=0.02, momentum=0.9)
    warm = LinearLR(optimizer, 1e-3, total_iters=1_000)
    scheduler = SequentialLR(optimizer, [warm, MultiStepLR(optimizer, [59_000, 79_000])], [1_000])
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 90_000}


def detectron2_caffe_bias() -> Target:
    """detectron2 in Caffe's style: biases at twice the rate without decay."""
    model = nets.ResNet()
    biases, rest = _named(model, "bias")
    groups = [{"params": rest, "weight_decay": 1e-4}, {"params": biases, "lr": 0.04, "weight_decay": 0.0}]
    return {"model": model, "optimizer": SGD(groups, lr=0.02, momentum=0.9)}


def vitdet() -> Target:
    """ViTDet: layer-wise decay .7, norms and positions exempt, biases decay."""
    model = nets.ViT(layers=12, declares=False)
    groups = []
    for name, parameter in model.named_parameters():
        depth = (
            int(name.split(".")[1]) + 1 if name.startswith("blocks") else 13 if name.startswith(("norm", "head")) else 0
        )
        exempt = "norm" in name or "pos_embed" in name
        groups.append({"params": [parameter], "lr": 1e-4 * 0.7 ** (13 - depth), "weight_decay": 0.0 if exempt else 0.1})
    return {"model": model, "optimizer": AdamW(groups, lr=1e-4)}


def deeplab_poly() -> Target:
    """DeepLab: backbone at .007 and classifier at .07 under SGD, polynomial decay."""
    model = nn.ModuleDict({"backbone": nets.ResNet(32), "classifier": nn.Sequential(nn.Conv2d(32, 21, 1))})
    groups = [{"params": model["backbone"].parameters(), "lr": 0.007}, {"params": model["classifier"].parameters(),
              "lr": 0.07}]  # fmt: skip
    optimizer = SGD(groups, lr=0.007, momentum=0.9, weight_decay=5e-4)
    scheduler = PolynomialLR(optimizer, 30_000, 0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 30_000}


def torchvision_segmentation() -> Target:
    """torchvision segmentation: the auxiliary head at ten times the rate, warm-up by factors, polynomial decay."""
    model = nn.ModuleDict(
        {"backbone": nets.ResNet(32), "classifier": nn.Conv2d(32, 21, 1), "aux_classifier": nn.Conv2d(32, 21, 1)}
    )
    main = [p for name in ("backbone", "classifier") for p in model[name].parameters()]
    groups = [{"params": main}, {"params": model["aux_classifier"].parameters(), "lr": 0.1}]
    optimizer = SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)
    scheduler = LambdaLR(optimizer, lambda step: (1 - min(step, 6_000) / 6_000) ** 0.9)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 6_000}


def mmseg_swin() -> Target:
    """mmsegmentation Swin: norms by the substring `norm`, tables by their name, everything else at .01."""
    model = models.build("swin")
    exempt, decayed = _named(model, "norm", "relative_position_bias_table")
    groups = [{"params": decayed}, {"params": exempt, "weight_decay": 0.0}]
    return {"model": model, "optimizer": AdamW(groups, lr=6e-5, weight_decay=0.01)}


def yolo_three_groups() -> Target:
    """YOLO: biases, norm scales and weights in three groups; rate 0.01 under SGD with Nesterov momentum."""
    model = nets.ResNet()
    norms = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    biases = [p for n, p in model.named_parameters() if n.endswith("bias")]
    weights = [p for p in model.parameters() if p.ndim > 1]
    optimizer = SGD(biases, lr=0.01, momentum=0.937, nesterov=True)
    optimizer.add_param_group({"params": weights, "weight_decay": 5e-4})
    optimizer.add_param_group({"params": norms, "weight_decay": 0.0})
    scheduler = LambdaLR(optimizer, lambda e: max(1 - e / 100, 0) * (1.0 - 0.01) + 0.01)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 100}


def splats() -> Target:
    """3D Gaussian splatting: Adam with default rate 0 and eps 1e-15, six named tensors 400 times apart."""
    shapes = {"xyz": 3, "f_dc": 3, "f_rest": 45, "opacity": 1, "scaling": 3, "rotation": 4}
    rates = {"xyz": 1.6e-4, "f_dc": 2.5e-3, "f_rest": 1.25e-4, "opacity": 0.05, "scaling": 5e-3, "rotation": 1e-3}
    model = nn.Module()
    for name, width in shapes.items():
        model.register_parameter(f"_{name}", nn.Parameter(torch.randn(100, width)))
    groups = [{"params": [model.get_parameter(f"_{name}")], "lr": rates[name], "name": name} for name in shapes]
    return {"model": model, "optimizer": Adam(groups, lr=0.0, eps=1e-15)}


def gsplat() -> Target:
    """gsplat: one Adam per tensor of a ParameterDict, the exponential decay on the positions alone."""
    rates = {"means": 1.6e-4, "scales": 5e-3, "quats": 1e-3, "opacities": 5e-2, "sh0": 2.5e-3, "shN": 1.25e-4}
    splats = nn.ParameterDict({name: nn.Parameter(torch.randn(100, 4)) for name in rates})
    optimizers = {
        name: Adam([{"params": splats[name], "lr": rate, "name": name}], eps=1e-15) for name, rate in rates.items()
    }
    scheduler = ExponentialLR(optimizers["means"], 0.01 ** (1 / 30_000))
    return {"model": splats, "optimizers": optimizers, "scheduler": scheduler, "total_steps": 30_000}


def instant_ngp() -> Target:
    """nerfacto: hash grid and small networks at 1e-2, eps 1e-15, the camera poses at 6e-4."""
    field = nn.ModuleDict({"encoding": nn.Embedding(1024, 2), "mlp": nets.mlp(32, 64, 16)})
    poses = nn.Module()
    poses.register_parameter("pose_adjustment", nn.Parameter(torch.zeros(10, 6)))
    optimizers = {
        "fields": Adam(field.parameters(), lr=1e-2, eps=1e-15),
        "camera_opt": Adam(poses.parameters(), lr=6e-4, eps=1e-15),
    }
    schedulers = [ExponentialLR(o, 0.01 ** (1 / 30_000)) for o in optimizers.values()]
    return {"models": {"field": field, "poses": poses}, "optimizers": optimizers, "schedulers": schedulers}


def wav2vec2_ctc() -> Target:
    """wav2vec 2.0 for speech recognition: the feature encoder is frozen and left out, tri-stage schedule."""
    model = models.build("wav2vec2")
    model.freeze_feature_encoder()
    optimizer = AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=3e-4, betas=(0.9, 0.98), weight_decay=0.005
    )
    scheduler = hf.get_linear_schedule_with_warmup(optimizer, 500, 10_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 10_000}


def whisper_finetune() -> Target:
    """Whisper fine-tuning: AdamW 1e-5 without decay, 500 steps of warm-up; sinusoidal positions are frozen."""
    model = models.build("whisper")
    optimizer = AdamW(model.parameters(), lr=1e-5, weight_decay=0.0)
    scheduler = hf.get_linear_schedule_with_warmup(optimizer, 500, 5_000)
    return {"model": model, "optimizer": optimizer, "scheduler": scheduler, "total_steps": 5_000}


def speechbrain_ctc() -> Target:
    """SpeechBrain: wav2vec at 1e-4 under Adam, the decoder at 1.0 under Adadelta: ten thousand times apart."""
    wav2vec, decoder = models.build("wav2vec2").wav2vec2, nets.mlp(32, 64, 64)
    optimizers = {
        "wav2vec": Adam(wav2vec.parameters(), lr=1e-4),
        "model": Adadelta(decoder.parameters(), lr=1.0, eps=1e-8),
    }
    return {"models": {"wav2vec2": wav2vec, "decoder": decoder}, "optimizers": optimizers}


def reid_one_group_per_parameter() -> Target:
    """Re-identification baseline: one group per parameter, biases at twice the rate; Adam with L2 5e-4."""
    model = nets.ResNet()
    groups = [
        {"params": [p], "lr": 7e-4 if "bias" in n else 3.5e-4, "weight_decay": 5e-4}
        for n, p in model.named_parameters()
    ]
    return {"model": model, "optimizer": Adam(groups)}


def reid_center_loss() -> Target:
    """Re-identification with a center loss, whose centers SGD moves at .5 in an optimizer of their own."""
    model, criterion = nets.ResNet(), nn.Module()
    criterion.register_parameter("centers", nn.Parameter(torch.randn(10, 32)))
    optimizers = [Adam(model.parameters(), lr=3.5e-4, weight_decay=5e-4), SGD(criterion.parameters(), lr=0.5)]
    return {"model": model, "optimizers": optimizers, "extra_modules": {"criterion": criterion}}


def gcn() -> Target:
    """PyG GCN: the first layer decays at 5e-4 through Adam, the second does not; rate .01."""
    model = nn.ModuleDict({"conv1": nn.Linear(32, 16), "conv2": nn.Linear(16, 7)})
    groups = [
        {"params": model["conv1"].parameters(), "weight_decay": 5e-4},
        {"params": model["conv2"].parameters(), "weight_decay": 0},
    ]
    return {"model": model, "optimizer": Adam(groups, lr=0.01)}


def dlrm() -> Target:
    """Recommendation: sparse tables under SparseAdam, the dense part under Adam."""
    model = nn.ModuleDict(
        {"tables": nn.ModuleList(nn.EmbeddingBag(50, 8, sparse=True) for _ in range(3)), "top": nets.mlp(24, 32, 1)}
    )
    optimizers = [SparseAdam(list(model["tables"].parameters()), lr=1e-2), Adam(model["top"].parameters(), lr=1e-3)]
    return {"model": model, "optimizers": optimizers}


def dlrm_adagrad() -> Target:
    """DLRM: Adagrad .01 on sparse tables and dense layers alike."""
    model = nn.ModuleDict(
        {"tables": nn.ModuleList(nn.EmbeddingBag(50, 8, sparse=True) for _ in range(3)), "top": nets.mlp(24, 32, 1)}
    )
    return {"model": model, "optimizer": Adagrad(model.parameters(), lr=0.01)}


def efficientnet_rmsprop() -> Target:
    """EfficientNet: RMSprop .064 with eps 3.16e-2 inside the root, decay 1e-5."""
    model = nets.ResNet()
    decayed = [p for p in model.parameters() if p.ndim > 1]
    exempt = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 1e-5}, {"params": exempt, "weight_decay": 0.0}]
    optimizer = RMSprop(groups, lr=0.064, alpha=0.9, momentum=0.9, eps=0.0316)
    return {"model": model, "optimizer": optimizer, "scheduler": StepLR(optimizer, 3, 0.97), "total_steps": 450}


def sam2_layer_decay_clip() -> Target:
    """Fine-tuning with an average of the weights held beside the model, clip .1, bf16 autocast."""
    model = nets.ViT(declares=False)
    average = copy.deepcopy(model).requires_grad_(False)
    optimizer = AdamW(model.parameters(), lr=5e-6, weight_decay=0.1)
    return {
        "models": {"model": model, "ema": average},
        "optimizer": optimizer,
        "clip_norm": 0.1,
        "precision": "bf16-mixed",
    }
