"""Step 7, of a frozen log: no event names the export, so the end of the log itself must be shown."""

from emdi.bundle import BundleReader
from emdi.layout import LOGGED
from emdi.scope import Scope, frozen_export_id
from emdi.shard import Freeze
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.report import Step, Verdict
from stackwitness_client.verify.trust import Trust


class FrozenCheck:
    """Take a bundle without export.made only from a log that is shown to have ended before it could be logged."""

    def __init__(self, reader: BundleReader, trust: Trust, contents: Contents, step: Step) -> None:
        self.trust = trust
        self.contents = contents
        self.step = step
        self.logged = bool(LOGGED & reader.sizes.keys())

    def run(self, scope: Scope | None) -> None:
        """Check that nothing follows `log.freeze`, and without a seal that it is there and covered by the last head."""
        freeze, size = self.contents.freeze, self.trust.checkpoint.size
        if freeze is not None:
            self._check_end(freeze, size)
        if self.logged:
            return
        if freeze is None:
            message = (
                f"{', '.join(sorted(LOGGED))} are missing, and nothing shows that the log was frozen: no proven"
                f" log.freeze is its last entry (idx {size - 1} under this checkpoint)"
            )
            self.step.add(Verdict.INCOMPLETE, "seal.missing", message, file="export.jws")
            return
        if scope is not None:
            self._check_scope(freeze, scope)
        self.step.skip(
            f"the log is frozen: log.freeze (idx {freeze.idx}) is its last entry, and {freeze.successor_origin} goes"
            " on. So the custody of this export is not logged: no event says who asked for it, when, or that it was"
            " made. Its id is made of its scope and is not unique: another bundle of the same scope bears it too."
            " Checked here: bundle.note, scope.json, and that the last head covers the whole log"
        )

    def _check_end(self, freeze: Freeze, size: int) -> None:
        """Nothing follows log.freeze: a log that goes on behind it has ended for some and not for others."""
        known = self.trust.known
        if size > freeze.size:
            message = f"the log goes on behind log.freeze: {size - freeze.size} entries under this checkpoint"
            self.step.add(Verdict.TAMPERED, "freeze.broken", message, idx=freeze.idx, file="checkpoint")
        elif self.logged:
            message = "export.made stands behind log.freeze, the last entry of this log"
            self.step.add(Verdict.TAMPERED, "freeze.broken", message, idx=freeze.idx, file="export.jws")
        elif known is not None and known.origin == self.trust.checkpoint.origin and known.size > freeze.size:
            message = f"the log goes on behind log.freeze: your known checkpoint has {known.size} entries; keep both"
            self.step.add(Verdict.TAMPERED, "freeze.broken", message, idx=freeze.idx, file="checkpoint")

    def _check_scope(self, freeze: Freeze, scope: Scope) -> None:
        if scope.head_as_of != freeze.head_as_of:
            message = (
                f"the last head of a frozen log covers all before itself, {freeze.head_as_of} entries; the one this"
                f" bundle ends with covers {scope.head_as_of}"
            )
            self.step.add(Verdict.INCOMPLETE, "freeze.head", message, idx=freeze.idx, file="scope.json")
        period_ms = (scope.from_ms, scope.to_ms)
        asked = (scope.stns, period_ms, scope.entries, scope.requester, scope.purpose)
        here = self.trust.checkpoint
        if scope.export_id != frozen_export_id(here.origin, freeze.size, *asked, redacted=scope.redacted):
            message = f"{scope.export_id} is not the id of what scope.json says was asked for"
            self.step.add(Verdict.TAMPERED, "seal.id", message, file="scope.json")
