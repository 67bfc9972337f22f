"""How far the fast way is trusted: the sample measured both ways, and what follows from it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from residual_net import save_noise, save_residual_net

from onnxsemi import ReadOptions, SearchSettings, Settings
from onnxsemi._evaluation.workload import Workload
from onnxsemi._pipeline import sensitivity as sensitivity_module
from onnxsemi._pipeline.preparation import Prepared, prepare
from onnxsemi._pipeline.sensitivity import Sensitivity, measure_sensitivity
from onnxsemi._plan.layers import Semilayer, Sign
from onnxsemi._progress import Silent
from onnxsemi._quantizer.rounded_plan import Nearest
from onnxsemi._run.folder import nowhere
from onnxsemi._run.journal import Journal
from onnxsemi._sensitivity import agreement as agreement_module
from onnxsemi._sensitivity.agreement import Agreement, SampleRequest, measure_agreement, spearman
from onnxsemi._sensitivity.delta_loss import exact_delta_loss
from onnxsemi._sensitivity.fast import FastMeasurement
from onnxsemi._sensitivity.semilayer_kl import exact_kl
from onnxsemi._sensitivity.variants import Variant, measure_variants

pytestmark = pytest.mark.slow

BITS = (8, 4, 2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("agreement")
    model = save_residual_net(folder / "model.onnx")
    search = save_noise(folder / "search.npz", count=40, seed=1)
    report = save_noise(folder / "report.npz", count=10, seed=2)
    settings = Settings(
        search=SearchSettings(method="semilayer", bits=BITS),
        model=ReadOptions(targets="all"),
        force=True,
    )
    return prepare(model, search, report, settings)


@pytest.fixture(scope="module")
def workload(prepared: Prepared) -> Workload:
    return prepared.workload(prepared.search)


def measured(
    workload: Workload, journal: Journal | None = None, seed: int = 0
) -> tuple[Agreement, ...]:
    layers = [layer.name for layer in workload.classifier.layers]
    return measure_agreement(
        workload, SampleRequest(layers, BITS, seed), Silent(), journal or Journal()
    )


class TestSample:
    def test_of_every_bitwidth(self, workload):
        found = measured(workload)
        layers = workload.classifier.layers
        channels = sum(min(agreement_module.CHANNELS, layer.channels) for layer in layers)
        assert [a.bits for a in found] == list(BITS)
        for one in found:
            assert one.channels == channels
            assert len(layers) < one.semilayers <= 2 * len(layers)
            assert 0 <= one.same_sign <= 1
            assert -1 <= one.kl_rank <= 1
        assert found[0].same_sign > 0.9  # at 8 bits little is left out
        assert found[0].delta_loss_rank > 0.9
        assert found[0].kl_rank > 0.9

    def test_is_what_both_ways_give(self, workload, monkeypatch):
        """All channels of all layers, so that nothing is left to the draw."""
        monkeypatch.setattr(agreement_module, "CHANNELS", 100)
        few = workload.first(agreement_module.IMAGES)
        names = [layer.name for layer in workload.classifier.layers]
        fast = FastMeasurement(few, names, BITS, 0).measure(Silent(), lambda: None).delta_loss()
        for one in measured(workload):
            pairs = []
            for site in workload.classifier.sites:
                channels = range(site.layer.channels)
                variants = [Variant((channel,), one.bits) for channel in channels]
                exact = measure_variants(few, site, variants, lambda _n: None).delta_loss
                pairs += zip(fast.column(site.layer.name, one.bits), exact, strict=True)
            fast_values, exact_values = np.array(pairs).T
            assert one.channels == len(pairs)
            assert one.same_sign == np.mean((fast_values > 0) == (exact_values > 0))
            assert one.delta_loss_rank == pytest.approx(spearman(fast_values, exact_values))

    def test_of_channels_alone(self, workload):
        """As the frontier asks: the KL is the channels'."""
        layers = [layer.name for layer in workload.classifier.layers]
        request = SampleRequest(layers, BITS, 0, semilayers=False)
        journal = Journal()
        found = measure_agreement(workload, request, Silent(), journal)
        for one, whole in zip(found, measured(workload), strict=True):
            assert replace(one, semilayers=whole.semilayers, kl_rank=whole.kl_rank) == whole
            assert one.semilayers == 0
        few, generator = workload.first(agreement_module.IMAGES), np.random.default_rng(0)
        kl_increase = (
            FastMeasurement(few, layers, BITS, 0).measure(Silent(), lambda: None).kl_increase()
        )
        pairs = []
        for site in workload.classifier.sites:
            drawn = np.sort(generator.permutation(site.layer.channels)[: agreement_module.CHANNELS])
            variants = [Variant((channel,), BITS[0]) for channel in drawn.tolist()]
            exact = measure_variants(few, site, variants, lambda _n: None).kl
            pairs += zip(kl_increase.column(site.layer.name, BITS[0])[drawn], exact, strict=True)
        assert found[0].kl_rank == pytest.approx(spearman(*np.array(pairs).T))

    def test_follows_from_the_seed(self, workload):
        assert measured(workload) == measured(workload)
        assert measured(workload) != measured(workload, seed=1)

    @pytest.mark.parametrize("threads", [1, 3])
    def test_does_not_depend_on_threads(self, workload, threads):
        assert measured(replace(workload, threads=threads)) == measured(workload)

    def test_is_spread_over_the_layers(self, workload, monkeypatch):
        monkeypatch.setattr(agreement_module, "LAYERS", 3)
        asked: list[str] = []
        measure = agreement_module.measure_variants

        def told(few, site, variants, advance):
            asked.append(site.layer.name)
            return measure(few, site, variants, advance)

        monkeypatch.setattr(agreement_module, "measure_variants", told)
        measured(workload)
        names = [layer.name for layer in workload.classifier.layers]
        assert asked[0] == names[0]
        assert asked[-1] == names[-1]
        assert len(asked) == 3

    def test_is_recalled(self, workload, tmp_path, monkeypatch):
        first = measured(workload, Journal(tmp_path / "journal.jsonl"))
        monkeypatch.setattr(agreement_module, "measure_variants", lambda *_: pytest.fail("anew"))
        journal = Journal(tmp_path / "journal.jsonl")
        assert measured(workload, journal) == first
        assert journal.recalled == len(workload.classifier.layers)


class TestSpearman:
    @pytest.mark.parametrize(
        ("one", "other", "expected"),
        [
            ([1, 2, 3, 4], [10, 20, 30, 40], 1),
            ([1, 2, 3, 4], [4, 3, 2, 1], -1),
            ([1, 2, 3], [1, 3, 2], 0.5),
            ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / (4.5 * 5) ** 0.5),  # a tie at its mean rank
            ([1, 1, 1], [5, 5, 5], 1),
            ([1, 1, 1], [5, 6, 7], 0),
            ([3], [4], 1),
            ([], [], 1),
        ],
    )
    def test_by_hand(self, one, other, expected):
        found = spearman(np.array(one, float), np.array(other, float))
        assert found == pytest.approx(expected)

    @given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=30))
    def test_is_about_order_only(self, pairs):
        one, other = np.array(pairs, float).T
        found = spearman(one, other)
        assert -1 - 1e-9 <= found <= 1 + 1e-9
        assert spearman(other, one) == pytest.approx(found)
        assert spearman(one**3 + 5, other) == pytest.approx(found)
        if np.ptp(one) and np.ptp(other):
            assert spearman(-one, other) == pytest.approx(-found)


def agreeing(bits: int, *, same_sign: float = 1.0, kl_rank: float = 1.0) -> Agreement:
    return Agreement(bits, 10, same_sign, 1.0, 4, kl_rank)


class TestDistrusted:
    """What agrees too little on the sample is measured exactly."""

    @pytest.fixture
    def sensitivity(self, prepared, monkeypatch):
        def make(*agreements: Agreement, **settings: object) -> Sensitivity:
            monkeypatch.setattr(
                sensitivity_module, "measure_agreement", lambda *_arguments: agreements
            )
            changed = replace(prepared, settings=replace(prepared.settings, **settings))
            return measure_sensitivity(
                changed, Nearest(changed.settings.grids), nowhere(), Silent()
            )

        return make

    def columns(self, found: Sensitivity, bits: int) -> list[bytes]:
        assert found.table is not None
        return [found.table.column(name, bits).tobytes() for name in found.table.nats]

    def exact(self, workload: Workload, bits: int) -> list[bytes]:
        names = [layer.name for layer in workload.classifier.layers]
        table, _ = exact_delta_loss(workload, names, (bits,), Silent(), Journal())
        return [table.column(name, bits).tobytes() for name in names]

    def test_delta_loss_of_one_bitwidth(self, prepared, sensitivity):
        found = sensitivity(agreeing(8), agreeing(4, same_sign=0.69), agreeing(2, same_sign=0.7))
        assert found.summary.exact_delta_loss == (4,)
        assert found.summary.exact_kl == ()
        workload = prepared.workload(prepared.delta_loss)
        assert self.columns(found, 4) == self.exact(workload, 4)
        assert self.columns(found, 8) != self.exact(workload, 8)
        assert self.columns(found, 2) != self.exact(workload, 2)

    def test_kl_of_one_bitwidth(self, workload, sensitivity):
        found = sensitivity(agreeing(8), agreeing(4), agreeing(2, kl_rank=0.5))
        assert found.summary.exact_kl == (2,)
        assert found.summary.exact_delta_loss == ()
        items = [Semilayer("c1", Sign.POSITIVE, (0, 2, 3), bits) for bits in (4, 2)]
        fast_and_exact = found.kl(items, Silent(), Journal())
        exact = exact_kl(workload, items, Silent(), Journal())
        assert fast_and_exact[1] == exact[1]
        assert fast_and_exact[0] != exact[0]

    def test_the_least_agreement_is_set(self, sensitivity):
        low = [agreeing(bits, same_sign=0.1, kl_rank=-1) for bits in BITS]
        assert sensitivity(*low, min_agreement=1.0).summary.exact_delta_loss == BITS
        trusted = sensitivity(*low, min_agreement=0.0).summary
        assert trusted.exact_delta_loss == ()
        assert trusted.exact_kl == BITS  # a negative correlation is below any share

    def test_nothing_fast_is_asked_for(self, sensitivity, monkeypatch):
        monkeypatch.setattr(sensitivity_module, "FastMeasurement", None)
        found = sensitivity(delta_loss="exact", kl="exact")
        assert found.summary.exact_delta_loss == BITS
        assert found.summary.exact_kl == BITS
        assert found.summary.agreement == ()
