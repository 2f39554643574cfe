"""The worker's part: build what was asked for."""

from __future__ import annotations

from procrastinate import App, JobContext

from stackwitness.evidence import flow

QUEUE = "exports"
BUILD = "evidence.build_export"


def add_tasks(app: App) -> None:
    """Register the tasks of evidence."""

    @app.task(name=BUILD, queue=QUEUE, pass_context=True)
    def build_export(context: JobContext, export_id: str) -> str:
        """Build one export. A failure stands in the request; asking again makes a new one."""
        return str(flow.build_export(context.additional_context["wiring"], export_id))
