from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import golden_fvaegan, golden_model
from model import metrics
from model.baselines import fvaegan_classifier
from model.baselines import fvaegan_networks as parts
from model.baselines.fvaegan import FVAEGAN
from model.baselines.fvaegan_classifier import Pool, Rows, Synthetic
from model.baselines.fvaegan_networks import Critic, FvaeganSettings, Generator
from model.baselines.fvaegan_trainer import TERMS, NetworkTrainer
from model.protocol import Benchmark, Stage, evaluation_space, validation_space
from model.registry import specification
from model.training import TrainingError
from pipeline.errors import ArtefactError, SettingsError

GOLDEN = Path(__file__).parents[1] / "golden" / "trajectory"
SMALL = FvaeganSettings(
    batch_size=16, latent_size=8, encoder_size=12, generator_size=16, critic_size=16,
    synthetic_per_class=20, classifier_epochs=4, classifier_batch_size=32,
)
DEFECTS = frozenset({"fvaegan_defects"})
ALL = frozenset({"fvaegan_batches", "fvaegan_selection", "fvaegan_defects"})


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def rows_and_labels(count=90, classes=5, audio=6, video=10):
    random = seeded(1)
    labels = torch.arange(count) % classes
    centre = torch.rand(classes, audio + video, generator=random)
    x = (centre[labels] + 0.2 * torch.rand(count, audio + video, generator=random)).float()
    vectors = parts.normalise(torch.randn(classes + 3, 300, generator=random))
    return Rows.of_all(x[:, :audio], x[:, audio:]), labels, vectors


def trainer(published=frozenset(), settings=SMALL, seed=3):
    rows, labels, vectors = rows_and_labels()
    torch.manual_seed(seed)
    return NetworkTrainer(rows, labels, vectors, settings, frozenset(published), seeded(seed))


def test_two_updates_agree_with_the_golden_numbers():
    recipe = golden_model.load_recipe(GOLDEN / "recipe.py")
    groups = golden_fvaegan.compare_file(GOLDEN / "set_a" / "fvaegan.npz", recipe)
    assert {group.name for group in groups} == {f"fvaegan {name}" for name in ("forward", "loss", "gradient", "params")}
    for group in groups:
        assert group.compared >= 10 and not group.ignored
        assert group.deviation < group.tolerance, group
    assert max(group.deviation for group in groups) < 1e-12


def test_all_golden_files_of_the_reference_material_agree(reference_data):
    files = sorted((reference_data / "goldens" / "trajectory").glob("set_*/fvaegan.npz"))
    assert files
    recipe = golden_model.load_recipe(reference_data / "goldens" / "trajectory" / "recipe.py")
    for path in files:
        for group in golden_fvaegan.compare_file(path, recipe):
            assert group.deviation < group.tolerance and not group.ignored, (path, group)


def test_a_golden_folder_without_its_recipe_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"recipe.py: no such recipe"):
        golden_model.load_recipe(tmp_path / "recipe.py")


def test_parameter_count_is_the_released_one():
    networks = parts.Networks(1024, 300, FvaeganSettings(), unpaired=True)
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in networks.named_children()}
    assert counts == {"E": 578_100, "G": 833_024, "D": 678_913, "D2": 525_313}


@pytest.mark.parametrize("vector", [0, 7])
def test_the_written_out_input_gradient_is_that_of_automatic_differentiation(vector):
    torch.manual_seed(0)
    critic = Critic(9, vector, 11).double()
    torch.nn.init.normal_(critic.fc1.bias)
    x = torch.randn(5, 9, dtype=torch.float64, requires_grad=True)
    c = torch.randn(5, vector, dtype=torch.float64) if vector else None
    (wanted,) = torch.autograd.grad(critic(x, c).sum(), x, create_graph=True)
    found = critic.input_gradient(x, c)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-14)
    ours = torch.autograd.grad(found.norm(dim=1).sum(), [critic.fc1.weight, critic.fc2.weight])
    theirs = torch.autograd.grad(wanted.norm(dim=1).sum(), [critic.fc1.weight, critic.fc2.weight])
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)


def test_the_total_loss_weighs_its_terms_as_at_64_rows_whatever_the_batch():
    rows, labels, vectors = rows_and_labels(count=64)
    torch.manual_seed(0)
    networks = parts.Networks(16, 300, SMALL, unpaired=False)
    x, c = rows.take(torch.arange(64)), vectors[labels]
    noise, code = torch.randn(64, 8), torch.randn(64, 8)
    losses = [parts.generator_loss(networks, x, c, noise, code, SMALL, summed) for summed in (True, False)]
    assert losses[0]["total"].item() == pytest.approx(64 * losses[1]["total"].item(), rel=1e-5)
    twice = parts.generator_loss(networks, *(torch.cat((v, v)) for v in (x, c, noise, code)), SMALL, False)
    assert twice["total"].item() == pytest.approx(losses[1]["total"].item(), rel=1e-5)


def test_a_zero_row_stays_zero():
    assert torch.equal(parts.normalise(torch.zeros(2, 3)), torch.zeros(2, 3))


@pytest.mark.parametrize(("field", "value", "expected"), [
    ("batch_size", 0, "more than 0"), ("penalty_weight", -1.0, "0 or more"), ("second_moment", 1.0, "below 1"),
])
def test_settings_out_of_range_are_refused(field, value, expected):
    with pytest.raises(SettingsError, match=rf"method fvaegan, {field}: found {value}, expected .*{expected}"):
        FvaeganSettings(**{field: value})


def test_synthetic_rows_are_the_same_with_and_without_room_to_keep_them():
    torch.manual_seed(0)
    generator = Generator(16, 300, 16, 8)
    vectors = rows_and_labels()[2][:2]
    kept = Synthetic.draw(generator, vectors, SMALL, seeded())
    made = Synthetic(generator, vectors, kept.noise, kept.per_class, cache_bytes=0)
    index = torch.tensor([3, 39, 20, 3])
    assert kept.rows is not None and made.rows is None
    torch.testing.assert_close(made.take(index), kept.take(index), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(kept.take(index).norm(dim=1), torch.ones(4))
    assert kept.labels()[index].tolist() == [0, 1, 1, 0]


def generalised_pool(settings=SMALL):
    rows, labels, vectors = rows_and_labels()
    torch.manual_seed(0)
    synthetic = Synthetic.draw(Generator(16, 300, 16, 8), vectors[5:], settings, seeded())
    seen = torch.tensor([10, 11, 12, 13, 14])
    return fvaegan_classifier.pools(rows, seen[labels], seen, synthetic)


def test_pools_number_training_classes_first_and_mix_real_with_synthetic_rows():
    generalised, zero_shot = generalised_pool()
    assert generalised.labels.tolist() == [i % 5 for i in range(90)] + [5] * 20 + [6] * 20 + [7] * 20
    assert zero_shot.labels.tolist() == [0] * 20 + [1] * 20 + [2] * 20
    index = torch.tensor([149, 3, 90])
    assert generalised.real is not None
    generated = generalised.synthetic.take(torch.tensor([59, 0]))
    wanted = torch.stack((generated[0], generalised.real.take(torch.tensor([3]))[0], generated[1]))
    torch.testing.assert_close(generalised.take(index), wanted)


def test_classifier_batches_published_and_corrected():
    generalised, _ = generalised_pool()
    released = list(fvaegan_classifier.batches(generalised, True, SMALL, seeded()))
    assert [len(batch) for batch in released[0]] == [20] * 7 + [10]
    assert sorted(torch.cat(released[0]).tolist()) == list(range(150))
    assert all(torch.equal(a, b) for a, b in zip(released[0], released[3], strict=True))
    sound = list(fvaegan_classifier.batches(generalised, False, SMALL, seeded()))
    assert [len(batch) for batch in sound[0]] == [32] * 5
    assert not torch.equal(sound[0][0], sound[1][0])
    few = fvaegan_classifier.batches(generalised, False, replace(SMALL, classifier_batches=2), seeded())
    assert [len(epoch) for epoch in few] == [2] * 4
    drawn = torch.bincount(generalised.labels[torch.cat([batch for epoch in sound for batch in epoch])], minlength=8)
    assert drawn.min() > 0.5 * drawn.float().mean()


def test_a_classifier_learns_separable_rows():
    _, zero_shot = generalised_pool()
    rows = torch.eye(3).repeat_interleave(20, 0) + 0.01
    zero_shot.rows = torch.nn.functional.pad(rows, (0, 13))
    settings = FvaeganSettings(classifier_epochs=100, synthetic_per_class=20, classifier_batch_size=32,
                               classifier_learning_rate=0.05)
    for defects in (True, False):
        *_, last = fvaegan_classifier.train(zero_shot, torch.tensor([5, 6, 7]), defects, settings, seeded())
        found = last.log_probabilities(Rows.of_all(rows[:, :1], torch.nn.functional.pad(rows[:, 1:], (0, 13))))
        assert torch.equal(found.argmax(1), zero_shot.labels)
        torch.testing.assert_close(found.exp().sum(1), torch.ones(60))


def test_an_epoch_is_one_batch_published_and_all_of_them_corrected():
    one, every = trainer({"fvaegan_batches"}), trainer()
    assert one.epoch(12)[1:] == (1, 1)
    assert every.epoch(12)[1:] == (12, 2)
    assert not torch.equal(one.networks.G.MLP["L1"].weight, every.networks.G.MLP["L1"].weight)


def test_the_defects_train_a_second_critic_and_change_the_generator():
    published, corrected = trainer(DEFECTS), trainer()
    assert published.networks.D2 is not None and corrected.networks.D2 is None
    torch.testing.assert_close(published.networks.G.MLP["L1"].weight, corrected.networks.G.MLP["L1"].weight)
    for one in (published, corrected):
        one.epoch(10)
    assert not torch.allclose(published.networks.G.MLP["L1"].weight, corrected.networks.G.MLP["L1"].weight)


def test_a_trainer_continues_to_the_bit_from_its_state():
    straight, stopped = trainer(), trainer()
    straight.epoch(10)
    straight.epoch(10)
    stopped.epoch(10)
    resumed = trainer(seed=99)
    resumed.load(stopped.state())
    resumed.epoch(10)
    for key, value in straight.networks.state_dict().items():
        assert torch.equal(value, resumed.networks.state_dict()[key]), key


def test_a_loss_that_is_not_finite_stops_with_update_and_term():
    broken = trainer()
    with torch.no_grad():
        broken.networks.E.linear_log_var.bias.fill_(200.0)
    with pytest.raises(FloatingPointError, match=r"batch 4: loss term reconstruction became nan"):
        broken.epoch(10)


def test_generated_rows_come_nearer_to_the_rows_of_their_own_class_than_to_others():
    settings = FvaeganSettings(synthetic_per_class=20, gan_weight=1e3)
    rows, labels, vectors = rows_and_labels(count=200, audio=24, video=40)
    one = NetworkTrainer(rows, labels, vectors, settings, frozenset(), seeded())
    for _ in range(4):
        one.epoch(100)
    synthetic = Synthetic.draw(one.networks.G, vectors[:5], settings, seeded())
    made = synthetic.take(torch.arange(100)).reshape(5, 20, -1).mean(1)
    real = torch.stack([rows.take(torch.nonzero(labels == k)[:, 0]).mean(0) for k in range(5)])
    distance = torch.cdist(made, real)
    assert distance.diagonal().mean() < 0.7 * distance.mean()


def test_pools_give_the_same_rows_with_and_without_room_to_keep_them():
    generalised, zero_shot = generalised_pool()
    synthetic = generalised.synthetic
    bare = Synthetic(synthetic.generator, synthetic.vectors, synthetic.noise, synthetic.per_class, cache_bytes=0)
    index = torch.tensor([149, 3, 90, 17, 3])
    for kept, at in ((generalised, index), (zero_shot, index % 60)):
        made = Pool(kept.real, bare, kept.labels)
        assert kept.rows is not None and made.rows is None
        torch.testing.assert_close(made.take(at), kept.take(at), rtol=1e-5, atol=1e-7)


def benchmark(seed=0, per_class=24):
    """16 classes of separable features: 8 train, 4 val_unseen, 4 test_unseen; vectors that tell classes apart."""
    random = np.random.default_rng(seed)
    roles = np.array(["train"] * 8 + ["val_unseen"] * 4 + ["test_unseen"] * 4)[random.permutation(16)]
    code = random.standard_normal((16, 4))
    vectors = code @ random.standard_normal((4, 300)) + 0.1 * random.standard_normal((16, 300))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = np.repeat(np.arange(16), per_class)
    x = code[labels] @ random.standard_normal((4, 48)) + 0.5 * random.standard_normal((len(labels), 48))
    subset = np.empty(len(labels), "U16")
    part = np.arange(len(labels)) % per_class
    for k, role in enumerate(roles):
        of = labels == k
        if role == "test_unseen":
            subset[of] = "test_unseen"
        else:
            subset[of] = np.where(part[of] < 4, "test_seen", "val_unseen" if role == "val_unseen" else "train")
            subset[of & (part >= 4) & (part < 8) & (role == "train")] = "val_seen"
    x = np.maximum(x, 0).astype(np.float32)
    return Benchmark(
        class_name=np.array([f"class {k}" for k in range(16)]), class_role=roles,
        class_vector=vectors.astype(np.float32), id=np.array([f"video{i:03}" for i in range(len(labels))]),
        class_index=labels, subset=subset,
        audio=x[:, :16], video=x[:, 16:],
    )


def stage_of(data, number, chosen_epoch=-1):
    rows = data.rows("train") if number == 1 else data.rows("train", "val_seen", "val_unseen")
    classes = data.classes("train") if number == 1 else data.classes("train", "val_unseen")
    return Stage(number, rows, classes, validation_space(data), evaluation_space(data), epochs=3,
                 chosen_epoch=chosen_epoch)


def method(published=(), **changes):
    spec = specification("fvaegan", "demo", "selavi", 0)
    values = {"epochs": 3, "batches_per_epoch": 10, "batch_size": 16, "synthetic_per_class": 30, "device": "cpu"}
    one = FVAEGAN(replace(spec, **{**values, **changes}), frozenset(published))
    one.settings = replace(one.settings, encoder_size=32, generator_size=32, critic_size=32, latent_size=16,
                           classifier_epochs=4, classifier_batch_size=64)
    return one


def fitted(published=(), number=1, data=None, seed=5, checkpoint=None, chosen_epoch=1, **changes):
    torch.manual_seed(seed)
    data = data or benchmark()
    chosen = chosen_epoch if number == 2 else -1
    return method(published, **changes).fit(data, stage_of(data, number, chosen), seeded(seed), checkpoint)


def test_stage_1_keeps_the_first_best_epoch_and_its_calibration():
    fit = fitted()
    values = fit.history.harmonic_mean
    assert len(values) == len(fit.history.loss) == 3
    assert fit.chosen_epoch == int(np.argmax(values))
    assert fit.calibrations == {"softmax": fit.history.calibration[fit.chosen_epoch]}
    assert fit.history.terms == TERMS and np.isfinite(fit.history.term).all()


def test_stage_2_trains_as_long_as_stage_1_picked_and_reads_no_test_video():
    data = benchmark()
    fit = fitted(number=2, data=data)
    assert len(fit.history.loss) == 2 and fit.chosen_epoch == 1 and not fit.calibrations
    assert np.isnan(fit.history.harmonic_mean).all()
    hidden = replace(data, audio=data.audio.copy(), video=data.video.copy())
    rows = data.rows("test_seen", "test_unseen")
    hidden.audio[rows], hidden.video[rows] = 7.0, 7.0
    other = fitted(number=2, data=hidden)
    assert all(np.array_equal(fit.state[name], other.state[name]) for name in fit.state)


def test_stage_1_reads_no_test_video_in_any_protocol():
    data = benchmark()
    hidden = replace(data, audio=data.audio.copy(), video=data.video.copy())
    rows = data.rows("test_seen", "test_unseen")
    hidden.audio[rows], hidden.video[rows] = 7.0, 7.0
    for published in ((), ALL):
        one, two = fitted(published, data=data), fitted(published, data=hidden)
        assert all(np.array_equal(one.state[name], two.state[name]) for name in one.state)


def test_published_selection_keeps_what_is_best_on_the_test_videos():
    data = benchmark()
    fit = fitted(ALL, number=2, data=data)
    assert len(fit.history.loss) == 3
    best = max(fit.history.harmonic_mean)
    assert fit.chosen_epoch == fit.history.harmonic_mean.index(best)
    space = evaluation_space(data)
    scores = method(ALL).scores(fit.state, data.audio[space.rows], data.video[space.rows],
                                data.class_vector[space.classes], space.classes)
    found = metrics.evaluate(scores.distances["softmax"], data.class_index[space.rows], space.seen, space.unseen,
                             np.zeros(1), scores.zero_shot)
    assert 100 * found.at_best()["harmonic_mean"] == pytest.approx(best)
    assert 100 * found.zero_shot == pytest.approx(fit.history.zero_shot[fit.chosen_epoch])


@pytest.mark.parametrize("name", sorted(ALL))
@pytest.mark.parametrize("number", [1, 2])
def test_flipping_one_deviation_alone_changes_the_result(name, number):
    corrected, flipped = fitted(number=number), fitted({name}, number=number)
    assert set(corrected.state) <= set(flipped.state)
    assert any(not np.array_equal(corrected.state[key], flipped.state[key]) for key in corrected.state)
    assert ("D2.fc1.weight" in flipped.state) == (name == "fvaegan_defects")


def test_defects_switch_calibration_off():
    assert set(fitted({"fvaegan_defects"}).history.calibration) == {0.0}
    assert np.array_equal(method().betas, metrics.BETAS)


def test_scores_have_a_classifier_of_their_own_for_zero_shot():
    data = benchmark()
    fit, space = fitted(number=2, data=data), evaluation_space(data)
    rows = space.rows[:10]
    scores = method().scores(fit.state, data.audio[rows], data.video[rows], data.class_vector[space.classes],
                             space.classes)
    (distances,) = scores.distances.values()
    np.testing.assert_allclose(np.exp(-distances).sum(1), 1, rtol=1e-5)
    assert scores.zero_shot is not None
    unseen = np.isin(space.classes, space.unseen)
    np.testing.assert_allclose(np.exp(-scores.zero_shot[:, unseen]).sum(1), 1, rtol=1e-5)
    assert (scores.zero_shot[:, ~unseen] > 1e8).all()
    assert scores.embedding.shape == (10, 48) and scores.label_embedding.shape == (16, 48)
    np.testing.assert_allclose(np.linalg.norm(scores.label_embedding, axis=1), 1, rtol=1e-5)


def test_scores_of_classes_that_were_not_trained_for_are_refused():
    data = benchmark()
    fit, classes = fitted(data=data), data.classes("test_unseen")
    with pytest.raises(ArtefactError, match=rf"found class {classes[0]} .* expected some of the 12 that"):
        method().scores(fit.state, data.audio[:2], data.video[:2], data.class_vector[classes], classes)


def test_epochs_too_short_for_an_update_of_the_generator_are_refused():
    with pytest.raises(SettingsError, match=r"\[training\] batches_per_epoch: found 4, expected 5 or more for fvaegan"):
        method(batches_per_epoch=4)
    method({"fvaegan_batches"}, batches_per_epoch=1)


def test_negative_features_are_refused_before_training():
    data = benchmark()
    row = data.rows("train")[2]
    data.video[row, 1] = -0.5
    with pytest.raises(ArtefactError, match=rf"negative video feature of {data.id[row]} \(1 such videos\), expected 0"):
        fitted(data=data)


def test_a_stage_continues_to_the_bit_after_it_was_stopped(tmp_path, monkeypatch):
    straight, checkpoint = fitted(), tmp_path / "stage1.checkpoint"
    train_epoch = FVAEGAN.train_epoch

    def stopped(self, trainer, epoch, stage):
        if epoch == 2:
            raise KeyboardInterrupt
        return train_epoch(self, trainer, epoch, stage)

    monkeypatch.setattr(FVAEGAN, "train_epoch", stopped)
    with pytest.raises(KeyboardInterrupt):
        fitted(checkpoint=checkpoint)
    monkeypatch.setattr(FVAEGAN, "train_epoch", train_epoch)
    resumed = fitted(checkpoint=checkpoint)
    assert resumed.history == straight.history and resumed.calibrations == straight.calibrations
    assert all(np.array_equal(straight.state[name], resumed.state[name]) for name in straight.state)


def test_a_checkpoint_of_another_training_is_not_taken_up(tmp_path):
    checkpoint = tmp_path / "stage1.checkpoint"
    fitted(checkpoint=checkpoint)
    other, alone = fitted(checkpoint=checkpoint, learning_rate=1e-4), fitted(learning_rate=1e-4)
    assert all(np.array_equal(other.state[name], alone.state[name]) for name in alone.state)


def test_a_loss_that_is_not_finite_names_the_epoch():
    with pytest.raises(TrainingError, match=r"stage 1, epoch \d, batch \d+: loss term \w+ became \w+, expected a fin"):
        fitted(learning_rate=1e30)


def test_state_survives_as_float32():
    data = benchmark()
    fit, classes = fitted(data=data), validation_space(data).classes
    stored = {name: value.astype(np.float32) for name, value in fit.state.items()}
    arguments = (data.audio[:5], data.video[:5], data.class_vector[classes], classes)
    one, two = method().scores(fit.state, *arguments), method().scores(stored, *arguments)
    np.testing.assert_array_equal(one.distances["softmax"], two.distances["softmax"])
