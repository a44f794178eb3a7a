"""The claims of one figure: judged, shown in its notebook, kept in the profile's claims.json."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

from ..networks.loader import shipped_fingerprint
from ..profiles import load_profile
from ..support.files import write_json, write_text
from ..support.places import cache_folder, figure_folder
from .claim import Claim, judge
from .pages import page, read_ledger
from .statements import STATEMENTS, claims_of


class Ledger:
    """The claims that ``figure`` ("fig09") judges in ``profile`` ("laptop").

    Judge each, then let a cell end with the ledger: that shows and records it. Its repr is one
    line for each claim.

        ledger = Ledger("fig05", profile)
        ledger.judge("C1", sigmas=sigmas, identity=identity, t_m=t_m)
        ledger

    Raises ``ValueError`` for a figure without claims in statements.toml.
    """

    def __init__(self, figure: str, profile: str) -> None:
        self.figure = figure
        self.profile = load_profile(profile).name
        self.listed = claims_of(figure)
        self.claims: dict[str, Claim] = {}

    def judge(self, id: str, /, **evidence: object) -> Claim:
        """Judge the claim ``id``; ``evidence`` are the arguments of its rule.

        Raises ``ValueError`` for a claim that statements.toml does not list for this figure,
        ``TypeError`` for evidence that the rule does not take.
        """
        self._check(id)
        self.claims[id] = judge(id, self.figure, self.profile, **evidence)
        return self.claims[id]

    def record(self) -> Path:
        """Write the claims into claims.json, in place of this figure's older ones, and CLAIMS.md.

        Returns the path of claims.json. Raises ``ValueError`` while a listed claim is unjudged.
        """
        if missing := [id for id in self.listed if id not in self.claims]:
            raise ValueError(f"{self.figure} has not judged {', '.join(missing)}: call judge first")
        return record(*self.claims.values())

    def print_verdicts(self, *ids: str) -> None:
        """Record, then print "C1 holds" and the like for ``ids`` (none: all): nbval compares them.

        Name claims where others depend on the machine, as wall times do.
        """
        for id in ids:
            self._check(id)
        self.record()
        for claim in self.claims.values():
            if not ids or claim.id in ids:
                print(claim)

    def _check(self, id: str) -> None:
        if id not in self.listed:
            raise ValueError(
                f"claim = {id!r} is not listed for {self.figure}; "
                f"allowed: {', '.join(self.listed)} (claims/statements.toml)"
            )

    def __repr__(self) -> str:
        return "\n".join(str(claim) for claim in self.claims.values()) or "nothing judged yet"

    def _repr_markdown_(self) -> str:
        """Record, then say of each claim: statement, verdict in plain words, measured, rule."""
        self.record()
        return "\n\n".join(shown(claim) for claim in self.claims.values())


def shown(claim: Claim) -> str:
    """A claim as Markdown."""
    one = claim.statement
    lines = [
        f"**{claim.id}** ({one.source}): {one.text}",
        f"**{claim.verdict}**. {claim.meaning}",
        f"Measured: {claim.measured}.",
    ]
    return "  \n".join(lines) + f"\n\n{one.folded_rule()}"


def record(*claims: Claim) -> Path:
    """Put the claims of a figure into the profile's claims.json, in place of its older ones.

    Writes CLAIMS.md beside it; returns the path of claims.json.
    """
    if not claims:
        raise ValueError("claims is empty; at least one is needed")
    profile = load_profile(claims[0].profile)
    if {claim.profile for claim in claims} != {profile.name}:
        names = sorted({claim.profile for claim in claims})
        raise ValueError(f"claims of several profiles: {names}")
    made_with = {"data": profile.dataset, "network": shipped_fingerprint(profile.checkpoint)}
    figures = {claim.figure for claim in claims}
    path = figure_folder(profile.name) / "claims.json"
    lock = cache_folder() / "claims.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):  # two figures may end at the same time
        known = [e for e in read_ledger(profile.name) if e["id"] in STATEMENTS]  # not withdrawn
        entries = [entry for entry in known if entry["figure"] not in figures]
        entries += [claim.entry() | made_with for claim in claims]
        write_json(path, sorted(entries, key=lambda entry: (entry["id"], entry["figure"])))
        write_text(path.with_name("CLAIMS.md"), page(profile.name))
    return path
