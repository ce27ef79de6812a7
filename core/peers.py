"""Who may open an association, and who was turned away.

The configuration's list, and beside it the rows that operators write while the node runs: `allow`, `forbid`, and
`learn`, under which whoever calls from a network is let in, and entered, until a time.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from cauda.core import schema
from cauda.core.domain import Reason
from cauda.core.errors import Misconfigured
from cauda.core.ledger import Ledger, record
from cauda.core.schema import PeerRule
from cauda.core.settings import Limits, Peer

MOST_LEARNED = 200  # somebody who tries title after title must not fill the list
MOST_REFUSED = 1000
MOST_REFUSED_OF_ADDRESS = 100  # nor push all others off this one
ANY = "*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a line says of how much its callers may take; None: nothing."""

    max_associations: int | None = None
    max_object_bytes: int | None = None
    max_pdu_bytes: int | None = None

    def __str__(self) -> str:
        """In words."""
        words = {
            "at once": self.max_associations,
            "bytes an object": self.max_object_bytes,
            "bytes a PDU": self.max_pdu_bytes,
        }
        return ", ".join(f"{most:,} {what}" for what, most in words.items() if most is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the list."""

    rule: PeerRule
    aet: str
    network: Network
    learned: bool = False
    left_s: float | None = None  # of learn, when it was read
    bounds: Bounds = Bounds()

    def about(self, aet: str, address: Address | None) -> bool:
        """Whether it speaks of this caller; without an address the title alone decides."""
        return self.aet in {ANY, aet} and (address is None or address in self.network)


class Verdict(StrEnum):
    """What becomes of a caller."""

    IN = "in"
    LEARN = "learn"  # in, and to be entered
    OUT = "out"


class Standing(StrEnum):
    """What the list says of an address alone, before its caller has stated a title."""

    LISTED = "listed"  # some title may call from a network that holds it
    OPEN = "open"  # who may call depends on the title or a certificate, from any address; or callers are learned
    UNLISTED = "unlisted"  # nobody may call from there
    FORBIDDEN = "forbidden"  # an operator closed the network to every title


def standing(entries: Iterable[Entry], address: str, *, anywhere: bool = False) -> Standing:
    """How a connection from an address is received; ``anywhere``: a certificate may yet speak for it."""
    place = address_of(address)
    if place is None:
        return Standing.FORBIDDEN
    about = [one for one in entries if place in one.network]
    if any(one.rule is PeerRule.FORBID and one.aet == ANY for one in about):
        return Standing.FORBIDDEN
    if any(one.rule is PeerRule.ALLOW and one.network.prefixlen > 0 for one in about):
        return Standing.LISTED
    may_call = anywhere or any(one.rule is not PeerRule.FORBID for one in about)
    return Standing.OPEN if may_call else Standing.UNLISTED


def configured(peers: Iterable[Peer]) -> tuple[Entry, ...]:
    """The configuration's list."""
    return tuple(
        Entry(
            rule=PeerRule.ALLOW,
            aet=one.aet,
            network=ipaddress.ip_network(one.network, strict=False),
            bounds=bounds_of(one),
        )
        for one in peers
    )


def bounds_of(peer: Peer) -> Bounds:
    """Those of a line of the configuration."""
    return Bounds(
        max_associations=peer.max_associations,
        max_object_bytes=peer.max_object_bytes,
        max_pdu_bytes=peer.max_pdu_bytes,
    )


def address_of(text: str) -> Address | None:
    """An address as the socket says it; one that is IPv4 in IPv6's clothes is IPv4. None when it is none."""
    try:
        ip = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def verdict(entries: Iterable[Entry], aet: str, address: str, *, anywhere: bool = False) -> Verdict:
    """What the list says of a caller.

    ``anywhere``: it is known by a certificate, and its address is a load balancer's: only its title is looked at,
    except that a network which is forbidden to all stays so.
    """
    place = address_of(address)
    if place is None:
        return Verdict.OUT
    where = None if anywhere else place
    rules = set()
    for entry in entries:
        closely = entry.rule is PeerRule.FORBID and entry.aet == ANY
        if entry.about(aet, place if closely else where):
            rules.add(entry.rule)
    if PeerRule.FORBID in rules:
        return Verdict.OUT
    if PeerRule.ALLOW in rules:
        return Verdict.IN
    return Verdict.LEARN if PeerRule.LEARN in rules else Verdict.OUT


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """How much one caller may take."""

    max_associations: int
    max_object_bytes: int
    max_pdu_bytes: int


def caps(entries: Iterable[Entry], aet: str, address: str, limits: Limits, *, anywhere: bool = False) -> Caps:
    """What holds for a caller: of the lines about it the closest that says so, a title before a network, else `limits`.

    Of two that are as close it is the first. ``anywhere`` as in `verdict`.
    """
    place = None if anywhere else address_of(address)
    about = [one for one in entries if one.about(aet, place)]
    about.sort(key=lambda one: (one.aet != ANY, one.network.prefixlen), reverse=True)
    said = [one.bounds for one in about]
    associations = (one.max_associations for one in said if one.max_associations is not None)
    object_bytes = (one.max_object_bytes for one in said if one.max_object_bytes is not None)
    pdu_bytes = (one.max_pdu_bytes for one in said if one.max_pdu_bytes is not None)
    return Caps(
        max_associations=next(associations, limits.max_associations_per_peer),
        max_object_bytes=min(next(object_bytes, limits.max_object_bytes), limits.max_object_bytes),
        max_pdu_bytes=min(next(pdu_bytes, limits.max_pdu_bytes), limits.max_pdu_bytes),
    )


def parse(text: str) -> tuple[str, str]:
    """AE title and network of ``[AET@]NETWORK``; Misconfigured says what is allowed."""
    aet, _, network = text.rpartition("@")
    try:
        peer = Peer(aet=aet or ANY, network=str(ipaddress.ip_network(network, strict=False)))
    except ValueError:
        raise Misconfigured(f"{text!r}: allowed is [AET@]NETWORK, as CT1@10.1.0.7 or 10.1.0.0/16") from None
    return peer.aet, peer.network


def entries(ledger: Ledger, conn: Connection) -> tuple[Entry, ...]:
    """The ledger's rows that hold now."""
    table = schema.peer
    rows = conn.execute(
        select(table, (table.c.until - ledger.now()).label("left_s"))
        .where(or_(table.c.until.is_(None), table.c.until > ledger.now()))
        .order_by(table.c.since, table.c.aet, table.c.network)
    )
    return tuple(
        Entry(
            rule=PeerRule(row.rule),
            aet=row.aet,
            network=ipaddress.ip_network(row.network),
            learned=row.learned,
            left_s=row.left_s,
            bounds=Bounds(
                max_associations=row.max_associations,
                max_object_bytes=row.max_object_bytes,
                max_pdu_bytes=row.max_pdu_bytes,
            ),
        )
        for row in rows
    )


def enter(
    ledger: Ledger,
    conn: Connection,
    rule: PeerRule,
    aet: str,
    network: str,
    *,
    for_s: float | None = None,
    bounds: Bounds | None = None,
) -> None:
    """An operator's word about a caller; replaces an earlier one about the same title and network, bounds and all."""
    given = asdict(bounds or Bounds())
    remove(ledger, conn, aet, network, said=False)
    conn.execute(
        insert(schema.peer).values(
            aet=aet,
            network=network,
            rule=rule,
            learned=False,
            since=ledger.now(),
            until=None if for_s is None else ledger.now() + for_s,
            **given,
        )
    )
    said = {name: most for name, most in given.items() if most is not None}
    record(ledger, conn, f"peer_{rule}", aet=aet, network=network, **said)
    if rule is PeerRule.ALLOW:
        _forget_refused(conn, Entry(rule=rule, aet=aet, network=ipaddress.ip_network(network)))


def remove(ledger: Ledger, conn: Connection, aet: str, network: str, *, said: bool = True) -> bool:
    """Take back what was said of this title and network; False when nothing was."""
    table = schema.peer
    gone = conn.execute(delete(table).where(table.c.aet == aet, table.c.network == network)).rowcount
    if gone and said:
        record(ledger, conn, "peer_removed", aet=aet, network=network)
    return bool(gone)


def learned(ledger: Ledger, conn: Connection, aet: str, address: str) -> None:
    """Enter a caller that was let in to be known; nothing when it is, or when there are too many."""
    table = schema.peer
    place = address_of(address)
    count = conn.execute(select(func.count()).where(table.c.learned)).scalar_one()
    if place is None or count >= MOST_LEARNED:
        return
    with suppress(IntegrityError), conn.begin_nested():
        conn.execute(
            insert(table).values(
                aet=aet[:16],
                network=str(ipaddress.ip_network(place)),
                rule=PeerRule.ALLOW,
                learned=True,
                since=ledger.now(),
            )
        )
        record(ledger, conn, "peer_learned", aet=aet[:16], network=str(ipaddress.ip_network(place)))


def refused(ledger: Ledger, conn: Connection, aet: str, address: str, why: Reason, *, count: int = 1) -> None:
    """Count a caller that was refused for a reason; only the latest are kept, and no title can play with a terminal.

    ``aet`` is empty where none was read. Each reason has a count of its own: the last one is not always what keeps a
    sender out.
    """
    table = schema.refused_peer
    aet = "".join(c if " " <= c <= "~" else "?" for c in aet[:16])
    key = (table.c.aet == aet, table.c.address == address[:64], table.c.why == why)
    changed = conn.execute(update(table).where(*key).values(count=table.c.count + count, last_at=ledger.now())).rowcount
    if changed:
        return
    with suppress(IntegrityError), conn.begin_nested():
        conn.execute(
            insert(table).values(aet=aet, address=address[:64], why=why, count=count, last_at=ledger.now())
        )  # fmt: skip
    _drop_oldest(conn, MOST_REFUSED_OF_ADDRESS, table.c.address == address[:64])
    _drop_oldest(conn, MOST_REFUSED)


def _drop_oldest(conn: Connection, most: int, *of: ColumnElement[bool]) -> None:
    table = schema.refused_peer
    if conn.execute(select(func.count()).select_from(table).where(*of)).scalar_one() > most:
        oldest = conn.execute(
            select(table.c.aet, table.c.address, table.c.why).where(*of).order_by(table.c.last_at).limit(1)
        ).one()
        conn.execute(
            delete(table).where(table.c.aet == oldest.aet, table.c.address == oldest.address, table.c.why == oldest.why)
        )


def _forget_refused(conn: Connection, entry: Entry) -> None:
    """Delete the refusals that a new rule covers; one without a title is covered by its address."""
    table = schema.refused_peer
    of_the_list = table.c.why.in_((Reason.CALLING_AE_NOT_ALLOWED, Reason.ADDRESS_NOT_ALLOWED))
    rows = conn.execute(select(table.c.aet, table.c.address).where(of_the_list).distinct()).all()
    for row in rows:
        place = address_of(row.address)
        if place is not None and entry.about(row.aet or entry.aet, place):
            conn.execute(delete(table).where(table.c.aet == row.aet, table.c.address == row.address, of_the_list))
