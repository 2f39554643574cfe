"""How fast a monitor takes a log it never saw, and how much memory and disk that needs.

    python bench/monitor.py --entries 200000 --stations 50 --channels 12

Makes a log of signed envelopes as files in a temporary folder, serves it from another process, and follows it once.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from emdi.checkpoint import Checkpoint
from emdi.encoding import b64u_encode
from emdi.entry import KIND_EVENT, KIND_GENESIS, KIND_READING, encode_entry
from emdi.envelope import ZERO_HASH, seal_envelope
from emdi.event import seal_event, seal_key_proof
from emdi.keys import LocalKey
from emdi.merkle import CompactRange, leaf_hash, root_of
from emdi.note import NoteSigner, sign_note
from emdi.pack import Record
from emdi.policy import parse_policy
from emdi.tiles import encode_bundle, entries_path, tile_path
from stackwitness_client.http import ServerLink
from stackwitness_client.monitor import Monitor

ORIGIN = "bench.example/log"
START_MS = 1_790_000_000_000
CP_EVERY = 1000


class LogFiles:
    """Write a log's files as it grows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tree = CompactRange()
        self.hashes: list[list[bytes]] = [[]]
        self.bundle: list[bytes] = []
        self.bytes = 0

    def append(self, kind: int, body: bytes, recv_ms: int) -> None:
        entry = encode_entry(kind, recv_ms, body)
        self.bytes += len(entry)
        self.bundle.append(entry)
        index = self.tree.size
        self.tree.append(leaf_hash(entry))
        if len(self.bundle) == 256:
            self.write(entries_path(index // 256), encode_bundle(self.bundle))
            self.bundle = []
        self.push(0, index, leaf_hash(entry))

    def push(self, level: int, index: int, value: bytes) -> None:
        if level == len(self.hashes):
            self.hashes.append([])
        self.hashes[level].append(value)
        if len(self.hashes[level]) == 256:
            self.write(tile_path(level, index // 256), b"".join(self.hashes[level]))
            root, self.hashes[level] = root_of(self.hashes[level]), []
            self.push(level + 1, index // 256, root)

    def finish(self, signer: NoteSigner) -> None:
        if self.bundle:
            self.write(entries_path(self.tree.size // 256, len(self.bundle)), encode_bundle(self.bundle))
        for level, hashes in enumerate(self.hashes):
            if hashes:
                self.write(
                    tile_path(level, (self.tree.size >> 8 * level) // 256, len(hashes)), b"".join(hashes)
                )
        self.write(
            "checkpoint", sign_note(Checkpoint(ORIGIN, self.tree.size, self.tree.root()).text(), signer)
        )

    def write(self, path: str, data: bytes) -> None:
        target = self.folder / "log" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)


def make(files: LogFiles, entries: int, stations: int, channels: int) -> NoteSigner:
    """Fill the log: genesis, keys, then one envelope a minute of every station."""
    log_key, service = NoteSigner(ORIGIN, b"l" * 32), LocalKey.from_seed(b"s" * 32, "service-1")
    genesis = {
        "v": 1,
        "origin": ORIGIN,
        "policy": f"log {log_key.vkey}\nquorum none\n",
        "service_kid": service.kid,
        "service_public_b64u": b64u_encode(service.public.raw),
        "export_vkey": NoteSigner(f"{ORIGIN}/export", b"e" * 32).vkey,
        "created_ms": START_MS,
    }
    files.append(KIND_GENESIS, json.dumps(genesis).encode(), START_MS)
    keys = {f"S{number}": LocalKey.generate("Ed25519", f"S{number}-1") for number in range(stations)}
    for stn, key in keys.items():
        data = {
            "stn": stn,
            "kid": key.kid,
            "alg": key.public.alg,
            "public_b64u": b64u_encode(key.public.raw),
            "proof": seal_key_proof(key, stn),
        }
        subj = f"station:{stn}"
        asked = seal_event(
            service, typ="key.request", subj=subj, sseq=0, sprev=ZERO_HASH, act="a", ts_ms=START_MS, data=data
        )
        files.append(KIND_EVENT, asked.jws, START_MS)
        data |= {"approvals": ["a", "b"], "request": asked.event_id.hex()}
        made = seal_event(
            service,
            typ="key.register",
            subj=subj,
            sseq=1,
            sprev=asked.event_id,
            act="b",
            ts_ms=START_MS,
            data=data,
        )
        files.append(KIND_EVENT, made.jws, START_MS)
    prev = dict.fromkeys(keys, ZERO_HASH)
    seq, cp = 0, (files.tree.size, files.tree.root())
    while files.tree.size < entries:
        at_ms = START_MS + seq * 60_000
        for stn, key in keys.items():
            records = [
                Record(f"c{n}", at_ms, "mg/m3", Decimal(f"{seq % 97}.{n}"), "N") for n in range(channels)
            ]
            envelope = seal_envelope(
                key, stn=stn, ep=0, seq=seq, prev=prev[stn], iat_ms=at_ms, cp=cp, records=records
            )
            prev[stn] = envelope.env_id
            files.append(KIND_READING, envelope.jws, at_ms)
            if files.tree.size % CP_EVERY == 0:
                cp = (files.tree.size, files.tree.root())
        seq += 1
    files.finish(log_key)
    return log_key


def main() -> None:
    """Make the log, follow it, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=200_000)
    parser.add_argument("--stations", type=int, default=50)
    parser.add_argument("--channels", type=int, default=12)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = LogFiles(Path(name) / "site")
        log_key = make(files, given.entries, given.stations, given.channels)
        print(f"{files.tree.size} entries, {files.bytes / files.tree.size:.0f} bytes each")
        command = [
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
            "-d",
            f"{name}/site",
        ]
        served = subprocess.Popen(
            [*command, "--protocol", "HTTP/1.1"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert served.stdout is not None
        url = f"http://127.0.0.1:{served.stdout.readline().split(' port ')[1].split(' ')[0]}"
        before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            policy = parse_policy(f"log {log_key.vkey}\nquorum none\n")
            monitor = Monitor(Path(name) / "home", ServerLink(url), policy)
            began, cpu = time.monotonic(), time.process_time()
            turn = monitor.turn()
            took_s, cpu_s = time.monotonic() - began, time.process_time() - cpu
        finally:
            served.terminate()
            served.wait()
        assert (turn.exit_code, turn.entries) == (0, files.tree.size), turn
        state = sum(path.stat().st_size for path in Path(name, "home").glob("state.db*"))
        monitor.close()
        print(
            f"first sync: {turn.entries / took_s:.0f} entries/s ({took_s:.1f} s, {cpu_s:.1f} s of processor)"
        )
        after_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(f"memory: at most {after_kib >> 10} MiB ({before_kib >> 10} MiB before, with the log's maker)")
        print(f"state: {state / turn.entries:.0f} bytes an entry beside the mirror")


if __name__ == "__main__":
    main()
