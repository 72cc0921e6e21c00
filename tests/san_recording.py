"""What the SAN authors' code computed for two small models (../shared/parity/san.*)."""

import json

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from ovseg_cli.model.build import build
from ovseg_cli.model.san_checkpoint import convert_san


class Recorded:
    """One of the two small models, and its inputs and outputs."""

    def __init__(self, folder, prefix):
        self.tensors = load_file(folder / "parity" / "san.safetensors")
        self.about = json.loads((folder / "parity" / "san.json").read_text())
        self.prefix = prefix
        config, state = convert_san(self.authors_state(), {"min_size": None})
        self.model = build(config).eval()
        self.model.load_state_dict(state)

    def authors_state(self):
        """The whole checkpoint under the authors' names."""
        names = self.about["large_weight_names"]
        if not self.prefix:
            names = [n.removeprefix("weights.") for n in self.tensors if n.startswith("weights.")]
        table = "ov_classifier.token_embedding.weight"
        state = {name: self._shared(f"weights.{name}") for name in names if name != table}
        rows, ids = (self._shared(f"sparse.{table}.{part}") for part in ("rows", "row_ids"))
        state[table] = torch.zeros(49408, rows.shape[1])
        state[table][ids.long()] = rows
        return state

    def _shared(self, name):
        own = f"{self.prefix}{name}"
        found = self.tensors[own if own in self.tensors else name]
        return found.float() if found.dtype == torch.float16 else found

    def input(self, name):
        """A recorded input; the photos are those of both models."""
        return self._shared(f"inputs.{name}")

    def expect(self, found, name, atol):
        """Hold a result against the recorded one."""
        torch.testing.assert_close(
            found, self.tensors[f"{self.prefix}outputs.{name}"], atol=atol, rtol=0
        )

    def case(self, name):
        """Normalised and padded images of a case, their sizes, and the sizes of its results."""
        entries = self.about["cases"][self.prefix.rstrip(".") or "base"][name]
        images = [self.input(f"{e['input']}.image").float()[None] for e in entries]
        height, width = (-(-max(i.shape[axis] for i in images) // 32) * 32 for axis in (2, 3))
        padded = [
            F.pad(self.model.normalise(i), (0, width - i.shape[3], 0, height - i.shape[2]))
            for i in images
        ]
        sizes = [(i.shape[2], i.shape[3]) for i in images]
        return torch.cat(padded), sizes, [(e["output_height"], e["output_width"]) for e in entries]
