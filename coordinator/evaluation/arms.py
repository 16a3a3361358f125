"""The orders of an evaluation: which networks are measured where, in which order, and what comes with each.

Networks are trained on synthetic pairs here and go out to every site; what needs real training images is trained at
each site and stays there. What a site has answered is not asked again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from numpy.typing import NDArray

from coordinator.datasets.build import read_pair
from coordinator.evaluation.evaluation import Evaluation
from coordinator.evaluation.networks import Network, shuffled, weights_of
from coordinator.evaluation.plan import Asked, asked
from coordinator.rounds.measure import Order
from coordinator.store.store import Measurement
from shared.documents import canonical, sign
from shared.messages import Answer, AnyOrder, OrderKind
from shared.orders import OTHERS, MeasurementRequest
from shared.pair_arrays import fitting, to_arrays
from shared.pairs import LazyPairs, sha256_hex
from shared.weights import digest

Arrays = Mapping[str, NDArray[Any]]


def measurements(evaluation: Evaluation) -> Iterator[Order]:
    """The signed orders, each as soon as its network is trained; sites that have answered are left out."""
    digests: dict[str, str] = {}
    for item, sites in _open(evaluation):
        if item.arm == "real_and_others":
            yield from _with_others(evaluation, item, sites, digests)
        else:
            yield _order(evaluation, item, sites)


def missing(evaluation: Evaluation) -> int:
    """How many answers an evaluation still waits for."""
    return sum(len(sites) for _, sites in _open(evaluation))


def _open(evaluation: Evaluation) -> list[tuple[Asked, dict[str, int]]]:
    """What is still to be asked, and of whom: site -> node id."""
    answered = {
        (Asked(m.arm, m.seed, m.trained_on, m.n), m.site)
        for m in evaluation.store.measurements(evaluation.study_sha256, evaluation.version)
        if m.metrics is not None
    }
    found = []
    for item in asked(evaluation.study.evaluation, sorted(evaluation.dataset.privacy)):
        sites = {site.name: site.node_id for site in evaluation.sites if (item, site.name) not in answered}
        if sites:
            found.append((item, sites))
    return found


def _order(evaluation: Evaluation, item: Asked, sites: Mapping[str, int]) -> Order:
    load: Callable[[], Arrays] | None = None
    weights_sha256 = None
    if item.trained_on is not None:
        network = Network(item.trained_on, item.seed, item.n, half=item.arm == "refined")
        weights_sha256 = digest(weights_of(evaluation, network))

        def load() -> Arrays:
            return weights_of(evaluation, network)

    request = MeasurementRequest(
        order_id=order_id(evaluation, item.arm, item.trained_on, item.n, item.seed),
        study_sha256=evaluation.study_sha256, dataset_version=evaluation.version,
        arm=item.arm, trained_on=item.trained_on, n=item.n, seed=item.seed, weights_sha256=weights_sha256,
    )  # fmt: skip
    return signed(evaluation, "measurement", request, load, sites)


def _with_others(
    evaluation: Evaluation, item: Asked, sites: Mapping[str, int], digests: dict[str, str]
) -> Iterator[Order]:
    """An order for each site, with pairs of all the others; a site that is alone is written down as that.

    digests: by site, of its others' pairs: the same with every seed, and each means decoding them. Filled here.
    """
    for site, node in sites.items():
        others = evaluation.dataset.privacy.keys() - {site}
        load = pairs_of(evaluation, others, evaluation.study.evaluation.max_pairs_sent)
        name = order_id(evaluation, item.arm, site, item.n, item.seed)
        if load is None:
            _write(evaluation, name, item, site, Answer("refused", "policy.arm-without-data"))
            continue
        if site not in digests:
            digests[site] = digest(load())
        request = MeasurementRequest(
            order_id=name, study_sha256=evaluation.study_sha256, dataset_version=evaluation.version,
            arm=item.arm, trained_on=OTHERS, seed=item.seed, pairs_sha256=digests[site],
        )  # fmt: skip
        yield signed(evaluation, "measurement", request, load, {site: node})


def pairs_of(evaluation: Evaluation, sites: Collection[str], at_most: int) -> Callable[[], Arrays] | None:
    """How to get the pairs of these sites as arrays, a fair choice of at most so many; None where there is none."""
    image = evaluation.study.image
    lines = [line for line in evaluation.dataset.pairs if line.site in sites]
    chosen = shuffled(lines)[: min(at_most, fitting(image))]
    if not chosen:
        return None
    return lambda: to_arrays(LazyPairs(chosen, lambda line: read_pair(evaluation.objects, line)), image)


def order_id(evaluation: Evaluation, *parts: object) -> str:
    """The same for the same question, so that a restart asks the same."""
    text = "/".join(str(part) for part in (evaluation.study_sha256, evaluation.version, *parts))
    return f"m-{sha256_hex(text.encode())[:32]}"


def signed(
    evaluation: Evaluation, kind: OrderKind, request: AnyOrder, load: Callable[[], Arrays] | None,
    sites: Mapping[str, int],
) -> Order:  # fmt: skip
    """An order as it is sent."""
    payload = canonical(request)
    signature = sign(evaluation.key, kind, payload)
    return Order(request.order_id, kind, payload, signature, load, sites)


def record_measurement(evaluation: Evaluation, order: Order, site: str, answer: Answer) -> None:
    """Writes a site's final answer to a measurement into the store."""
    request = MeasurementRequest.model_validate_json(order.document)
    item = Asked(request.arm, request.seed, request.trained_on, request.n)
    if answer.state == "done" and answer.metrics is None:
        answer = Answer("failed", "document.malformed")
    _write(evaluation, order.name, item, site, answer)


def _write(evaluation: Evaluation, name: str, item: Asked, site: str, answer: Answer) -> None:
    evaluation.store.add_measurement(
        evaluation.study_sha256,
        Measurement(
            measurement_id=name, dataset_version=evaluation.version, arm=item.arm, trained_on=item.trained_on,
            n=item.n, seed=item.seed, site=site, code=answer.code, metrics=answer.metrics,
            patients=answer.patients if answer.metrics else None,
        ),
    )  # fmt: skip
