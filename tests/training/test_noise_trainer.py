"""Training of noise classifiers on a tiny recipe: resumable, decayed from a trunk that can go on;
temperatures that are known."""

import json
import math
from dataclasses import replace

import pytest
import torch

from uturn_lib import training
from uturn_lib.data.halves import held_out_halves
from uturn_lib.networks.noise_classifier import SIGMA_RANGE, interpolation
from uturn_lib.training import calibration

CPU = torch.device("cpu")


def unchanged(images, generator):
    return images


TINY = training.NoiseRecipe(
    "digits",
    unchanged,
    {"channels": (8, 12), "blocks": (1, 1), "embedding": 8},
    minutes=0.05,
    log_sigma_mean=math.log(0.5),
    log_sigma_std=0.7,
    batch=50,
    learning_rate=1e-2,
    warmup_images=500,
    halflife=1000,
)


def weights(trainer):
    return torch.cat([value.flatten().double() for value in trainer.average.state_dict().values()])


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path, optimizer):
    recipe = replace(TINY, optimizer=optimizer)
    whole = training.NoiseTrainer(recipe, tmp_path / "whole", CPU)
    first = training.NoiseTrainer(recipe, tmp_path / "parts", CPU)
    for _ in range(6):
        whole.update()
    whole.save()
    whole.run_decay(0.5)  # 6 more steps
    for _ in range(4):
        first.update()
    first.save()
    first.update()  # lost with the interruption
    second = training.NoiseTrainer(recipe, tmp_path / "parts", CPU)
    assert second.resume() and second.step == 4
    for _ in range(2):
        second.update()
    second.save()
    second.run_decay(0.5)
    assert second.step == whole.step == 12 and second.decay == (6, 6)
    torch.testing.assert_close(weights(second), weights(whole), atol=1e-5, rtol=1e-4)


def test_the_trunk_goes_on_after_a_decay_as_if_there_had_been_none(tmp_path):
    trainer = training.NoiseTrainer(TINY, tmp_path, CPU)
    for _ in range(4):
        trainer.update()
    trainer.save()
    trainer.run_decay(0.5)
    assert trainer.learning_rate(trainer.step) == 0 and trainer.learning_rate(trainer.step - 1) > 0
    again = training.NoiseTrainer(TINY, tmp_path, CPU)
    assert again.resume() and again.step == 4 and again.decay is None
    plain = training.NoiseTrainer(TINY, tmp_path / "other", CPU)
    for _ in range(5):
        plain.update()
    again.update()
    torch.testing.assert_close(weights(again), weights(plain), atol=1e-6, rtol=1e-5)


def test_fewer_minutes_than_were_trained_decay_at_once(tmp_path, monkeypatch):
    first = training.run_recipe(TINY, tmp_path, CPU, minutes=0.04)
    trunk, steps = first.decay
    assert trunk > 1 and steps == round(trunk / 3)
    again = training.run_recipe(TINY, tmp_path, CPU, minutes=0.001)
    assert (again.step, again.decay) == (first.step, first.decay)  # nothing was left to do
    with pytest.raises(ValueError, match="another recipe"):
        training.run_recipe(replace(TINY, seed=1), tmp_path, CPU)
    longer = replace(TINY, minutes=1.0, decay_share=0.4)  # neither is part of the identity
    assert training.NoiseTrainer(longer, tmp_path, CPU).resume()


def test_a_batch_depends_on_seed_and_step_only_and_an_epoch_shows_every_image_once(tmp_path):
    trainer = training.NoiseTrainer(TINY, tmp_path, CPU)
    later = trainer.batch(40)
    other = training.NoiseTrainer(TINY, tmp_path, CPU)
    for a, b in zip(later, other.batch(40), strict=True):
        assert torch.equal(a, b)
    seen = torch.cat([trainer.batch(step)[2] for step in range(len(trainer.train) // 50)])
    assert torch.equal(seen.bincount(), trainer.train.labels.bincount())
    assert not torch.equal(trainer.batch(0)[1], trainer.batch(1)[1])


def test_images_with_more_noise_are_not_augmented(tmp_path):
    """Augmentation here adds 1000: seen in the sum of every image below the level, and in no other.
    Without the field the recipe is the old one."""

    def lift(images, generator):
        return images + 1000

    recipe = replace(TINY, augmentation=lift, augment_below=0.5)
    noisy, sigma, _ = training.NoiseTrainer(recipe, tmp_path, CPU).batch(3)
    lifted = noisy.mean((1, 2, 3)) > 500
    assert torch.equal(lifted, sigma < 0.5) and 0 < int(lifted.sum()) < len(sigma)
    assert "augment_below" in recipe.fixed and "augment_below" not in TINY.fixed


def test_noise_levels_have_the_stated_law():
    """A fifth uniform in ln sigma over the whole range, the rest normal: one from each quantile, so
    that quantiles are within 1 / batch."""
    recipe = replace(TINY, batch=10_000)
    sigma = training.draw_sigmas(recipe, torch.Generator().manual_seed(0))
    low, high = map(math.log, SIGMA_RANGE)
    spread, normal = sigma[:2000].log(), sigma[2000:].log()
    torch.testing.assert_close(
        spread.sort().values, torch.linspace(low, high, 2000), atol=0.01, rtol=0
    )
    median, std = normal.median(), normal.clamp(low, high).std()
    assert abs(median - math.log(0.5)) < 0.01 and abs(std - 0.7) < 0.02
    assert sigma.min() >= SIGMA_RANGE[0] * 0.9999 and sigma.max() <= SIGMA_RANGE[1] * 1.0001


def test_temperatures_that_are_known_are_found():
    """Labels drawn from softmax(z / T(sigma)) with ln T linear in ln sigma: the fit gives T back.

    40,000 labels, about 2,700 per knot: standard error of ln T about 0.03 where logits have unit
    scale; 4 of them at every inner knot."""
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(40_000, 5, generator=generator)
    low, high = map(math.log, SIGMA_RANGE)
    logs = low + (high - low) * torch.rand(len(logits), generator=generator)
    wanted = 0.6 - 0.15 * logs
    labels = torch.multinomial((logits / wanted.exp()[:, None]).softmax(1), 1, generator=generator)[
        :, 0
    ]
    found = torch.tensor(training.fit_temperatures(logits, logs.exp(), labels))
    expected = 0.6 - 0.15 * torch.tensor(training.KNOTS).log()
    torch.testing.assert_close(found[1:-1], expected[1:-1], atol=0.12, rtol=0)


def test_an_unknown_data_set_or_optimizer_is_refused():
    with pytest.raises(ValueError, match="dataset = 'stones'.*'mnist'"):
        training.train_noise_classifier("stones")
    with pytest.raises(ValueError, match="optimizer = 'sgd'"):
        replace(TINY, optimizer="sgd")


def test_only_tensors_and_numbers_are_in_the_state(tmp_path):
    training.NoiseTrainer(TINY, tmp_path, CPU).save()
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert set(state) == {
        "recipe",
        "seconds",
        "step",
        "decay",
        "log",
        "network",
        "average",
        "optimizer",
    }
    assert state["recipe"] == TINY.fixed


@pytest.mark.parametrize("name, parameters", [("mnist", 0.5e6), ("cifar10", 6e6)])
def test_networks_fit_their_file_sizes(name, parameters):
    recipe = training.NOISE_CLASSIFIERS[name]
    from uturn_lib.networks import NoiseClassifier

    shape = (1, 32, 32) if name == "mnist" else (3, 32, 32)
    network = NoiseClassifier(shape, 10, **recipe.network)
    assert sum(p.numel() for p in network.parameters()) <= parameters


def test_a_calibrated_network_is_more_likely_on_other_images(tmp_path):
    """Overconfident on purpose (logits times 4): the temperature takes it back."""
    trainer = training.run_recipe(TINY, tmp_path, CPU, minutes=0.05)
    network = trainer.average
    with torch.no_grad():
        network.head.weight *= 4
        network.head.bias *= 4
    evaluation, held = held_out_halves(trainer.test)
    calibrated = calibration.calibrate(network, held)
    logits, sigma, labels = calibration.noisy_logits(calibrated, evaluation, 10, seed=1)
    raw = torch.nn.functional.cross_entropy(logits, labels)
    temperatures = (
        interpolation(sigma, training.KNOTS) @ torch.tensor(calibrated.log_temperatures)
    ).exp()
    assert torch.nn.functional.cross_entropy(logits / temperatures[:, None], labels) < raw


def test_the_shipped_noise_classifiers_are_those_of_the_recipes():
    from uturn_lib.support.places import CHECKPOINTS

    for name, recipe in training.NOISE_CLASSIFIERS.items():
        known = training.shipped_record(CHECKPOINTS / f"{name}-noise-classifier")
        assert not known or known["recipe"] == recipe.fixed


def test_the_shipped_classifier_of_digits_knows_noisy_digits():
    """On the half of the held-out digits that it was not calibrated on; limits well below what its
    card states, above what was tried before."""
    from uturn_lib import load_data, load_noise_classifier
    from uturn_lib.networks.noise_classifier import noisy_probabilities

    evaluation, _ = held_out_halves(load_data("mnist", "test"))
    classifier = load_noise_classifier("mnist-noise-classifier", "cpu")
    for sigma, least in [(0.1, 0.95), (1.0, 0.9), (2.0, 0.7)]:
        q = noisy_probabilities(classifier, evaluation.images, sigma)[0]
        assert (q.argmax(1) == evaluation.labels).double().mean() > least
        torch.testing.assert_close(q.sum(1), torch.ones(len(q)), atol=1e-5, rtol=0)


def test_what_is_shipped_can_be_loaded_and_a_shorter_run_does_not_replace_it(tmp_path, monkeypatch):
    from uturn_lib import load_noise_classifier
    from uturn_lib.networks.checkpoints import read_checkpoint
    from uturn_lib.training import noise_trainer, shipping

    tiny = replace(TINY, dataset="mnist", augmentation=training.jitter, minutes=0.01)
    monkeypatch.setitem(training.NOISE_CLASSIFIERS, "mnist", tiny)
    monkeypatch.setattr(calibration, "LOGITS", 500)
    for module in (noise_trainer, shipping):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(shipping, "TRAINED", tmp_path / "shipped")
    folder = training.ship_noise_classifier("mnist", CPU)
    assert folder == tmp_path / "shipped" / "mnist-noise-classifier"
    config, state = read_checkpoint(folder, "model.safetensors", "NoiseClassifier")
    record = config["uturn"]["training"]
    assert record["recipe"] == tiny.fixed and state["conv_in.weight"].dtype == torch.float16
    classifier = load_noise_classifier(folder, "cpu")
    assert classifier(torch.zeros(2, 1, 32, 32), 1.0).shape == (2, 10)
    assert f"**{record['images_seen']:,}**" in (folder / "README.md").read_text()

    record["images_seen"] += 10**9
    (folder / "config.json").write_text(json.dumps(config))
    assert (
        training.ship_noise_classifier("mnist", CPU)
        == tmp_path / "runs/mnist-noise-classifier/checkpoint"
    )
