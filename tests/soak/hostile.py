"""The hostile soak: spoilt images, bombs and conversations against a listener; what it acknowledged is accounted for.

    nice .venv/bin/python tests/soak/hostile.py --seed 19 --work /tmp/hostile-19

Everything follows from the seed. What is done stands in the work folder: the same command goes on where a run was
stopped. The last lines are the result; exit 0 when everything held. With CAUDA_REALDATA set, images of the zoo are
spoilt too.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import re
import secrets
import signal
import sqlite3
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

_TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(_TESTS), str(_TESTS / "integration")]
import builders  # noqa: E402  a script: it has to say where the tests lie
import hostile_inputs  # noqa: E402
from certificates import authority  # noqa: E402
from hostile_inputs import EXPLICIT, Sent  # noqa: E402
from raw_peer import RawPeer, connected  # noqa: E402

_MOST_BYTES = 512 << 20
_HONEST_EVERY_S, _HONEST_WITHIN_S = 2.0, 10.0
_DRAW = 500  # conversations of one draw
_CONFIG = """
data = "{data}"
[node]
host = "127.0.0.1"
port = 0
[http]
port = 0
[tls]
certificate = "{pair.certificate}"
key = "{pair.key}"
port = 0
[limits]
min_free_bytes = 0
acse_timeout_s = 10
dimse_timeout_s = 20
network_timeout_s = 20
[completeness]
quiet_s = 1e6
after_release_s = 1e6
hard_age_s = 1e7
[log]
format = "json"
"""


def _words(status: int | None, where: str) -> str:
    if status is None:
        return "no answer"
    return f"{status or 200}" if where == "STOW" else f"{status:04X}"


@dataclass(kw_only=True)
class Run:
    """The work folder, the listener, and what is counted."""

    seed: int
    work: Path
    process: subprocess.Popen[bytes]
    ports: SimpleNamespace
    acknowledged: object
    counts: Counter[str] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    most_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, words: str) -> None:
        """A line of the log."""
        line = f"{time.strftime('%H:%M:%S')} {words}"
        print(line, flush=True)
        with (self.work / "log.txt").open("a") as log:
            log.write(line + "\n")

    def took(self, sent: Sent, status: int | None, where: str) -> None:
        """Remember an answer; what was acknowledged has to be somewhere at the end."""
        with self.lock:
            self.counts[f"{where} {_words(status, where)}"] += 1
            if status == 0:
                digest = hashlib.sha256(sent.data).hexdigest()
                print(json.dumps([sent.sop_uid, digest]), file=self.acknowledged, flush=True)  # type: ignore[call-overload]  # an open file

    def alive(self) -> None:
        """Ends the run where the listener has ended."""
        if (code := self.process.poll()) is not None:
            self.problems.append(f"the listener died with {code}")
            raise SystemExit(finish(self))


@contextmanager
def peer(run: Run, contexts: list[tuple[str, str]], *, tls: bool) -> Iterator[RawPeer]:
    """An association; closed at the end."""
    with connected(run.ports.tls if tls else run.ports.dimse) as plain:
        if not tls:
            assert plain.associate(contexts)
            yield plain
            return
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(plain.sock) as sock:
            secure = RawPeer(sock=sock)
            assert secure.associate(contexts)
            yield secure


def send(run: Run, sent: Sent, *, tls: bool) -> None:
    """One object over an association of its own."""
    status = None
    with suppress(OSError, AssertionError), peer(run, [(sent.sop_class, sent.syntax)], tls=tls) as one:
        if 1 in one.accepted:
            answer = one.store(1, sent.sop_class, sent.sop_uid, sent.data)
            status = None if answer is None else answer.status
            if answer is not None:
                one.release()
        else:
            status = 0x0122
    run.took(sent, status, "C-STORE")


def post(run: Run, sent: Sent) -> None:
    """One object over STOW-RS."""
    from cauda.listener import part10

    origin = part10.Origin(association_id="soak", calling_aet="SOAK", called_aet="CAUDA", address="127.0.0.1")
    meta = part10.file_meta(
        sop_class_uid=sent.sop_class, sop_uid=sent.sop_uid, transfer_syntax=sent.syntax, origin=origin
    )
    body = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + meta + sent.data + b"\r\n--b--\r\n"
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    status: int | None = None
    connection = http.client.HTTPConnection("127.0.0.1", run.ports.http, timeout=60)
    with suppress(OSError, http.client.HTTPException):
        connection.request("POST", "/dicom-web/studies", body, headers)
        got = connection.getresponse().status
        status = 0 if got == 200 else got
    connection.close()
    run.took(sent, status, "STOW")


def honest(run: Run, stop: threading.Event) -> None:
    """A sender that does everything right, again and again; how long each image takes."""
    while not stop.wait(_HONEST_EVERY_S):
        uid = "2.25." + str(secrets.randbits(120))
        image = builders.mr_image(hostile_inputs.made_uid(run.seed, 9), "1.2.3.4", uid)
        sent = Sent(kind="honest", sop_class=builders.MR_IMAGE, sop_uid=uid, syntax=EXPLICIT,
                    data=builders.dataset_bytes(builders.part10(image)))  # fmt: skip
        began = time.monotonic()
        try:
            with peer(run, [(builders.MR_IMAGE, EXPLICIT)], tls=len(run.waits_s) % 2 == 1) as one:
                answer = one.store(1, sent.sop_class, sent.sop_uid, sent.data)
        except (OSError, AssertionError) as error:
            answer = None
            run.tell(f"honest sender: {type(error).__name__}")
        waited = time.monotonic() - began
        if run.process.poll() is not None or stop.is_set():
            return
        run.waits_s.append(waited)
        if answer is None or answer.status != 0 or waited > _HONEST_WITHIN_S:
            run.problems.append(f"honest sender: {answer and hex(answer.status)} after {waited:.1f} s")
        if answer is not None:
            run.took(sent, answer.status, "honest")


def watch(run: Run, stop: threading.Event) -> None:
    """What the listener holds at the most: the kernel's own count of it."""
    while not stop.wait(0.5):
        with suppress(OSError, IndexError):
            status = Path(f"/proc/{run.process.pid}/status").read_text()
            run.most_bytes = max(run.most_bytes, int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) << 10)


def started(arguments: argparse.Namespace) -> Run:
    """The listener of a work folder."""
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    pair = authority(work / "tls", "soak")
    (work / "cauda.toml").write_text(_CONFIG.format(data=work / "data", pair=pair))
    log = (work / "listener.log").open("ab")
    began = log.tell()
    process = subprocess.Popen(
        [sys.executable, "-m", "cauda.deploy", "listen", "--config", str(work / "cauda.toml")], stdout=log, stderr=log
    )
    while True:
        for line in (work / "listener.log").read_bytes()[began:].splitlines():
            if b'"listening"' in line:
                ports = SimpleNamespace(
                    **{key[:-5]: value for key, value in json.loads(line).items() if key.endswith("_port")}
                )
                return Run(seed=arguments.seed, work=work, process=process, ports=ports,
                           acknowledged=(work / "acknowledged.jsonl").open("a"))  # fmt: skip
        if process.poll() is not None:
            raise SystemExit(f"the listener did not start: {work / 'listener.log'}")
        time.sleep(0.2)


def parts(run: Run, arguments: argparse.Namespace) -> None:
    """The three parts, each from where it was stopped."""
    base = hostile_inputs.bases(hostile_inputs.realdata())
    run.tell(f"{len(base)} sound compressed images to spoil")

    def file(number: int) -> None:
        send(run, hostile_inputs.spoilt(base, run.seed, number), tls=number % 4 == 3)

    def bomb(number: int) -> None:
        sent = hostile_inputs.bomb(run.seed, number)
        post(run, sent) if number % 10 == 9 else send(run, sent, tls=number % 4 == 3)

    for name, one, total, step in (
        ("files", file, arguments.files, 100),
        ("bombs", bomb, arguments.bombs, 50),
        ("conversations", lambda number: talk(run, number), arguments.conversations, _DRAW),
    ):
        done = state(run).get(name, 0)
        while done < total:
            for number in range(done, min(done + step, total), _DRAW if name == "conversations" else 1):
                one(number)
                run.alive()
            done = min(done + step, total)
            keep(run, name, done)
            if done % max(total // 50, step) < step:
                backlog = sum(1 for _ in (run.work / "data" / "arrivals").glob("*/*"))
                run.tell(
                    f"{name}: {done} of {total}, peak RSS {run.most_bytes >> 20} MiB, {backlog} arrivals and slots"
                )


def talk(run: Run, number: int) -> None:
    """A draw of conversations, half of them over TLS."""
    import test_listener_fuzz as fuzz
    from hypothesis import HealthCheck, Phase, given, seed, settings

    house = SimpleNamespace(ports=run.ports)
    said_so_far = 0

    def go(said: bytes) -> None:
        nonlocal said_so_far
        said_so_far += 1
        fuzz.converse(house, said, tls=said_so_far % 2 == 0)

    drawn = settings(max_examples=_DRAW, database=None, deadline=None, phases=[Phase.generate],
                     suppress_health_check=list(HealthCheck))(given(said=fuzz.CONVERSATIONS)(go))  # fmt: skip
    seed(run.seed * 100_000 + number)(drawn)()
    run.counts["conversations"] += said_so_far


def state(run: Run) -> dict[str, int]:
    """How far each part is."""
    with suppress(OSError, ValueError):
        return dict(json.loads((run.work / "state.json").read_text()))
    return {}


def keep(run: Run, name: str, done: int) -> None:
    """Remember how far a part is, and what was counted."""
    (run.work / "state.part").write_text(json.dumps(state(run) | {name: done}))
    (run.work / "state.part").rename(run.work / "state.json")
    with run.lock:
        counts, waits, run.counts, run.waits_s = run.counts, run.waits_s, Counter(), []
    with (run.work / "counts.jsonl").open("a") as file:
        print(json.dumps([counts, waits, run.most_bytes]), file=file)


def until_filed(run: Run) -> None:
    """Wait until nothing that was acknowledged is left in arrivals."""
    deadline = time.monotonic() + 3600
    folder = run.work / "data" / "arrivals"
    while any(_begun(path) for path in folder.glob("*/*")):
        run.alive()
        if time.monotonic() > deadline:
            run.problems.append("an hour later something is not filed")
            return
        time.sleep(1)


def _begun(path: Path) -> bool:
    with suppress(OSError):
        if path.suffix == ".slot":
            with path.open("rb") as file:
                return file.read(1) != b"\0"
        return path.suffix == ".dcm"
    return False


def unaccounted(run: Run) -> tuple[int, list[str]]:
    """How many objects were acknowledged, and which of them are neither entered nor kept aside and named."""
    book = sqlite3.connect(f"file:{run.work / 'data' / 'ledger.sqlite'}?mode=ro", uri=True)
    entered = {tuple(row) for row in book.execute("SELECT sop_uid, dataset_sha256 FROM instance")}
    kinds = "('object_unfiled', 'object_quarantined')"
    named = {json.loads(row[0])["path"] for row in book.execute(f"SELECT detail FROM event WHERE kind IN {kinds}")}
    aside = set()
    for path in (run.work / "data" / "unfiled").glob("*.dcm"):
        content = path.read_bytes()
        if f"unfiled/{path.name}" in named:
            aside.add(hashlib.sha256(content[144 + int.from_bytes(content[140:144], "little") :]).hexdigest())
    run.tell(f"{len(entered)} versions entered, {len(aside)} kept aside and named")
    lines = (run.work / "acknowledged.jsonl").read_text().splitlines()
    acknowledged = {tuple(json.loads(line)) for line in lines}
    return len(lines), [uid for uid, digest in acknowledged if (uid, digest) not in entered and digest not in aside]


def finish(run: Run) -> int:
    """The result, in words; 0 when everything held."""
    keep(run, "seed", run.seed)
    counts, waits, most = Counter[str](), [], 0
    for line in (run.work / "counts.jsonl").read_text().splitlines():
        some, waited, held = json.loads(line)
        counts.update(some)
        waits += waited
        most = max(most, held)
    run.tell(f"state {state(run)}")
    run.tell(f"answers {dict(sorted(counts.items()))}")
    waits.sort()
    if waits:
        run.tell(f"honest sender: {len(waits)} images, median {waits[len(waits) // 2]:.3f} s, 99 of 100 within "
                 f"{waits[int(len(waits) * 0.99)]:.3f} s, longest {waits[-1]:.3f} s")  # fmt: skip
    total, lost = unaccounted(run)
    run.tell(f"{total} acknowledged, {len(lost)} unaccounted for {lost[:5]}")
    run.tell(f"peak RSS of the listener {most >> 20} MiB")
    if lost:
        run.problems.append(f"{len(lost)} acknowledged objects are not accounted for")
    if most > _MOST_BYTES:
        run.problems.append("the listener held more than 512 MiB")
    run.tell("held" if not run.problems else f"DID NOT HOLD: {run.problems[:10]}")
    return 1 if run.problems else 0


def main() -> int:
    """Run what is left of the soak of a work folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True, help="kept between runs; 3 GB at the end")
    parser.add_argument("--files", type=int, default=50_000)
    parser.add_argument("--bombs", type=int, default=10_000)
    parser.add_argument("--conversations", type=int, default=20_000)
    arguments = parser.parse_args()
    run = started(arguments)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    run.tell(f"commit {commit.strip()}: {' '.join(sys.argv)}")
    stop = threading.Event()
    beside = [threading.Thread(target=one, args=(run, stop)) for one in (honest, watch)]
    for thread in beside:
        thread.start()
    try:
        parts(run, arguments)
        until_filed(run)
    finally:
        stop.set()
        for thread in beside:
            thread.join()
        died = run.process.poll()
        run.process.send_signal(signal.SIGTERM)
        code = run.process.wait(120)
    run.tell(f"the listener ended with {code} at SIGTERM")
    if died is not None or code != 0:
        run.problems.append(f"the listener's exit status is {code}")
    return finish(run)


if __name__ == "__main__":
    sys.exit(main())
