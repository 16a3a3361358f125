"""The errors that people meet: each has a code, what happened, why, and what to do next.

SynthwardError
 ├─ code    a name from CODES, stable across versions; scripts may match on it
 ├─ what    what happened, with the names that the reader on this machine may see
 ├─ why     why that matters, or why it was refused
 └─ do      what to do next

Only the code and its public text from CODES ever cross the wire (`public()`): `what` may name a hospital's file or
patient and never leaves the machine on which it was raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of both command lines."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    INPUT = 3
    TRUST = 4
    POLICY = 5
    UNAVAILABLE = 6
    STORAGE = 7
    STATE = 8


@dataclass(frozen=True)
class Code:
    """What a code means to somebody who sees nothing else. `public` names no file, patient or pixel."""

    exit: ExitCode
    public: str


CODES: dict[str, Code] = {
    # Data that a site cannot use.
    "intake.folder-unreadable": Code(ExitCode.INPUT, "the data folder cannot be read"),
    "intake.layout": Code(ExitCode.INPUT, "the data folder lacks images/ or masks/"),
    "intake.image-without-mask": Code(ExitCode.INPUT, "an image has no mask"),
    "intake.mask-without-image": Code(ExitCode.INPUT, "a mask has no image"),
    "intake.ambiguous-name": Code(ExitCode.INPUT, "two files share one name apart from their ending"),
    "intake.size-differs": Code(ExitCode.INPUT, "an image and its mask differ in size"),
    "intake.mask-not-binary": Code(ExitCode.INPUT, "a mask has more than two values"),
    "intake.mask-empty": Code(ExitCode.INPUT, "a mask marks nothing"),
    "intake.mask-full": Code(ExitCode.INPUT, "a mask marks everything"),
    "intake.truncated": Code(ExitCode.INPUT, "an image file ends too early"),
    "intake.too-large": Code(ExitCode.INPUT, "an image has more pixels than this site accepts"),
    "intake.too-small": Code(ExitCode.INPUT, "an image is smaller than this site accepts"),
    "intake.not-an-image": Code(ExitCode.INPUT, "a file is not an image of a supported kind"),
    "intake.patients-unknown-image": Code(ExitCode.INPUT, "patients.csv names an image that is not there"),
    "intake.patients-missing-image": Code(ExitCode.INPUT, "patients.csv lacks an image"),
    "intake.patients-duplicate": Code(ExitCode.INPUT, "patients.csv names one image twice"),
    "intake.patients-format": Code(ExitCode.INPUT, "patients.csv has not the expected columns"),
    "intake.constant-image": Code(ExitCode.INPUT, "an image has one value everywhere"),
    "intake.burned-in-text": Code(ExitCode.INPUT, "an image has text burned into its pixels"),
    "intake.text-reason": Code(ExitCode.USAGE, "keeping burned-in text needs a reason, and nothing else takes one"),
    "intake.nothing": Code(ExitCode.INPUT, "the data folder holds no usable pair"),
    "cohort.too-few-patients": Code(ExitCode.POLICY, "the site has fewer patients than the release floor"),
    "cohort.no-holdout": Code(ExitCode.POLICY, "the site has too few patients for a hold-out"),
    "cohort.study-larger-than-images": Code(ExitCode.POLICY, "the study's image size is larger than the site's images"),
    "cohort.not-imported": Code(ExitCode.STATE, "the site has imported no data yet"),
    "text.models-missing": Code(ExitCode.UNAVAILABLE, "the reader of burned-in text is not installed whole"),
    # Images on their way out or in.
    "pairs.not-canonical": Code(ExitCode.INPUT, "a PNG is not in the canonical form, so it could hide something"),
    "pairs.not-png": Code(ExitCode.INPUT, "an object is not a PNG"),
    "pairs.too-large": Code(ExitCode.INPUT, "an object is larger than its kind may be"),
    "pairs.shape": Code(ExitCode.INPUT, "an image has not the size or channels that its manifest states"),
    "pairs.mask-constant": Code(ExitCode.INPUT, "a mask marks nothing, or everything"),
    "pairs.mask-not-binary": Code(ExitCode.INPUT, "a mask has values other than 0 and 255"),
    # Documents, keys and trust.
    "document.malformed": Code(ExitCode.INPUT, "a document does not follow its schema"),
    "document.not-canonical": Code(ExitCode.TRUST, "a signed document is not canonical JSON"),
    "trust.signature": Code(ExitCode.TRUST, "a signature does not fit the document and the pinned key"),
    "trust.certificate": Code(ExitCode.TRUST, "a certificate was refused"),
    "trust.certificate-expired": Code(ExitCode.TRUST, "the site's certificate has ended"),
    "trust.revoked": Code(ExitCode.TRUST, "the coordinator has revoked this site"),
    "trust.role": Code(ExitCode.TRUST, "this certificate's role may not do that"),
    "trust.invitation-unknown": Code(ExitCode.TRUST, "the invitation is not one of ours"),
    "trust.invitation-used": Code(ExitCode.TRUST, "the invitation was used before"),
    "trust.invitation-expired": Code(ExitCode.TRUST, "the invitation has expired"),
    "trust.invitation-malformed": Code(ExitCode.TRUST, "the invitation cannot be read"),
    "trust.identity": Code(ExitCode.TRUST, "the caller is not who the document says"),
    "trust.keys-exist": Code(ExitCode.STATE, "keys exist already and are not overwritten"),
    "trust.rollback": Code(ExitCode.TRUST, "a journal no longer holds what the other side noted of it"),
    "trust.journal": Code(ExitCode.TRUST, "the journal's chain is broken"),
    "trust.ledger": Code(ExitCode.TRUST, "the ledger is not what the journal says"),
    # Policy: what the hospital allows.
    "policy.generator": Code(ExitCode.POLICY, "the site's policy does not allow this generator"),
    "policy.style": Code(ExitCode.POLICY, "the site's policy does not let style be taken from real images"),
    "policy.privacy-mode": Code(ExitCode.POLICY, "the site's policy asks for another privacy mode"),
    "policy.dp-generator": Code(ExitCode.POLICY, "one generator for one image leaves epsilon nothing to mean"),
    "policy.dp-unaccounted": Code(ExitCode.POLICY, "the study asks for an epsilon and for a reading without noise"),
    "policy.dp-epsilon": Code(ExitCode.POLICY, "the study's epsilon or delta is over the site's policy"),
    "policy.dp-patients": Code(ExitCode.POLICY, "the site has too few patients for differential privacy"),
    "policy.dp-keys": Code(ExitCode.POLICY, "the site has no patient keys, and the patient is the unit"),
    "policy.dp-budget": Code(ExitCode.POLICY, "the site's privacy budget does not reach for this"),
    "policy.metrics": Code(ExitCode.POLICY, "the hospital lets no metrics out"),
    "policy.image-size": Code(ExitCode.POLICY, "the study's image size is outside the site's limits"),
    "policy.samples": Code(ExitCode.POLICY, "the study asks for more samples than the site's policy allows"),
    "policy.steps": Code(ExitCode.POLICY, "the study asks for more work than the site's policy allows"),
    "policy.studies": Code(ExitCode.POLICY, "more studies wait at the site than it takes on"),
    "policy.expired": Code(ExitCode.POLICY, "the study is closed"),
    "policy.steward": Code(ExitCode.POLICY, "this person is not a steward of the site"),
    "policy.machine-step": Code(ExitCode.POLICY, "no person takes this step of a release"),
    "policy.own-release": Code(ExitCode.POLICY, "the person who made a release cannot approve it"),
    "policy.repeated-reading": Code(ExitCode.POLICY, "these hold-out figures were asked for more often than agreed"),
    "policy.arm": Code(ExitCode.POLICY, "the study did not declare this arm"),
    "policy.arm-without-data": Code(ExitCode.POLICY, "the arm needs data that nobody has"),
    "metrics.not-measured": Code(ExitCode.STATE, "the site has measured nothing to compare yet"),
    "policy.file": Code(ExitCode.USAGE, "the policy file does not follow its schema"),
    # Screening and the airlock.
    "screening.control-missed": Code(ExitCode.POLICY, "the screening missed copies that it had planted itself"),
    "screening.inconclusive": Code(ExitCode.POLICY, "there are too few hold-out patients for a verdict"),
    "screening.membership": Code(ExitCode.POLICY, "trained patients could be told from others by the samples"),
    "screening.too-few-accepted": Code(ExitCode.POLICY, "too few samples passed the screening"),
    "airlock.state": Code(ExitCode.STATE, "the release is not in a state that allows this"),
    "airlock.changed": Code(ExitCode.TRUST, "the release differs from what was reviewed"),
    "airlock.not-opened": Code(ExitCode.STATE, "who votes has not opened this very release"),
    "airlock.blind": Code(ExitCode.POLICY, "votes are told to those who have voted"),
    "airlock.reason": Code(ExitCode.USAGE, "a reason or question is missing, or too long"),
    "airlock.unknown": Code(ExitCode.STATE, "no such release"),
    # Stewards, and the page on which they review.
    "steward.name": Code(ExitCode.USAGE, "this cannot be a steward's name"),
    "steward.account": Code(ExitCode.STATE, "the steward's account exists already, or does not exist"),
    "steward.password": Code(ExitCode.TRUST, "the name or the password is wrong"),
    "steward.password-weak": Code(ExitCode.INPUT, "the new password is too short or too simple"),
    "steward.password-unread": Code(ExitCode.USAGE, "the password cannot be read"),
    "steward.waits": Code(ExitCode.TRUST, "too many wrong passwords were given; the account waits"),
    "review.forged": Code(ExitCode.TRUST, "the request does not come from the review page"),
    "review.form": Code(ExitCode.INPUT, "the form was not filled in"),
    "review.page": Code(ExitCode.STATE, "the review page has no such page"),
    # Style.
    "style.weights-missing": Code(ExitCode.USAGE, "the site has no network weights for this style"),
    "style.weights-refused": Code(ExitCode.INPUT, "the site's weights for style are not ones that can be used"),
    "style.images-missing": Code(ExitCode.USAGE, "the site has no folder of public images for this style"),
    "style.images-refused": Code(ExitCode.INPUT, "the site's public images for style cannot be used"),
    "style.moments": Code(ExitCode.STATE, "the site has no stored moments that fit this style"),
    # Training.
    "job.unknown": Code(ExitCode.USAGE, "there is no such job"),
    "job.state": Code(ExitCode.STATE, "this job did not fail"),
    "training.diverged": Code(ExitCode.INTERNAL, "a network's training diverged"),
    "training.none": Code(ExitCode.INPUT, "no training case could be fitted"),
    "training.too-few": Code(ExitCode.STATE, "there are too few training cases for a generator of the cohort"),
    "training.too-small": Code(ExitCode.INPUT, "a case is smaller than its generator can be trained on"),
    "training.constant-image": Code(ExitCode.INPUT, "a case's image has one value everywhere at the study's size"),
    "training.mask-none": Code(ExitCode.INPUT, "a case's mask marks nothing at the study's size"),
    "training.mask-all": Code(ExitCode.INPUT, "a case's mask marks everything at the study's size"),
    "training.memory": Code(ExitCode.INTERNAL, "there was not enough memory to train"),
    "training.killed": Code(ExitCode.INTERNAL, "the process that trained was killed twice"),
    "training.device": Code(ExitCode.UNAVAILABLE, "the device for training is not there, or it failed"),
    "training.network": Code(ExitCode.INTERNAL, "something in the trainer tried to reach the network"),
    "training.ray-missing": Code(ExitCode.UNAVAILABLE, "training is set to a Ray cluster, and Ray is not installed"),
    "dp.critic": Code(ExitCode.INTERNAL, "a critic has no exact gradient for each patient"),
    "dp.optimiser": Code(ExitCode.INTERNAL, "an optimiser remembers gradients that got no noise"),
    "dp.private-points": Code(ExitCode.INTERNAL, "a term that gets no noise would read private images"),
    "weights.mismatch": Code(ExitCode.INPUT, "the weights do not fit the network that the study names"),
    # Admission at the coordinator.
    "admission.study": Code(ExitCode.TRUST, "the bundle belongs to no open study of ours"),
    "admission.site": Code(ExitCode.TRUST, "the bundle is another site's"),
    "admission.size": Code(ExitCode.INPUT, "the bundle is larger than the study allows"),
    "admission.digest": Code(ExitCode.INPUT, "an object's digest is not its name"),
    "admission.unexpected": Code(ExitCode.INPUT, "an object was sent that the manifest does not name"),
    "admission.incomplete": Code(ExitCode.STATE, "objects of the bundle are still missing"),
    "admission.offset": Code(ExitCode.STATE, "a chunk does not follow what is stored"),
    "admission.epsilon": Code(ExitCode.TRUST, "the manifest claims less epsilon than its noise gives"),
    "admission.floor": Code(ExitCode.POLICY, "the manifest states fewer patients than the study's floor"),
    "admission.quarantined": Code(ExitCode.STATE, "the bundle was refused before and is in quarantine"),
    "admission.not-quarantined": Code(ExitCode.STATE, "no such bundle is in quarantine"),
    "admission.share": Code(ExitCode.STATE, "the site has as much at the coordinator as it may"),
    "admission.revoked": Code(ExitCode.STATE, "the site has taken the bundle back"),
    # State of the coordinator.
    "study.exists": Code(ExitCode.STATE, "a different study has that id"),
    "study.unknown": Code(ExitCode.STATE, "no such study"),
    "site.unknown": Code(ExitCode.STATE, "no such site"),
    "dataset.unknown": Code(ExitCode.STATE, "no such dataset"),
    "dataset.revoked": Code(ExitCode.STATE, "the dataset holds a release that was taken back"),
    "dataset.damaged": Code(ExitCode.INPUT, "the folder is not the dataset that it says it is"),
    "backup.exists": Code(ExitCode.STATE, "the place for a backup, or for what is restored, is taken"),
    "backup.elsewhere": Code(ExitCode.STATE, "the database or the objects are kept elsewhere, with tools of their own"),
    "portable.file": Code(ExitCode.INPUT, "a file on the medium is missing, too large, or no plain file"),
    "dataset.empty": Code(ExitCode.STATE, "no accepted release to build from"),
    "metrics.range": Code(ExitCode.INPUT, "a metric is outside its range"),
    # The world.
    "settings.missing": Code(ExitCode.USAGE, "the folder has not been set up"),
    "settings.invalid": Code(ExitCode.USAGE, "the settings do not follow their schema"),
    "settings.exists": Code(ExitCode.STATE, "the folder is set up already"),
    "unavailable.service": Code(ExitCode.UNAVAILABLE, "the other side cannot be reached"),
    "unavailable.busy": Code(ExitCode.UNAVAILABLE, "the service is busy with other calls of the same site"),
    "unavailable.port": Code(ExitCode.UNAVAILABLE, "the port is in use"),
    "unavailable.timeout": Code(ExitCode.UNAVAILABLE, "it took longer than allowed"),
    "storage.full": Code(ExitCode.STORAGE, "there is not enough room on the disk"),
    "storage.busy": Code(ExitCode.STORAGE, "another program has held the database for too long"),
    "storage.denied": Code(ExitCode.STORAGE, "a stored file may not be deleted by this user"),
    "storage.damaged": Code(ExitCode.STORAGE, "a stored file is not what was stored"),
    "storage.version": Code(ExitCode.STORAGE, "a database is of another version of this software"),
    "internal": Code(ExitCode.INTERNAL, "something went wrong on our side"),
}


class SynthwardError(Exception):
    """An error with a code. `code` must stand in CODES; the texts are for the person on this machine."""

    def __init__(self, code: str, what: str, *, why: str = "", do: str = "") -> None:
        if code not in CODES:
            raise ValueError(f"error code {code!r} is not in CODES: add it with its public text")
        super().__init__(what)
        self.code = code
        self.what = what
        self.why = why
        self.do = do

    @property
    def exit_code(self) -> ExitCode:
        """The exit code that a command ends with."""
        return CODES[self.code].exit

    def public(self) -> str:
        """The text that may cross the wire: names nothing of the site's."""
        return public_text(self.code)

    def __str__(self) -> str:
        parts = [f"{self.what} [{self.code}]"]
        if self.why:
            parts.append(f"Why: {self.why}")
        if self.do:
            parts.append(f"What to do: {self.do}")
        return "\n  ".join(parts)


def public_text(code: str) -> str:
    """The public text of a code, also for codes of a newer version that this one does not know."""
    known = CODES.get(code)
    return known.public if known else "an error that this version does not know"
