"""What a run of `ovseg segment` that is divided by --shard has to do with the other parts."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ovseg_cli.errors import OutputError, UsageError
from ovseg_cli.run_folder import parts

if TYPE_CHECKING:
    from ovseg_cli.cli.segment_plan import Plan


def agreed(plan: Plan) -> Plan:
    """The plan with the division that counts in its folder; raises UsageError."""
    if plan.shard is None or plan.division is None:
        return plan
    root = plan.output.root
    try:
        division = parts.agree(root, plan.shard, plan.division, anew=plan.overwrite)
    except OutputError as error:
        raise UsageError(str(error)) from error
    return plan if division == plan.division else replace(plan, division=division)


class PartNotes:
    """What `ovseg merge` will need to know of this part."""

    def __init__(self, plan: Plan, run: str) -> None:
        """run: fingerprint of the model and options."""
        assert plan.shard is not None and plan.division is not None
        self._plan, self._shard = plan, plan.shard
        self._origin = parts.Origin(plan.division, len(plan.images), parts.listed(plan.images), run)

    def begin(self) -> None:
        """Note what the part is to do; raises OutputError."""
        plan, index, division = self._plan, self._shard.index, self._origin.division
        self.end({"status": parts.BEGUN})
        parts.write_inputs(
            plan.output.root,
            self._shard,
            (
                (position, image.rel)
                for position, image in enumerate(plan.images)
                if division.part_of(image.rel) == index
            ),
        )

    def end(self, report: dict[str, Any]) -> None:
        """Note how it went, as run.json has it; raises OutputError."""
        parts.write_part(parts.Part(self._plan.output.root, self._shard, self._origin, report))
