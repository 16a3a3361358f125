"""The review page's words: the report's codes and figures as sentences for a physician."""

from __future__ import annotations

from shared.bundle import RejectionReason, Verdict
from shared.errors import public_text
from shared.release import State
from site_node.airlock.records import Event
from site_node.screening.report import Attack, AuditReport, CheckName, Interval, Share

CHECK_TITLES: dict[CheckName, str] = {
    "whole": "Whole images",
    "crop": "Enlarged parts",
    "features": "Details in the same arrangement",
    "embedding": "Overall likeness",
    "lesion": "Lesions",
    "blocks": "Pieces",
    "mask": "Outlines",
}
VERDICT_WORDS: dict[Verdict, str] = {
    "passed": "The screening found nothing that speaks against this release.",
    "inconclusive": "The screening could not decide.",
    "blocked": "The screening advises against this release.",
}
STATE_WORDS: dict[State, str] = {
    State.DRAFTED: "being made",
    State.SCREENED: "waits for a steward to open it",
    State.IN_REVIEW: "in review",
    State.APPROVED: "approved; it will be sealed and sent",
    State.SEALED: "sealed; it will be sent",
    State.SUBMITTED: "being sent",
    State.ACCEPTED: "stored at the coordinator",
    State.REJECTED: "rejected; it stays here",
    State.WITHDRAWN: "withdrawn; it stays here",
    State.REVOKING: "taken back; the coordinator has not confirmed it yet",
    State.REVOKED: "revoked after it was accepted",
}
REJECTION_WORDS: dict[RejectionReason, str] = {
    "copy": "too near to a whole real image",
    "part-copy": "with a part too near to a real one",
    "mask-copy": "with the outline of a real lesion",
    "text": "with writing in the picture",
    "implausible": "not plausible for this study",
    "mask-empty": "with an empty mask",
    "mask-full": "with a mask over everything",
    "duplicate": "drawn twice",
}
ATTACK_WORDS = {
    "distance": "By the samples alone, as anybody could who receives them",
    "critic": "With the site's own network, which never leaves",
}
CONTROL_WORDS = {
    "exact": "unchanged",
    "jpeg-30": "strongly compressed (JPEG 30)",
    "mirrored": "mirrored",
    "turned-90": "turned by 90°",
    "turned-15": "turned by 15°",
    "cropped-70": "a part (70 %), enlarged",
    "recoloured": "in other colours",
    "warped": "bent",
    "blurred": "blurred",
    "half-blended": "half blended with another image",
    "lesion-pasted": "its lesion on another image",
    "blocks-shuffled": "cut into blocks, and these shuffled",
    "date-burned-in": "a date written into another image",
}
DONE_WORDS = {
    "approved": "The release is approved. It will be sealed and sent.",
    "voted": "Your vote is on record. The release leaves when enough other stewards have voted for it too.",
    "rejected": "The release is rejected. Nothing of it will leave.",
    "asked": "Your question stands with the release. Votes given so far are void; it can be opened again at any time.",
    "withdrawn": "The release is withdrawn. Nothing of it will leave.",
    "revoked": "The release is taken back. The coordinator will be told to use it no more.",
}
# What the journal's actions mean to a reader; an action that is not here is shown by its own name.
ACTION_WORDS = {
    "draft": "made it",
    "screen": "screened it",
    "review": "opened it for review",
    "view": "looked at it",
    "vote": "voted for it",
    "approve": "approved it with enough votes",
    "reject": "rejected it",
    "ask": "asked for more",
    "withdraw": "withdrew it",
    "seal": "sealed it",
    "submit": "began to send it",
    "accept": "has the coordinator's receipt",
    "refuse": "was told that the coordinator refused it",
    "revoke": "took it back",
    "confirm": "has the coordinator's word that it is revoked",
}


def share_text(share: Share) -> str:
    """'19 of 20, 95 % (76 to 99 %)': the second figures are the 95 % interval."""
    if not share.n:
        return "none to judge by"
    return (
        f"{share.k} of {share.n}, {_percent(share.k / share.n)} % ({_percent(share.low)} to {_percent(share.high)} %)"
    )


def range_text(share: Share) -> str:
    """'76 to 99 %': the 95 % interval alone."""
    return f"{_percent(share.low)} to {_percent(share.high)} %"


def interval_text(interval: Interval, *, percent: bool = False) -> str:
    """'0.52 (0.44 to 0.60)', or the same in per cent."""
    if percent:
        return f"{_percent(interval.value)} % ({_percent(interval.low)} to {_percent(interval.high)} %)"
    return f"{interval.value:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def attack_text(attack: Attack) -> str:
    """What an attack's figures mean."""
    if attack.auc.low > 0.5:
        found = "It tells training patients from others better than a coin does."
    else:
        found = "It does not tell training patients from others better than a coin would, as far as the numbers show."
    if attack.limit is None:
        return found + " Only reported: no limit is set."
    within = "within" if attack.auc.high <= attack.limit else "above"
    return f"{found} The upper end, {attack.auc.high:.2f}, is {within} the policy's limit of {attack.limit:.2f}."


def copying_text(report: AuditReport) -> str:
    """What the two tests of copying mean together: Meehan et al.'s score alone is also low for soft samples."""
    nearer = report.nearer_to_training
    counted = f"{nearer.k} of {nearer.n} samples are nearer to a training image than to an image of other patients"
    if nearer.low > 0.5:
        return f"{counted}: more than chance, a sign of copying"
    if report.copying_z < -3:
        return f"{counted}, about half, as chance has it; but they lie nearer to both than those lie to one another"
    return f"{counted}, about half, as chance has it"


def rejected_text(report: AuditReport) -> list[str]:
    """Why samples were dropped, most frequent first: '12 too near to a whole real image'."""
    counts = sorted(report.rejected.items(), key=lambda item: -item[1])
    return [f"{count:,} {REJECTION_WORDS[reason]}" for reason, count in counts if count]


def set_aside_text(report: AuditReport) -> list[str]:
    """Why training cases have no generator, without naming them: '2 cases: a case is smaller than ...'."""
    codes = sorted(report.set_aside.values())
    return [f"{codes.count(code):,}: {public_text(code)}" for code in dict.fromkeys(codes)]


def control_text(kind: str) -> str:
    """A kind of planted copy as words; one that this version does not know by its own name."""
    return CONTROL_WORDS.get(kind, kind.replace("-", " "))


def history_text(entry: Event) -> str:
    """What an entry of the journal says was done; its detail where that is a person's words or a code."""
    words = ACTION_WORDS.get(entry.action, entry.action)
    spoken = entry.action in ("reject", "ask", "withdraw", "revoke", "refuse") and entry.detail
    return f"{words}: {entry.detail}" if spoken else words


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if 0.01 <= share <= 0.99 or share in (0, 1) else f"{100 * share:.1f}"
