"""Layers, losses and samplers, each against PyTorch's own or a plain loop."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from model import layers, losses
from model.avca import AVCA
from model.baselines.ale import harmonic_numbers
from model.baselines.bilinear import hinges_of
from model.batches import Batch, TrainingData
from model.embedding import Sizes
from model.samplers import ClassBalanced
from pipeline.deviations import DEVIATIONS
from tests.model import tiny


@pytest.fixture(autouse=True)
def seeded():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


def test_batch_norm_sees_groups_as_batches_of_their_own():
    ours, theirs = layers.BatchNorm(5, momentum=0.3).double(), nn.BatchNorm1d(5, momentum=0.3).double()
    for norm in (ours, theirs):
        nn.init.uniform_(norm.weight, generator=torch.Generator().manual_seed(1))
    x = torch.randn(8, 3, 5, dtype=torch.float64)
    y = ours(x)
    for group in range(3):
        torch.testing.assert_close(y[:, group], theirs(x[:, group]))
    ours.observe(x[:, :1])
    theirs(x[:, 0])
    assert ours.num_batches_tracked == theirs.num_batches_tracked == 4
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x)[:, 1], theirs(x[:, 1]))


def test_observe_does_to_the_statistics_what_forward_does():
    block = layers.TwoLayer(6, 7, 4, dropout=0.0, momentum=0.9)
    twin = layers.TwoLayer(6, 7, 4, dropout=0.0, momentum=0.9)
    twin.load_state_dict(block.state_dict())
    x = torch.randn(16, 1, 6)
    block(x)
    twin.observe(x)
    for name, value in block.state_dict().items():
        torch.testing.assert_close(twin.state_dict()[name], value)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
def test_dropout_meets_rate_and_expectation(rate):
    dropout = layers.Dropout(rate)
    x = torch.ones(400, 1000)
    y = dropout(x)
    assert abs((y == 0).float().mean().item() - rate) < 3e-3
    assert abs(y.mean().item() - 1) < 6e-3
    kept = y[y != 0]
    assert kept.min() == kept.max()
    both = ((y[:, 0] == 0) & (y[:, 1] == 0)).float().mean().item()
    assert abs(both - rate**2) < 0.08
    assert dropout.eval()(x) is x


def test_dropout_follows_the_global_generator():
    dropout, x = layers.Dropout(0.5), torch.ones(100)
    torch.manual_seed(3)
    first = dropout(x)
    assert not torch.equal(first, dropout(x))
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))


def test_every_dropout_of_avca_is_where_it_was_released(monkeypatch):
    """Golden numbers have no dropout. Entries per video, positives and negatives together, and rate."""
    drawn = []

    def record(x, rate):
        drawn.append((x.numel() // 8, rate))
        return torch.ones_like(x)

    monkeypatch.setattr(layers, "keep_mask", record)
    encoder, projection, decoder = 0.1, 0.2, 0.3
    spec = tiny.spec(encoder_dropout=encoder, projection_dropout=projection, decoder_dropout=decoder)
    batch = Batch(torch.rand(8, 2, 12), torch.rand(8, 2, 16), torch.rand(8, 2, 300), torch.arange(8) % 2,
                  torch.rand(2, 300))
    model = AVCA(Sizes(12, 16), spec, frozenset(DEVIATIONS))
    model.loss_terms(batch)
    hidden, between = spec.hidden_size, spec.projection_hidden_size
    wanted = 2 * [(2 * hidden, encoder), (2 * 300, encoder)]
    wanted += [(4 * 300, encoder), (4 * 64, encoder), (4 * 300, encoder)]  # attention, inside and after feed-forward
    wanted += 2 * [(2 * between, projection), (2 * 64, projection)]
    wanted += 2 * [(between, projection)]  # reconstructions, for the running statistics
    wanted += [(2 * 64, decoder), (300, decoder), (300, decoder), (6 * 300, decoder)]
    assert sorted(drawn) == sorted(wanted)
    drawn.clear()
    model.eval()
    model.loss_terms(batch)
    assert not drawn


def test_two_token_attention_is_softmax_attention():
    block = layers.TwoTokenAttention(300, 3, 100, dropout=0.0)
    x = torch.randn(7, 2, 300)
    q, k, v = block.qkv(block.norm(x)).view(7, 2, 3, 3, 100).permute(2, 0, 3, 1, 4)  # (7, heads, 2, 100) each
    mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(7, 2, 300)
    torch.testing.assert_close(block(x), block.out(mixed), rtol=1e-5, atol=1e-6)


def test_triplets_are_pytorchs():
    a, b, c, d = torch.randn(4, 9, 6)
    found = losses.triplet_terms({"x": (a, b, c), "y": (b, a, c), "z": (a, b, d)})
    for name, triplet in {"x": (a, b, c), "y": (b, a, c), "z": (a, b, d)}.items():
        torch.testing.assert_close(found[name], functional.triplet_margin_loss(*triplet))


def test_hinges_leave_the_true_class_out():
    scores, row = torch.randn(5, 4), torch.tensor([0, 3, 1, 2, 0])
    found = hinges_of(scores, row)
    for i in range(5):
        for k in range(4):
            wanted = 0 if k == row[i] else max(0.0, 0.1 + scores[i, k].item() - scores[i, row[i]].item())
            assert found[i, k].item() == pytest.approx(wanted, abs=1e-6)


def test_harmonic_numbers():
    assert harmonic_numbers(4).tolist() == pytest.approx([0, 1, 1.5, 1 + 1 / 2 + 1 / 3, 25 / 12])


def sampler():
    labels = torch.tensor([5] * 50 + [2] * 10 + [9])  # one class with a single video
    return labels, ClassBalanced.of(labels)


def test_classes_are_drawn_evenly_and_videos_evenly_in_them():
    labels, balanced = sampler()
    index = balanced.epoch(200, 100, torch.Generator().manual_seed(0))
    assert index.shape == (200, 100, 2)
    positive, negative = labels[index[..., 0]], labels[index[..., 1]]
    for k in (5, 2, 9):
        assert abs((positive == k).float().mean().item() - 1 / 3) < 0.01
        assert abs((negative == k).float().mean().item() - 1 / 3) < 0.01
    assert not (positive == negative).any()
    counts = torch.bincount(index[..., 0].flatten(), minlength=61)
    assert counts.min() > 0 and counts[:50].max() < 2 * counts[:50].min() + 60
    assert counts[60] > 6000


def test_an_epoch_depends_on_its_generator_alone():
    _, balanced = sampler()
    first = balanced.epoch(5, 8, torch.Generator().manual_seed(1))
    assert torch.equal(first, balanced.epoch(5, 8, torch.Generator().manual_seed(1)))
    assert not torch.equal(first, balanced.epoch(5, 8, torch.Generator().manual_seed(2)))
    assert balanced.epoch(5, 8, torch.Generator().manual_seed(1), negatives=False).shape == (5, 8, 1)


def test_a_batch_is_its_videos():
    data = TrainingData(torch.randn(6, 3), torch.randn(6, 4), torch.tensor([0, 1, 0, 1, 1, 0]), torch.randn(2, 5))
    batch = data.batch(torch.tensor([[4, 2], [0, 3]]))
    assert torch.equal(batch.audio[0, 1], data.audio[2]) and torch.equal(batch.video[1, 0], data.video[0])
    assert torch.equal(batch.text[1, 1], data.class_vectors[1]) and batch.row.tolist() == [1, 0]
