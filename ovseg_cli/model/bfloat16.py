"""Which devices multiply in bfloat16 themselves; on others it is emulated, several times slower."""

import torch


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16, as CUDA and oneDNN say of theirs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        # oneDNN knows of x86 and Arm; a build without it has no quick products of this kind.
        check = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
        return check is not None and bool(check())
    return True
