"""A step that is launched once and then replayed: one CUDA graph for forward and backward, one for validation.

At small batches a GPU waits for Python to launch its kernels, a thousand or more a step. A graph of them is launched as
one. It holds for one shape, so waves are padded to whole chunks with their lengths beside them, and batches of another
size (the last of an epoch) run as usual. Dropout draws anew in each replay, and weights are read where they lie. Where
a step cannot be captured, one sentence says why and all runs as usual. A model says by `replayable = True` that its
forward neither asks the device anything nor draws numbers outside of torch. Source: PyTorch's notes on CUDA graphs.
"""

import contextlib
import os

import torch
import torch.nn.functional as F

MOST = 4  # shapes that are captured
WAVES = {"mix": "lengths", "enrollment": "enrollment_lengths"}


class Replay:
    """Runs the steps of a `model` by replaying them.

    loss_of: inputs -> (loss, output). Both methods return None where the step should run as usual.
    """

    def __init__(self, model, loss_of, device, batch_size, say=print):
        self.model, self.loss_of, self.device, self.batch_size, self.say = model, loss_of, device, batch_size, say
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.captured, self.broken, self.pool = {}, "", None

    def train(self, inputs):
        """Gradients of all trainable parameters into their `.grad`; returns the loss, a scalar, or None."""

        def step(given):
            self.let_go()
            loss, _ = self.loss_of(given)
            loss.backward()
            return loss.detach(), [parameter.grad for parameter in self.parameters]

        found = self._run("train", step, inputs)
        if found is None:
            return None
        (loss, gradients), _ = found
        for parameter, gradient in zip(self.parameters, gradients):
            parameter.grad = gradient
        return loss.clone()

    @torch.no_grad()
    def evaluate(self, inputs):
        """`(loss, output, inputs)` without gradients, or None; the inputs as they went in, padded, to score against.

        Output and inputs are written over by the next call.
        """
        found = self._run("evaluate", self.loss_of, inputs)
        if found is None:
            return None
        (loss, output), given = found
        return loss.clone(), output, given

    def let_go(self):
        """Forget all gradients, so that the next backward writes new ones and adds to none."""
        for parameter in self.parameters:
            parameter.grad = None

    def _run(self, kind, step, inputs):
        if self.broken or len(next(iter(inputs.values()))) != self.batch_size:
            return None
        inputs = steady(inputs, getattr(self.model, "chunk", None))
        key = (kind, *((name, value.shape, value.dtype) for name, value in _leaves(inputs)))
        if key not in self.captured:
            if len(self.captured) >= MOST:
                return None
            try:
                self.captured[key] = self._capture(step, inputs)
            except (RuntimeError, NotImplementedError) as error:
                self.broken = str(error).strip().split("\n")[0][:160]
                self.let_go()
                self.say(f"Steps run one kernel after the other, not as one CUDA graph: {self.broken}")
                return None
        result, given, replay = self.captured[key]
        for (_, kept), (_, value) in zip(_leaves(given), _leaves(inputs)):
            kept.copy_(value)
        replay()
        return result, given

    def _capture(self, step, inputs):
        """Capture `step` at the shapes of `inputs`: `(what it returns, the inputs it reads, replay)`."""
        given = _copied(inputs)
        with as_it_was(self.model, self.device):
            result, replay, self.pool = capture(lambda: step(given), self.device, self.pool)
        return result, given, replay


def capture(function, device, pool=None):
    """`(result, replay, pool)`: what `function()` returns, and a call that fills it anew from the same tensors.

    Two calls warm up; in the second one a question to the device (`.item()`, a copy from the CPU) is an error, because
    inside a capture it would leave the random generator unusable. RuntimeError says what cannot be captured.
    """
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        function()
        with asking_is_an_error():
            function()
    torch.cuda.current_stream(device).wait_stream(stream)
    torch.cuda.synchronize(device)
    pool = pool or torch.cuda.graph_pool_handle()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool, stream=stream):
        result = function()
    return result, graph.replay, pool


@contextlib.contextmanager
def asking_is_an_error():
    """Within: whatever makes the CPU wait for the GPU raises RuntimeError."""
    usual = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(usual)


@contextlib.contextmanager
def as_it_was(model, device):
    """Afterwards the model's buffers (statistics of an open BatchNorm) and random numbers are those from before."""
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    random = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    try:
        yield
    finally:
        torch.cuda.set_rng_state(random, device) if device.type == "cuda" else torch.set_rng_state(random)
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


@contextlib.contextmanager
def compiled(model, setting):
    """Within: the Conformer blocks of `model` are compiled where the setting is "compile"; once for all of them."""
    blocks = (
        model.enh_model.separator.conformer.encoders if setting == "compile" and hasattr(model, "enh_model") else []
    )
    for block in blocks:
        block.compile(dynamic=False)
    try:
        yield
    finally:
        for block in blocks:
            block._compiled_call_impl = None


def prepare(settings, model, loss_of, device, precision, say=print):
    """A `Replay` of the steps of `model`, or None where they run as usual; where several GPUs do, a line says so."""
    if wanted(settings.graphs, model, device, precision):
        return Replay(model, loss_of, device, settings.batch_size, say)
    if settings.graphs != "off" and device.type == "cuda" and not alone():
        say("Steps run one kernel after the other, not as one CUDA graph: several processes share the model.")
    return None


def told(steps):
    """What became of the steps, for a run's record: "on", "off", or "off: " and why."""
    return "off" if steps is None else f"off: {steps.broken}" if steps.broken else "on"


def wanted(setting, model, device, precision):
    """Whether steps are replayed: `setting` is not "off", and this model, device and precision allow it."""
    able = getattr(model, "replayable", False) and device.type == "cuda" and precision != "fp16"
    return setting != "off" and able and alone()


def alone():
    """Whether this process trains by itself."""
    return int(os.environ.get("WORLD_SIZE", 1)) == 1


def steady(inputs, chunk):
    """`inputs` with waves padded to whole chunks (samples each) and all lengths given, so that shapes repeat."""
    inputs = dict(inputs)
    for wave, lengths in WAVES.items():
        if chunk is None or wave not in inputs:
            continue
        values = inputs[wave]
        samples, more = values.shape[1], -values.shape[1] % chunk
        if inputs.get(lengths) is None:
            inputs[lengths] = torch.full((len(values),), samples, device=values.device)
        inputs[wave] = F.pad(values, (0, more))
        if wave == "mix" and inputs.get("target") is not None:
            inputs["target"] = F.pad(inputs["target"], (0, more))
    return inputs


def _leaves(inputs, name=""):
    """`(name, tensor)` of all tensors of `inputs`, those in dicts too, in order of their names."""
    for key in sorted(inputs):
        value = inputs[key]
        if isinstance(value, dict):
            yield from _leaves(value, f"{name}{key}.")
        elif isinstance(value, torch.Tensor):
            yield f"{name}{key}", value


def _copied(inputs):
    return {
        name: _copied(value) if isinstance(value, dict) else value.clone() if isinstance(value, torch.Tensor) else value
        for name, value in inputs.items()
    }
