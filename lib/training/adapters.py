"""Ways to fine-tune a `ConVoiFilter` that open no whole part of it: adapters, norms and biases, falling learning rates.

Sources: Hu et al., "LoRA" (arXiv 2106.09685), through the peft library; Ben Zaken et al., "BitFit" (arXiv 2106.10199);
Howard and Ruder, "ULMFiT" (arXiv 1801.06146), for rates that fall towards the input. Each function returns the table
that `freeze` returns.
"""

import functools
import re

from torch import nn

from lib.training import freezing

BLOCKS = r"self_attn\.linear_(q|k|v|out)|feed_forward(_macaron)?\.w_[12]"
BESIDE = {  # what adapters stand beside: attention alone; the feed-forward layers too; every projection of the way
    "attn": r".*\.self_attn\.linear_(q|k|v|out)",
    "all": rf".*\.({BLOCKS})",
    "every": rf".*\.({BLOCKS}|conv_module\.pointwise_conv[12]|conformer\.embed\.0|separator\.linear\.0)"
    r"|filter_condition_transform",
}


def open_all(model):
    """Everything trains; BatchNorm keeps its statistics, as in every strategy."""
    return freezing.hold_statistics(model, freezing.thaw(model, freezing.groups_of(model)))


def open_all_but_speaker(model):
    """Everything trains but the speaker encoder, which a few hundred mixtures of a few people only spoil."""
    groups = freezing.groups_of(model)
    return freezing.hold_statistics(model, freezing.freeze_groups(model, groups, set(groups) - {"xvector", "spk_ffn"}))


def open_attention(model):
    """The attention of every Conformer block trains, and nothing else. Returns the table of `freeze`."""
    return freezing.freeze(model, depth=len(model.enh_model.separator.conformer.encoders), type="attn")


def open_norms_and_biases(model):
    """The LayerNorms and all biases after the speaker encoder train; every module stays in eval mode, so BatchNorm
    keeps its statistics.
    """
    separator = model.enh_model.separator
    norms = [p for module in separator.modules() if isinstance(module, nn.LayerNorm) for p in module.parameters()]
    biases = [
        p
        for name, p in separator.named_parameters()
        if name.endswith("bias") and all(p is not other for other in norms)
    ]
    return freezing.freeze_groups(model, {"norms": norms, "biases": biases}, ["norms", "biases"])


def add_adapters(model, rank=8, alpha=None, beside="all"):
    """Freeze `model` and put a low-rank product beside projections on the signal's way; those products alone train.

    rank: of the products; alpha / rank scales them (default 2). beside: which projections: "attn", those of attention;
    "all", of the feed-forward layers too; "every", also the convolutions of kernel 1, the layer over both embeddings,
    the one before the blocks and the mask's. The speaker encoder has none. The model gains parameters until
    `merge_adapters` folds them in. Saved with them, `from_pretrained` folds them in, or leaves them away with
    `adapters=None`. A rank or a key that is none, or a model that has adapters, is a `FreezeError`.
    """
    if isinstance(rank, bool) or not isinstance(rank, int) or rank < 1:
        raise freezing.FreezeError(f"the rank of adapters must be a whole number from 1 on, got {rank!r}")
    if beside not in BESIDE:
        raise freezing.FreezeError(f"adapters can stand beside {' or '.join(map(repr, BESIDE))}, got {beside!r}")
    if model.config.adapters is not None:
        raise freezing.FreezeError("the model has adapters already; fold them in first: `merge_adapters(model)`")
    from peft import LoraConfig, inject_adapter_in_model

    alpha = 2 * rank if alpha is None else alpha
    model.config.adapters = alpha / rank
    inject_adapter_in_model(
        LoraConfig(r=rank, lora_alpha=alpha, target_modules=BESIDE[beside], lora_dropout=0.0), model
    )
    added = [part for name, part in model.named_modules() if re.search(r"lora_[AB]$", name)]
    return freezing.freeze_groups(model, {"adapters": added}, ["adapters"])


def merge_adapters(model):
    """Fold the adapters into the weights they stand beside, in place: the model has its usual tensors again. Returns
    it.
    """
    from peft.tuners.lora import LoraLayer

    for name, layer in [(name, part) for name, part in model.named_modules() if isinstance(part, LoraLayer)]:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.config.adapters = None
    return model


def open_with_falling_rates(model, decay=0.7):
    """Everything trains; each part's learning rate is `decay` times that of the part after it, so that the front moves
    least.
    """
    table = open_all(model)
    model.parameter_groups = functools.partial(falling_rates, model, decay)
    return table


def falling_rates(model, decay, learning_rate):
    """Groups for an optimizer: the mask layer at `learning_rate`, each earlier block at `decay` times the next one's
    rate.
    """
    separator, groups = model.enh_model.separator, []
    conformer = separator.conformer
    parts = [
        separator.linear,
        *reversed(conformer.encoders),
        nn.ModuleList([conformer.embed, model.filter_condition_transform]),
        model.xvector_model,
    ]
    for step, part in enumerate(parts):
        groups.append({"params": [p for p in part.parameters() if p.requires_grad], "lr": learning_rate * decay**step})
    assert sum(len(group["params"]) for group in groups) == sum(p.requires_grad for p in model.parameters())
    return [group for group in groups if group["params"]]
