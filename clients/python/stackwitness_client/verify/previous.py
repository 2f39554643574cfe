"""The shard before this one: leaf 0 commits to where it ended, and to where every station's chain goes on."""

from emdi.bundle import BundleReader
from emdi.encoding import b64u_encode
from emdi.errors import EmdiError
from emdi.shard import chains_of, parse_previous
from stackwitness_client.verify.contents import Contents
from stackwitness_client.verify.report import Report, Verdict

HEAD = "previous/head"


def take_previous(reader: BundleReader, members: object, contents: Contents, report: Report) -> None:
    """Have the stations' chains begin where leaf 0 says they go on, by the lines it commits to; say what that means.

    Raises HeadError for a leaf 0 whose `previous` is malformed. Lines that it does not commit to are a finding.
    """
    if members is None:
        return
    previous = parse_previous(members)
    report.note(
        f"this log follows {previous.origin}, which ended with {previous.size} entries, root"
        f" {b64u_encode(previous.root)} (leaf 0); that it did end so, a checkpoint of {previous.origin} shows"
    )
    if HEAD not in reader.sizes:
        return  # a chain that does not begin in this log is then missing what is before it
    try:
        chains = chains_of(previous, reader.read(HEAD))
    except EmdiError as error:
        message = f"{HEAD} is not what leaf 0 commits to: {error.message}"
        report.step(9).add(Verdict.TAMPERED, error.code, message, idx=0, file=HEAD)
        return
    for stn, chain in contents.stations.items():
        if (before := chains.get(stn)) is not None:
            chain.before = before
            report.note(
                f"{stn}: the chain goes on from {previous.origin}, whose last envelope of it is epoch {before.ep},"
                f" seq {before.seq}; for what is before, bring a bundle of {previous.origin}, or of the log before it"
                " where the station was silent in that one"
            )
