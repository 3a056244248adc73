"""Every training deviation, switched alone, changes what it is said to change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model import registry
from model.baselines.avgzslnet import AVGZSLNet
from model.batches import Batch
from model.embedding import EmbeddingModel, Sizes
from model.metrics import BETAS
from model.stages import fit, stage_1, stage_2
from model.training import NEVER_ZERO, calibrations
from pipeline.deviations import DEVIATIONS
from tests.model import tiny

ALL = frozenset(DEVIATIONS)


def one_step(method: str, published: frozenset[str]):
    """-> (loss terms, parameters and buffers after one update) from equal weights and an equal batch."""
    from model.batches import TrainingData
    from model.trainer import Trainer

    torch.manual_seed(0)
    spec = tiny.spec(method, encoder_dropout=0.0, projection_dropout=0.0, decoder_dropout=0.0)
    model = registry.load(method)(Sizes(12, 16), spec, published)
    assert isinstance(model, EmbeddingModel)
    random = torch.Generator().manual_seed(1)
    data = TrainingData(torch.rand(40, 12, generator=random), torch.rand(40, 16, generator=random),
                        torch.arange(40) % 5, torch.randn(5, 300, generator=random))
    trainer = Trainer(model, data, spec, torch.device("cpu"))
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    terms = trainer.step(torch.randint(0, 40, (16, 2), generator=random))
    return dict(zip(trainer.names, terms.tolist(), strict=True)), before, model.state_dict()


@pytest.mark.parametrize("base", [frozenset(), ALL], ids=["others-corrected", "others-published"])
def test_batchnorm_passes_move_running_statistics_and_nothing_else(base):
    terms, _, with_passes = one_step("avca", base | {"batchnorm_passes"})
    same_terms, _, without = one_step("avca", base - {"batchnorm_passes"})
    assert terms == pytest.approx(same_terms, rel=1e-5)
    for name, value in with_passes.items():
        if name.endswith(("linear.bias", "feed_forward.outer.bias")):
            continue  # in front of a batch norm: their gradient is rounding noise
        moved = not torch.allclose(value, without[name], rtol=1e-4, atol=1e-6)
        touched = name.startswith(("encoder", "projection", "word_projection", "decoder"))
        assert moved == (touched and "running_" in name or touched and "num_batches" in name), name
    updates = {name.rsplit(".", 1)[0]: int(value) for name, value in with_passes.items() if "num_batches" in name}
    assert updates["encoder.audio.output.norm"] == 3 and updates["word_projection.norm"] == 3
    assert updates["projection.visual.output.norm"] == 4 and updates["decoder.norm"] == 6
    assert int(without["decoder.norm.num_batches_tracked"]) == 5
    assert int(without["projection.visual.output.norm.num_batches_tracked"]) == 2


@pytest.mark.parametrize("base", [frozenset(), ALL], ids=["others-corrected", "others-published"])
def test_position_offset_is_frozen_or_trained(base):
    for published, moves in ((base | {"position_offset"}, False), (base - {"position_offset"}, True)):
        _, before, after = one_step("avca", published)
        assert torch.equal(before["position"], after["position"]) != moves


def test_statistics_passes_may_be_left_out_early_in_an_epoch(monkeypatch):
    """They are forgotten by the time anything reads a running statistic: see statistics_steps."""
    from model import trainer

    monkeypatch.setattr(trainer, "FORGOTTEN", 1e-8)  # 88 steps of an epoch
    spec = tiny.spec(epochs=1, batches_per_epoch=100, batch_size=6, encoder_dropout=0.0, projection_dropout=0.0,
                     decoder_dropout=0.0)
    benchmark = tiny.benchmark()
    found = []
    for changed in (trainer.statistics_steps, lambda momentum: 10_000):
        monkeypatch.setattr(trainer, "statistics_steps", changed)
        found.append(fit(benchmark, stage_1(benchmark, spec), spec, ALL, None).state)
    for name, value in found[0].items():
        if "num_batches" not in name:
            np.testing.assert_allclose(value, found[1][name], rtol=1e-6, atol=1e-7, err_msg=name)


def test_a_slower_batch_norm_remembers_longer():
    from model.trainer import FORGOTTEN, statistics_steps

    assert [statistics_steps(momentum) for momentum in (0.1, 0.99, 1.0)] == [192, 5, 1]
    assert 0.99 ** (2 * statistics_steps(0.01)) <= FORGOTTEN < 0.99 ** (2 * statistics_steps(0.01) - 2)


@pytest.mark.parametrize("base", [frozenset(), ALL], ids=["others-corrected", "others-published"])
def test_stage2_schedule_follows_a_plateau_or_stage_1(base):
    benchmark, spec = tiny.benchmark(), tiny.spec(batches_per_epoch=1, learning_rate=1e-9)
    given = [1e-3 / (k + 1) for k in range(8)]
    found = {}
    for published in (base | {"stage2_schedule"}, base - {"stage2_schedule"}):
        stage = stage_2(benchmark, 7, given, published)
        found["stage2_schedule" in published] = fit(benchmark, stage, spec, published, None).history.learning_rate
    assert found[False] == given
    # hardly anything is learnt at that rate, so that the score stays and the rate falls
    assert found[True][0] == 1e-9 and found[True] != given


class Found:
    def __init__(self, beta):
        self.beta = beta


def test_calibration_is_a_mean_of_three_branches_or_the_best_of_the_one_that_predicts():
    betas = {"both": Found(float(BETAS[2])), "audio": Found(float(BETAS[9])), "video": Found(float(BETAS[7]))}
    assert calibrations(AVGZSLNet, betas, False)["both"] == pytest.approx(0.4, abs=1e-6)
    assert calibrations(AVGZSLNet, betas, True)["both"] == pytest.approx(1.2, abs=1e-6)
    assert calibrations(AVGZSLNet, betas, True)["audio"] == pytest.approx(1.8, abs=1e-6)
    zero = {name: Found(0.0) for name in betas}
    assert calibrations(AVGZSLNet, zero, True)["both"] == NEVER_ZERO
    assert calibrations(AVGZSLNet, zero, False)["both"] == 0


@pytest.mark.parametrize("base", [frozenset(), ALL], ids=["others-corrected", "others-published"])
@pytest.mark.parametrize("method", ["avgzslnet", "cjme"])
def test_calibration_changes_what_a_fit_hands_on(method, base):
    benchmark = tiny.benchmark()
    changed = False
    for seed in range(6):
        spec = tiny.spec(method, seed=seed, epochs=2)
        stage = stage_1(benchmark, spec)
        on = fit(benchmark, stage, spec, base | {"calibration"}, None)
        off = fit(benchmark, stage, spec, base - {"calibration"}, None)
        assert on.history.loss == off.history.loss
        assert off.calibrations["both"] in BETAS
        changed = changed or on.calibrations["both"] != off.calibrations["both"]
    assert changed


@pytest.mark.parametrize("base", [frozenset(), ALL], ids=["others-corrected", "others-published"])
@pytest.mark.parametrize("name, method, term", [
    ("apn_softmax", "apn", "xe_final"), ("cjme_attention", "cjme", "triplet"),
])
def test_a_loss_term_changes_and_the_others_do_not(name, method, term, base):
    on, off = one_step(method, base | {name})[0], one_step(method, base - {name})[0]
    for key, value in on.items():
        if key in (term, "xe_layer4"):
            assert value != pytest.approx(off[key], rel=1e-6)
        else:
            assert value == pytest.approx(off[key], rel=1e-6)


def test_the_attention_of_the_released_cjme_is_the_mean_of_its_broadcast():
    torch.manual_seed(0)
    spec = tiny.spec("cjme", encoder_dropout=0.0)
    model_class = registry.load("cjme")
    made = {True: model_class(Sizes(12, 16), spec, frozenset({"cjme_attention"})),
            False: model_class(Sizes(12, 16), spec, frozenset())}
    made[False].load_state_dict(made[True].state_dict())
    batch = Batch(torch.rand(8, 2, 12), torch.rand(8, 2, 16), torch.randn(8, 2, 300), torch.arange(8) % 5,
                  torch.randn(5, 300))
    out = made[True](batch)
    attention = out["attention"]
    audio, video = made[True].hinges(out)
    broadcast = ((1 - attention[:, None]) * audio + attention[:, None] * video).mean()
    assert broadcast.shape == () and made[True].terms_of(out)["triplet"].item() == pytest.approx(broadcast.item())
    own = ((1 - attention) * audio + attention * video).mean()
    assert made[False].terms_of(out)["triplet"].item() == pytest.approx(own.item())


