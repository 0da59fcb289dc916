"""Which parameters train, which modes hold, and a table that says so.

The idea is the same for every model: name the parts ("groups"), open some, freeze the rest. A frozen part gets no
gradient, and it stays in eval mode whatever calls `train()`, because `requires_grad` alone lets the statistics of a
frozen BatchNorm drift and a frozen Dropout run. Counts are numbers of parameters.
"""

import weakref
from numbers import Integral

import pandas as pd
from torch import nn

TYPES = ("full", "attn")
SWITCHES = {
    "open_spk_ffn": "spk_ffn",  # the x-vector's last Linear
    "open_pre_ffn": "pre_ffn",  # the input layer before the Conformer: Linear and LayerNorm
    "open_mask": "mask",  # the mask layer after the Conformer
    "open_condition": "condition",  # the Linear over the two embeddings
}


class FreezeError(ValueError):
    """A strategy or setting that does not exist, or groups that do not fit the model; the message lists what there
    is.
    """


def freeze(
    model, depth, type="full", open_spk_ffn=0, open_pre_ffn=0, open_mask=0, open_condition=0, hold_norms=1, **unknown
):
    """Freeze a `ConVoiFilter` but for the chosen parts; what an earlier call froze or opened is forgotten.

    depth: how many of the last Conformer blocks train, 0 to all. type: "full" for whole blocks, "attn" for their
    attention only. open_spk_ffn: the x-vector's last Linear, reached by the gradient through the enrollment and through
    the mixture. open_pre_ffn: the input layer before the Conformer. open_mask: the mask layer. open_condition: the
    Linear over both embeddings. hold_norms: 1 keeps the running statistics of BatchNorm in trained blocks too: in a few
    hundred mixtures they drift to the new place faster than they are worth, and forget the old one. Returns a DataFrame
    in the order of the signal: group, parameters, trainable. Raises `FreezeError`.
    """
    switches = dict(
        open_spk_ffn=open_spk_ffn, open_pre_ffn=open_pre_ffn, open_mask=open_mask, open_condition=open_condition
    )
    blocks = len(model.enh_model.separator.conformer.encoders)
    _check(depth, blocks, type, switches, unknown)
    opened = {SWITCHES[name] for name, on in switches.items() if on}
    for block in range(blocks - depth + 1, blocks + 1):
        opened |= {f"block {block} attn"} | ({f"block {block} rest"} if type == "full" else set())
    table = freeze_groups(model, groups_of(model), opened)
    return hold_statistics(model, table) if hold_norms else table


def hold_statistics(model, table=None):
    """Keep every BatchNorm of `model` in eval mode; its weights may train, its statistics stay. Returns `table`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            _hold(module)
    return table


def _check(depth, blocks, type, switches, unknown):
    if unknown:
        known = ", ".join(["depth", "type", *SWITCHES, "hold_norms"])
        raise FreezeError(f"unknown setting {', '.join(unknown)}; known are: {known}")
    if isinstance(depth, bool) or not isinstance(depth, Integral) or not 0 <= depth <= blocks:
        raise FreezeError(
            f"depth is {depth!r}; this model has {blocks} Conformer blocks, so give a whole number from 0 to {blocks}"
        )
    if type not in TYPES:
        raise FreezeError(f"unknown type {type!r}; known are: {', '.join(TYPES)}")
    for name, value in switches.items():
        if value not in (0, 1):
            raise FreezeError(f"{name} is {value!r}; give 0 (frozen) or 1 (open)")


def groups_of(model):
    """The parts of a `ConVoiFilter` by name, in the order of the signal; of nested parts, a parameter belongs to the
    innermost.
    """
    conformer = model.enh_model.separator.conformer
    groups = {
        "xvector": model.xvector_model,
        "spk_ffn": model.xvector_model.embedding,
        "condition": [model.dropout, model.filter_condition_transform],
        "pre_ffn": [conformer.embed, conformer.positional_dropout],
    }
    for number, block in enumerate(conformer.encoders, start=1):
        groups[f"block {number} attn"] = block.self_attn
        groups[f"block {number} rest"] = block
    return groups | {"mask": model.enh_model.separator.linear}


def parts(model):
    """What trains now in each part (`groups_of`) of a `ConVoiFilter`, whichever strategy opened it; as `freeze` returns
    it.
    """
    groups = groups_of(model)
    return _table(model, groups, _assign(model, groups)[1])


def freeze_groups(model, groups, open):
    """Freeze all of `model` but the groups named in `open`. Works for any module; the core of every strategy.

    groups: name -> a module, a parameter, or a list of these. Of nested modules the innermost group counts, so that a
    block and the attention inside it can be two groups. A parameter given by itself trains without changing its
    module's mode. What no group names is frozen, and shown as the group "other". Returns a DataFrame: group,
    parameters, trainable. Raises `FreezeError` for an unknown name in `open`, a part that is not the model's, or a
    parameter in two groups.
    """
    open = set(open)
    if open - set(groups):
        raise FreezeError(f"unknown group {', '.join(sorted(open - set(groups)))}; known are: {', '.join(groups)}")
    module_group, parameter_group = _assign(model, groups)
    _release(model)
    for parameter in model.parameters():
        parameter.requires_grad_(parameter_group.get(parameter) in open)
        if not parameter.requires_grad:
            parameter.grad = None
    for module in model.modules():
        # the root stays free: it only holds the parts, and its flag is what callers read to learn the model's mode
        if module is not model and module_group.get(module) not in open:
            _hold(module)
    return _table(model, groups, parameter_group)


def thaw(model, groups=None):
    """Undo every freeze: all parameters train, all modules follow `train()`. Returns the table of `groups` (default:
    one for all).
    """
    _release(model)
    model.requires_grad_(True)
    groups = groups or {"everything": model}
    return _table(model, groups, _assign(model, groups)[1])


class HeldInEval:
    """Stands in for the `train` method of a frozen module: the module stays in eval mode, its children decide for
    themselves.

    An attribute of the module rather than a hook or a subclass, so that it holds for whoever calls `train()` (also on a
    parent or a wrapper), leaves the module's class alone, and goes along in a deepcopy or a pickle. It knows its module
    by a weak reference: by a strong one a model that is no longer needed would keep its memory until Python next looks
    for circles, which on a GPU is a second set of weights.
    """

    def __init__(self, module):
        self._module = weakref.ref(module)

    @property
    def module(self):
        """The module whose `train` this is."""
        return self._module()

    def __call__(self, mode=True):
        type(self.module).train(self.module, mode)
        self.module.training = False
        return self.module

    def __getstate__(self):
        return {"module": self.module}

    def __setstate__(self, state):
        self._module = weakref.ref(state["module"])


def is_held(module):
    """Whether `module` is frozen in eval mode."""
    return isinstance(module.__dict__.get("train"), HeldInEval)


def _hold(module):
    module.train = HeldInEval(module)
    module.training = False


def _release(model):
    """Let all modules follow `train()` again, and bring them back to the mode of the whole."""
    for module in model.modules():
        if is_held(module):
            del module.train
            module.training = model.training


def _assign(model, groups):
    """Return (module -> group, parameter -> group); of nested modules the innermost wins."""
    depth = {module: name.count(".") + bool(name) for name, module in model.named_modules(remove_duplicate=False)}
    given = [
        (name, part)
        for name, parts in groups.items()
        for part in (parts if isinstance(parts, (list, tuple)) else [parts])
    ]
    own, modules, parameters, seen = set(model.parameters()), {}, {}, {}
    for name, part in given:
        if part not in (depth if isinstance(part, nn.Module) else own):
            raise FreezeError(f"group {name!r} names a part that is not in this model")
        if part in seen:
            raise FreezeError(f"groups {seen[part]!r} and {name!r} name the same part; give it to one of them")
        seen[part] = name
    nested = [(name, part) for name, part in given if isinstance(part, nn.Module)]
    for name, part in sorted(nested, key=lambda pair: depth[pair[1]]):
        modules |= dict.fromkeys(part.modules(), name)
        parameters |= dict.fromkeys(part.parameters(), name)
    return modules, parameters | {part: name for name, part in given if not isinstance(part, nn.Module)}


def _table(model, groups, parameter_group):
    rows = {name: [0, 0] for name in [*groups, "other"]}
    for parameter in model.parameters():
        row = rows[parameter_group.get(parameter, "other")]
        row[0] += parameter.numel()
        row[1] += parameter.numel() * parameter.requires_grad
    if not rows["other"][0]:
        del rows["other"]
    table = pd.DataFrame(
        [(name, *counts) for name, counts in rows.items()], columns=["group", "parameters", "trainable"]
    )
    table.attrs.update(parameters=int(table["parameters"].sum()), trainable=int(table["trainable"].sum()))
    return table
