"""The statements of the stores on SQL, written as SQLAlchemy expressions and compiled once for a driver.

They are run on the driver's own connection: SQLAlchemy's execution costs 40 µs a statement, three times what SQLite needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    Dialect,
    Float,
    Integer,
    LargeBinary,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)

from opensslcmp.server.schema import (
    ANSWERS,
    APPLICATIONS,
    ARCHIVED_KEYS,
    CERTIFICATES,
    IS_CLOSED,
    IS_OPEN,
    NUMBERS,
    PUBLICATIONS,
    REVOCATIONS,
    SECRETS,
    TRANSACTIONS,
)
from opensslcmp.server.store import CertificateState

__all__ = ["Prepared", "Statements"]


class Prepared:
    """A statement, compiled once.

    Attributes:
        text: SQL, as the driver takes it.
    """

    __slots__ = ("_constants", "_take", "text")

    def __init__(self, statement: Any, dialect: Dialect) -> None:
        compiled = statement.compile(dialect=dialect)
        self.text: str = str(compiled)
        self._take = _taker(tuple(compiled.positiontup or ()))
        self._constants = {name: value for name, value in compiled.params.items() if value is not None}

    def parameters(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """``values`` in the order in which the driver takes them."""
        if self._constants:
            values = {**self._constants, **values}
        return self._take(values)


def _taker(order: tuple[str, ...]) -> Callable[[Mapping[str, Any]], tuple[Any, ...]]:
    """What takes these out of a mapping; in C, where they are several."""
    if len(order) < 2:
        return lambda values: tuple([values[name] for name in order])
    return itemgetter(*order)


class Statements:
    """All of them, for one kind of database."""

    def __init__(self, dialect: Dialect) -> None:
        def prepared(statement: Any) -> Prepared:
            return Prepared(statement, dialect)

        t, a, c, r = TRANSACTIONS, ANSWERS, CERTIFICATES, REVOCATIONS
        s, n, o, p = SECRETS, NUMBERS, APPLICATIONS, PUBLICATIONS
        k = ARCHIVED_KEYS
        self.look = prepared(select(t).where(t.c.transaction_id == bindparam("id")))
        self.get_answer = prepared(
            select(a.c.response).where(
                a.c.transaction_id == bindparam("id"), a.c.request_hash == bindparam("request_hash")
            )
        )
        self.open_all = prepared(select(func.count()).select_from(t).where(IS_OPEN))
        self.open_own = prepared(
            select(func.count()).select_from(t).where(IS_OPEN, t.c.identity == bindparam("identity"))
        )
        self.begin_transaction = prepared(insert(t))
        changed = ("state", "nonce", "nonces", "certificates", "deadline", "expires", "request", "pending", "version")
        self.change_transaction = prepared(
            update(t)
            .where(t.c.transaction_id == bindparam("id"), t.c.version == bindparam("expected"))
            .values({name: bindparam(name) for name in changed})
            .values(answers=cast(t.c.answers.op("||")(bindparam("answer", type_=LargeBinary)), LargeBinary))
        )
        self.add_answer = prepared(insert(a))
        self.add_certificate = prepared(insert(c))
        self.add_archived = prepared(insert(k))
        self.get_archived = prepared(select(k).where(k.c.identity == bindparam("which")).order_by(k.c.key))
        self.change_state = prepared(
            update(c)
            .where(c.c.key == bindparam("which"), c.c.state == bindparam("expected"))
            .values(state=bindparam("new"))
        )
        self.add_revocation = prepared(insert(r))
        self.use_secret = prepared(
            update(s).where(s.c.reference == bindparam("which"), s.c.used_at.is_(None)).values(used_at=bindparam("now"))
        )
        self.find_overdue = prepared(
            select(t).where(IS_OPEN, t.c.deadline <= bindparam("now")).order_by(t.c.deadline).limit(bindparam("most"))
        )
        self.find_closed = prepared(
            select(t.c.transaction_id)
            .where(IS_CLOSED, t.c.expires <= bindparam("now"))
            .order_by(t.c.expires)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )
        self.any_closed = prepared(
            select(t.c.transaction_id).where(IS_CLOSED, t.c.expires <= bindparam("now")).limit(1)
        )
        self.forget_answers = prepared(delete(a).where(a.c.transaction_id == bindparam("id")))
        self.forget_transaction = prepared(delete(t).where(t.c.transaction_id == bindparam("id")))
        self.get_certificate = prepared(select(c).where(c.c.key == bindparam("which")))
        self.get_certified = prepared(
            select(c)
            .where(
                c.c.key_and_subject == bindparam("which"),
                c.c.state <= bindparam("in_force"),
                c.c.not_after > bindparam("now"),
            )
            .limit(1)
        )
        self.get_successors = prepared(
            select(c).where(c.c.updates == bindparam("which")).order_by(c.c.issued_at, c.c.key)
        )
        self.get_certificates = prepared(
            select(c)
            .where(
                tuple_(c.c.issued_at, c.c.key)
                > tuple_(bindparam("at", type_=Float), bindparam("after", type_=LargeBinary))
            )
            .order_by(c.c.issued_at, c.c.key)
            .limit(bindparam("most"))
        )
        self.search_certificates = prepared(
            select(c)
            .where(
                tuple_(c.c.issued_at, c.c.key)
                > tuple_(bindparam("at", type_=Float), bindparam("after", type_=LargeBinary)),
                c.c.state.in_([bindparam(f"state_{state.name}", type_=Integer) for state in CertificateState]),
                c.c.serial_number >= bindparam("serial"),
                c.c.serial_number < bindparam("serial_end"),
                c.c.identity >= bindparam("identity"),
                c.c.identity <= bindparam("identity_end"),
                c.c.issued_at >= bindparam("issued_after"),
                c.c.issued_at < bindparam("issued_before"),
                c.c.not_after >= bindparam("expires_after"),
                c.c.not_after < bindparam("expires_before"),
            )
            .order_by(c.c.issued_at, c.c.key)
            .limit(bindparam("most"))
        )
        self.get_revocation = prepared(select(r).where(r.c.key == bindparam("which")))
        self.remove_revocation = prepared(delete(r).where(r.c.key == bindparam("which")))
        self.count_certificates = prepared(select(func.count()).select_from(c))
        self.get_revocations = prepared(select(r).where(r.c.not_after > bindparam("now")))
        self.get_number = prepared(select(n.c.value).where(n.c.name == bindparam("which")))
        self.count_up = prepared(
            update(n).where(n.c.name == bindparam("which")).values(value=n.c.value + bindparam("by"))
        )
        self.get_application = prepared(select(o).where(o.c.id == bindparam("which")))
        self.get_applications = prepared(select(o).order_by(o.c.filed_at, o.c.id))
        self.add_application = prepared(insert(o))
        self.decide = prepared(
            update(o)
            .where(o.c.id == bindparam("which"), o.c.approved.is_(None))
            .values({name: bindparam(name) for name in ("approved", "reason", "decided_at")})
        )
        self.any_old_application = prepared(select(func.min(o.c.expires)))
        self.forget_applications = prepared(delete(o).where(o.c.expires <= bindparam("now")))
        self.get_publication = prepared(select(p).where(p.c.name == bindparam("which")))
        self.add_publication = prepared(insert(p))
        self.change_publication = prepared(
            update(p)
            .where(p.c.name == bindparam("which"), p.c.number == bindparam("expected"))
            .values({name: bindparam(name) for name in ("number", "revision", "made_at", "good_until", "content")})
        )
        # The same steps for a reference that there is not, which finds the row of the next one below, or of the first.
        below = select(s.c.reference).where(s.c.reference <= bindparam("which")).order_by(s.c.reference.desc()).limit(1)
        nothing = literal(b"", LargeBinary)
        least = select(s.c.reference).where(s.c.reference >= nothing).order_by(s.c.reference).limit(1)
        later = func.greatest if dialect.name == "postgresql" else func.max
        self.get_secret = prepared(
            select(s).where(
                s.c.reference == later(func.coalesce(below.scalar_subquery(), nothing), least.scalar_subquery())
            )
        )
        self.add_secret = prepared(insert(s))
        self.remove_secret = prepared(delete(s).where(s.c.reference == bindparam("which")))
        replaced = (
            "sealed",
            "single_use",
            "used_at",
            "created_at",
            "subject",
            "profiles",
            "previous",
            "previous_until",
        )
        self.replace_secret = prepared(
            update(s)
            .where(s.c.reference == bindparam("which"), s.c.sealed == bindparam("expected"))
            .values({name: bindparam(name) for name in replaced})
        )
        self.overlap_until = prepared(select(func.max(s.c.previous_until)))
        self.get_secrets = prepared(select(s).order_by(s.c.reference))
