"""Step 14: report.json says what the other members say, so every number of the printed report is proven with them."""

from emdi.bundle import BundleReader
from emdi.errors import EmdiError
from emdi.report import make_report, report_keyword
from stackwitness_client.verify.report import Report, Verdict

JSON, PDF = "report.json", "report.pdf"


def check_printed(reader: BundleReader, report: Report) -> None:
    """Make report.json again and compare bytes; the PDF is the exporter's setting of those numbers."""
    step = report.step(14)
    if JSON not in reader.sizes:
        if PDF in reader.sizes:
            step.add(Verdict.INCOMPLETE, "report.missing", f"{PDF} is there without {JSON}", file=PDF)
        return
    try:
        same = make_report(reader) == reader.read(JSON)
    except EmdiError as error:
        step.add(Verdict.TAMPERED, error.code, f"{JSON} cannot be made again: {error.message}", file=JSON)
        return
    if not same:
        step.add(Verdict.TAMPERED, "report.differs", f"{JSON} is not what the other members give", file=JSON)
        return
    printed = ""
    if PDF in reader.sizes:
        if report_keyword(reader.read(JSON)).encode() not in reader.read(PDF):
            step.add(
                Verdict.TAMPERED,
                "report.printed",
                f"{PDF} does not name this {JSON}: another's page",
                file=PDF,
            )
            return
        printed = f"; {PDF} names it, its layout is the exporter's"
    step.finish(f"{JSON} made again, the same bytes{printed}")
