"""A network whose passes run in onnxruntime; what comes before and after them stays in torch."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ovseg_cli import __version__, weights
from ovseg_cli.errors import CheckpointError, OutputError, UsageError
from ovseg_cli.json_files import parse_json
from ovseg_cli.model.build import config_from_dict
from ovseg_cli.model.network import Network, NetworkOutput, TextFeatures, every_patch
from ovseg_cli.model.variants import with_input
from ovseg_cli.onnx_export import FIXED, INSTALL, LOGITS, OPSET, PARTS, SILENT, Axes, export
from ovseg_cli.whole_files import atomic_path

if TYPE_CHECKING:
    from ovseg_cli.model.config import ModelConfig
    from ovseg_cli.weights import ModelEntry

log = logging.getLogger(__name__)

TORCH, ONNX = "torch", "onnx"  # runtimes; what else is named is a file
AGAIN = "export it again with `ovseg export-model`"
FLOAT = "tensor(float)"  # as onnxruntime calls it
COARSEST = 64  # pixels of the input between two numbers of a mask


class Graph:
    """An exported file, ready to run."""

    def __init__(self, source: Path | bytes) -> None:
        """Raises UsageError where onnxruntime is missing or `source` is no file of ours."""
        try:
            import onnxruntime
        except ImportError as error:
            raise UsageError(f"--runtime onnx needs onnxruntime ({error}): {INSTALL}") from error
        options = onnxruntime.SessionOptions()
        # As many threads as torch has: several passes at a time share the cores (`cores`).
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait busily take the cores from what torch does between two passes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = SILENT
        try:
            self._session = onnxruntime.InferenceSession(
                source if isinstance(source, bytes) else str(source),
                options,
                providers=["CPUExecutionProvider"],
            )
            facts = self._session.get_modelmeta().custom_metadata_map
            self.part = facts["part"]
            self.checksum = facts["model_sha256"]
            self.config = config_from_dict(parse_json(facts["config"]))
            part = PARTS[self.part]
            self.mask_stride = int(facts.get("mask_stride", 0))
            self.sharp_masks = facts.get("sharp_masks") == "true"
            if self.part == "queries" and not 0 < self.mask_stride <= COARSEST:
                raise ValueError(f"a mask_stride of {self.mask_stride}")
        except Exception as error:  # onnxruntime's have no common class
            raise UsageError(
                f"{_name(source)} is no file of `ovseg export-model`: {error}; {AGAIN}"
            ) from error
        self.name = _name(source)
        for kind, axes, values in (
            ("inputs", part.inputs, self._session.get_inputs()),
            ("outputs", part.outputs, self._session.get_outputs()),
        ):
            if not _serves(axes, values):
                found = ", ".join(f"{v.name} {v.type} {_axes(v.shape)}" for v in values)
                wanted = ", ".join(f"{name} {FLOAT} {_axes(axes[name])}" for name in axes)
                raise UsageError(
                    f"{self.name} is damaged, or of another version of ovseg: its {kind} are "
                    f"{found:.400}, not {wanted}: {AGAIN}"
                )

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Outputs of the part, in its order; inputs on the CPU.

        Raises CheckpointError for a graph that fails, or gives what its part does not.
        """
        part = PARTS[self.part]
        feeds = {
            name: np.ascontiguousarray(value.numpy())
            for name, value in zip(part.inputs, inputs, strict=True)
        }
        try:
            outputs = self._run(feeds)
        except Exception as error:  # onnxruntime's have no common class
            reason = str(error).partition("\n")[0]
            if "allocate memory" in reason or "bad_alloc" in reason:
                raise MemoryError(reason) from error
            raise CheckpointError(f"{self.name} cannot be run: {reason:.300}; {AGAIN}") from error
        self._check(feeds, outputs)
        return [torch.from_numpy(array) for array in outputs]

    def _run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The session's outputs. A graph that never ends can be ended by a signal."""
        import onnxruntime

        options = onnxruntime.RunOptions()
        options.log_severity_level = SILENT

        def run() -> list[np.ndarray]:
            found: list[np.ndarray] = self._session.run(None, feeds, options)
            return found

        if threading.current_thread() is not threading.main_thread():
            return run()
        # Python hears of signals in its main thread alone, and not while that is within a pass.
        with ThreadPoolExecutor(1) as pool:
            passing = pool.submit(run)
            try:
                return passing.result()
            except BaseException:
                options.terminate = True
                raise

    def _check(self, feeds: Mapping[str, np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        """Raise CheckpointError for outputs of other sizes than follow from the inputs."""
        part = PARTS[self.part]
        lengths: dict[str | int, int] = {}
        for axes, array in zip(part.inputs.values(), feeds.values(), strict=True):
            lengths |= zip(axes, array.shape, strict=True)
        lengths |= {"channels": self.config.joint_width, LOGITS: lengths.get("phrases", 0) + 1}
        most = {
            "rows": "height",
            "columns": "width",
            "mask_rows": "height",
            "mask_columns": "width",
        }
        for (name, axes), array in zip(part.outputs.items(), outputs, strict=True):
            fits = array.ndim == len(axes) and array.dtype == np.float32
            for axis, length in zip(axes, array.shape, strict=False):
                limit = lengths[most[axis]] if axis in most else length
                fits &= 0 < length <= limit and lengths.setdefault(axis, length) == length
            if not fits:
                raise CheckpointError(
                    f"{self.name} gives {name} of {array.dtype} {array.shape}, which are no "
                    f"{_axes(axes)} of images {feeds['images'].shape}: {AGAIN}"
                )


def _axes(lengths: Sequence[Any]) -> str:
    return f"({', '.join(map(str, lengths))})"


def _serves(axes: Mapping[str, Axes], values: Sequence[Any]) -> bool:
    """Whether a graph's inputs or outputs are those of a part, as many and in their order.

    The lengths of some axes are the model's; those of others have to be open.
    """
    if [value.name for value in values] != list(axes):
        return False
    for wanted, value in zip(axes.values(), values, strict=True):
        if value.type != FLOAT or len(value.shape) != len(wanted):
            return False
        for axis, length in zip(wanted, value.shape, strict=True):
            if length != axis and isinstance(length, int) != (axis in FIXED):
                return False
    return True


def _name(source: Path | bytes) -> str:
    return "the graph" if isinstance(source, bytes) else str(source)


class OnnxNetwork(Network):
    """A network of which graphs do the passes; its text encoder is kept."""

    def __init__(self, network: Network, open_graph: Callable[[str], Graph]) -> None:
        """network: whose graphs `open_graph` gives, by the names of PARTS."""
        super().__init__()
        self.config = network.config
        self.text = network.text
        self.has_regions = network.has_regions
        self._names_by_patches = network.names_by_patches
        self._factor = float(torch.as_tensor(network.logit_factor()).detach())
        self._open = open_graph
        self._graphs: dict[str, Graph] = {}

    @property
    def names_by_patches(self) -> bool:
        """See `Network`."""
        return self._names_by_patches

    def prepare(self, masks: bool) -> None:
        """See `Network`: graphs are opened, and made where there are none yet."""
        if not masks:
            self._graph(self.config.proposals)
            return
        self._graph("patches")
        if self.looks_at_masks:
            self._graph("masked_patches")

    def forward(
        self, images: Tensor, text: TextFeatures, proposals: str | None = None
    ) -> NetworkOutput:
        """See `Network`."""
        graph = self._graph(proposals or self.config.proposals)
        *masks, logits = graph(images, text.features)
        logits = text.best(logits)
        if not masks:
            return every_patch(logits)
        (mask_logits,) = masks
        grid_hw = mask_logits.shape[2], mask_logits.shape[3]
        input_hw = images.shape[2], images.shape[3]
        return NetworkOutput(
            mask_logits, logits, grid_hw, graph.mask_stride, graph.sharp_masks, input_hw
        )

    def patch_features(self, images: Tensor, mask_logits: Tensor | None = None) -> Tensor:
        """See `Network`."""
        if mask_logits is None:
            return self._graph("patches")(images)[0]
        return self._graph("masked_patches")(images, mask_logits)[0]

    def logit_factor(self) -> float:
        """See `Network`."""
        return self._factor

    def _graph(self, part: str) -> Graph:
        if part not in self._graphs:
            self._graphs[part] = self._open(part)
        return self._graphs[part]


def onnx_network(
    runtime: str,
    entry: ModelEntry,
    config: ModelConfig,
    load: Callable[[ModelConfig], Network],
    adapted: bool,
) -> OnnxNetwork:
    """A model's network in onnxruntime.

    runtime: "onnx", or an exported file; load: the network of a configuration; adapted: whether
    `config` is what the user asked for. If not, a file's own counts. Raises UsageError for a file
    that cannot serve.
    """
    if runtime == ONNX:
        return OnnxNetwork(load(config), _cached(entry, config, lambda: load(config)))
    path = Path(runtime)
    graph = _of_file(path, entry)
    # How often a photo is looked at is no matter of the graph.
    looks = replace(
        graph.config.input,
        mirror=config.input.mirror,
        mirror_scale=config.input.mirror_scale,
        scales=config.input.scales,
    )
    exported = replace(graph.config, input=looks)
    if not _made_of(exported, config):
        raise UsageError(f"{path} tells of another network than {entry.name} is: {AGAIN}")
    if adapted and exported != config:
        raise UsageError(
            f"{path} was exported with other options: leave out --size, --proposals, --attention "
            "and --last-block, or use --runtime onnx"
        )
    return OnnxNetwork(load(exported), _only(graph, path))


def _made_of(exported: ModelConfig, config: ModelConfig) -> bool:
    """Whether options of `ovseg export-model` make the one configuration of the other."""
    size, last = exported.input.min_size, exported.visual
    attention: dict[str, Any] = {"severance": last.severance, "reduced": last.reduced}
    try:
        made = with_input(
            config, None if size == config.input.min_size else size, exported.proposals
        )
        return replace(made, visual=replace(made.visual, **attention)) == exported
    except (UsageError, ValueError):  # this model cannot have them
        return False


def on_cpu(device: str, precision: str) -> tuple[str, str]:
    """The device and the precision of onnxruntime. Raises UsageError for others than those."""
    for option, value, known in (("device", device, "cpu"), ("precision", precision, "fp32")):
        if value not in ("auto", known):
            raise UsageError(
                f"--runtime onnx computes on the cpu in fp32: leave out --{option} {value}, or use "
                "--runtime torch"
            )
    return "cpu", "fp32"


def _of_file(path: Path, entry: ModelEntry) -> Graph:
    """The graph in a file. Raises UsageError unless it is of this model."""
    if not path.is_file():
        raise UsageError(f"--runtime {path}: no such file, and neither torch nor onnx")
    graph = Graph(path)
    if graph.checksum != entry.checksum:
        raise UsageError(
            f"{path} was exported from another model than {entry.name}: its sha256 is "
            f"{graph.checksum[:12]}…, not {entry.checksum[:12]}…; name that one with --model, or "
            f"run `ovseg export-model {entry.name} --to onnx`"
        )
    return graph


def _only(graph: Graph, path: Path) -> Callable[[str], Graph]:
    """What opens the one graph of a file. It raises UsageError for other parts."""

    def open_graph(part: str) -> Graph:
        if part != graph.part:
            raise UsageError(
                f"{path} holds {graph.part}, and what was asked for needs {part}: "
                "use --runtime onnx, which makes what it needs"
            )
        return graph

    return open_graph


def _cached(
    entry: ModelEntry, config: ModelConfig, load: Callable[[], Network]
) -> Callable[[str], Graph]:
    """What opens a model's graphs, kept in the user's folder once they are made.

    load: the network, of the configuration `config`.
    """

    def open_graph(part: str) -> Graph:
        path = cache_place(entry, config, part)
        if path.is_file():
            try:
                return Graph(path)
            except UsageError as error:
                log.debug("%s is made again: %s", path, error)
        log.info("exporting %s to ONNX for --runtime onnx (%s), once", entry.name, part)
        content = export(load(), part, entry)
        try:
            with atomic_path(path) as partial:
                partial.write_bytes(content)
        except OutputError as error:
            log.warning("the export is not kept: %s", error)
            return Graph(content)
        log.info("kept as %s", path)
        return Graph(path)

    return open_graph


def cache_place(entry: ModelEntry, config: ModelConfig, part: str) -> Path:
    """Where a model's graph is kept: named by all that it depends on."""
    values = {**config.to_dict(), "input": None, "proposals": None}  # of photos, not of the graph
    identity = json.dumps([entry.checksum, values, part, OPSET, __version__], sort_keys=True)
    return weights.home() / "onnx" / f"{hashlib.sha256(identity.encode()).hexdigest()}.onnx"
