"""Training on a tiny recipe: it learns, it can be interrupted anywhere, and the state it leaves
runs no code."""

from dataclasses import replace

import pytest
import torch
from conftest import TINY_UNET

from uturn_lib import training
from uturn_lib.training import RECIPES, Stage, Trainer

TINY = replace(
    RECIPES["laptop"],
    stages=(Stage(8 * 32, 2e-3, 0.3, warmup_images=64), Stage(4 * 32, 1e-3, 0.7, warmup_images=64)),
    batch=32,
    unet=TINY_UNET | dict(dropout=0.1),
)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.average.parameters()])


def test_an_interrupted_run_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = Trainer(TINY, tmp_path / "whole", torch.device("cpu"))
    whole.run()
    first = Trainer(TINY, tmp_path / "parts", torch.device("cpu"))
    for _ in range(5):
        first.update()
    first.save()
    first.update()  # lost with the interruption
    second = Trainer(TINY, tmp_path / "parts", torch.device("cpu"))
    assert second.resume() and second.step == 5
    second.run()
    torch.testing.assert_close(weights(second), weights(whole), atol=1e-6, rtol=1e-5)
    assert second.log[-1]["images"] == TINY.images


def test_training_lowers_the_held_out_loss(tmp_path):
    recipe = replace(TINY, stages=(Stage(60 * 32, 3e-3, 0.3, warmup_images=128),))
    trainer = Trainer(recipe, tmp_path, torch.device("cpu"))
    before = trainer.validation(trainer.test, draws=1)
    trainer.run()
    assert trainer.validation(trainer.test, draws=1) < 0.8 * before


def test_a_state_of_another_recipe_or_a_pickle_is_refused(tmp_path):
    Trainer(TINY, tmp_path, torch.device("cpu")).save()
    with pytest.raises(ValueError, match="another recipe"):
        Trainer(replace(TINY, seed=1), tmp_path, torch.device("cpu")).resume()

    class Hostile:
        def __reduce__(self):
            return (exec, ("raise SystemExit('code from a checkpoint was run')",))

    torch.save({"recipe": Hostile()}, tmp_path / "state.pt")
    with pytest.raises(Exception, match="(?i)weights.only|unsupported|unpickl"):
        Trainer(TINY, tmp_path, torch.device("cpu")).resume()


def test_the_loss_of_the_exact_denoiser_is_its_error():
    """EDM weighting: for D = c_skip x (F = 0) on N(0, s_d^2) data the weighted error is 1 at every
    noise level."""

    class Zero(torch.nn.Module):
        sigma_data = 0.5

        def denoise(self, x, sigma, labels):
            return self.sigma_data**2 / (self.sigma_data**2 + sigma**2) * x

    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(6, 1, 100, 100, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.01, 0.1, 0.5, 1.0, 10.0, 80.0])
    loss = training.edm_loss(Zero(), 0.5 * images, sigma, noise, None)
    torch.testing.assert_close(
        loss, torch.ones(6), atol=0.06, rtol=0
    )  # 4 standard errors of 10,000 squares


def test_stages_follow_each_other():
    recipe = RECIPES["laptop"]
    first = -(-recipe.stages[0].images // recipe.batch)
    assert recipe.stage_at(first - 1)[:2] == (recipe.stages[0], first - 1)
    assert recipe.stage_at(first)[:2] == (recipe.stages[1], 0)
    with pytest.raises(ValueError, match="beyond the end"):
        recipe.stage_at(recipe.steps)


def test_augmentation_keeps_digits_digits():
    from uturn_lib import load_classifier, load_data

    test = load_data("mnist", "test")
    moved = training.jitter(test.images, torch.Generator().manual_seed(0))
    assert (
        moved.min() >= -1.001 and moved.max() <= 1.001 and (moved - test.images).abs().mean() > 0.02
    )
    assert (
        load_classifier("mnist-classifier", "cpu").predict(moved) == test.labels
    ).double().mean() > 0.95


def test_a_time_limit_leaves_a_state_to_go_on_from(tmp_path):
    endless = replace(TINY, stages=(Stage(10**7, 1e-3, 0.3, warmup_images=64, decay="none"),))
    trainer = Trainer(endless, tmp_path, torch.device("cpu"))
    trainer.run(minutes=0.02)
    assert (
        0 < trainer.step < endless.steps
        and trainer.log[-1]["images"] == trainer.step * endless.batch
    )
    again = Trainer(endless, tmp_path, torch.device("cpu"))
    assert again.resume() and again.step == trainer.step
    torch.testing.assert_close(weights(again), weights(trainer))


def test_without_decay_the_rate_stays_after_the_warm_up(tmp_path):
    constant = replace(TINY, stages=(Stage(100 * 32, 2e-3, 0.3, warmup_images=64, decay="none"),))
    trainer = Trainer(constant, tmp_path, torch.device("cpu"))
    assert [trainer.learning_rate(step) for step in (0, 1, 2, 99)] == [1e-3, 2e-3, 2e-3, 2e-3]


def test_flips_mirror_half_of_the_images_and_nothing_else(tmp_path):
    plain, flipping = (
        Trainer(replace(TINY, flips=flips), tmp_path, torch.device("cpu"))
        for flips in (False, True)
    )
    mirrored = 0
    for step in range(8):
        (a, *rest), (b, *others) = plain.batch(step), flipping.batch(step)
        assert all(torch.equal(x, y) for x, y in zip(rest, others, strict=True))
        kept, turned = ((b == x).flatten(1).all(1) for x in (a, a.flip(-1)))
        assert (kept | turned).all()
        mirrored += int((~kept).sum())
    assert 90 < mirrored < 166  # of 256, a half expected


def test_a_profile_may_have_a_recipe_per_device():
    cpu, cuda = (training.recipe_for("cifar10", torch.device(kind)) for kind in ("cpu", "cuda"))
    assert (cpu[0], cuda[0]) == ("cifar10-cpu", "cifar10-cuda") and cpu[1] is not cuda[1]
    assert training.recipe_for("laptop", torch.device("cuda"))[0] == "laptop"
    with pytest.raises(ValueError, match="profile = 'desktop' is not known.*'cifar10'.*'laptop'"):
        training.recipe_for("desktop", torch.device("cpu"))


@pytest.mark.parametrize(
    "name, low, high", [("cifar10-cpu", 10e6, 14e6), ("cifar10-cuda", 15e6, 25e6)]
)
def test_cifar10_networks_have_the_intended_size(name, low, high):
    from uturn_lib.networks import make_unet

    recipe = RECIPES[name]
    with torch.device("meta"):
        unet = make_unet((3, 32, 32), 10, recipe.unshuffle, **recipe.unet)
    assert low < sum(p.numel() for p in unet.parameters()) < high


def test_shifts_and_mirrors_are_views_of_the_padded_image():
    image = torch.arange(2 * 3 * 8 * 8.0).reshape(2, 3, 8, 8)
    padded = torch.nn.functional.pad(image, (3, 3, 3, 3), mode="reflect")
    allowed = []
    for one in padded:
        crops = [one[:, i : i + 8, j : j + 8] for i in range(7) for j in range(7)]
        allowed.append(
            {tuple(view.flatten().tolist()) for crop in crops for view in (crop, crop.flip(-1))}
        )
    seen = [set(), set()]
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        for number, view in enumerate(training.shift_and_mirror(image, generator)):
            seen[number].add(tuple(view.flatten().tolist()))
    assert all(
        views <= among and len(views) > 80 for views, among in zip(seen, allowed, strict=True)
    )  # of 98


SMALL = replace(
    training.CLASSIFIERS["cifar10"],
    dataset="digits",
    network={"channels": (6, 12), "width": 8, "body": "dense"},
    epochs=3,
    batch=50,
)


def classifier_weights(trainer):
    return torch.cat(
        [value.flatten().double() for value in trainer.classifier.state_dict().values()]
    )


def test_an_interrupted_classifier_ends_where_an_uninterrupted_one_does(tmp_path):
    whole = training.ClassifierTrainer(SMALL, tmp_path / "whole", torch.device("cpu"))
    before = classifier_weights(whole).clone()
    whole.run()
    first = training.ClassifierTrainer(replace(SMALL), tmp_path / "parts", torch.device("cpu"))
    assert torch.equal(classifier_weights(first), before)
    first.run(until=1)
    first.run_epoch()  # lost with the interruption
    second = training.ClassifierTrainer(SMALL, tmp_path / "parts", torch.device("cpu"))
    assert second.resume() and second.epoch == 1
    second.run()
    torch.testing.assert_close(
        classifier_weights(second), classifier_weights(whole), atol=1e-5, rtol=1e-4
    )
    classifier, record = second.finished()
    assert record["held_out_correct"] == int(
        (classifier.predict(second.test.images) == second.test.labels).sum()
    )
    with pytest.raises(ValueError, match="another recipe"):
        training.ClassifierTrainer(
            replace(SMALL, seed=1), tmp_path / "parts", torch.device("cpu")
        ).resume()


def test_a_short_run_does_not_replace_what_has_seen_more():
    recipe = {"stages": [{"images": 10}], "channels": (8, 8)}
    shipped = {"recipe": {"stages": [{"images": 10}], "channels": [8, 8]}, "images_seen": 500}
    assert not training.is_better_trained({"recipe": recipe, "images_seen": 499}, shipped)
    assert training.is_better_trained({"recipe": recipe, "images_seen": 500}, shipped)
    assert training.is_better_trained(
        {"recipe": recipe | {"channels": (16, 16)}, "images_seen": 1}, shipped
    )
    assert training.is_better_trained({"recipe": recipe, "images_seen": 1}, {})


def test_the_shipped_classifiers_are_those_of_the_recipes():
    """What was trained before a recipe had all of today's fields is compared in those it knew."""
    from uturn_lib.support.places import CHECKPOINTS

    for name, recipe in training.CLASSIFIERS.items():
        known = training.shipped_record(CHECKPOINTS / f"{name}-classifier")
        assert known and all(
            known[key] == value for key, value in recipe.record().items() if key in known
        )


def test_an_autocast_around_the_network_reaches_it(tiny_network):
    """On a GPU the trainer asks for bfloat16 around the loss; the denoiser must not switch that
    off."""
    seen = []
    hook = tiny_network.unet.conv_in.register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    images, sigma = torch.randn(2, 1, 8, 8), torch.ones(2)
    try:
        for enabled in (False, True):
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                training.edm_loss(tiny_network, images, sigma, images, torch.tensor([0, 1]))
    finally:
        hook.remove()
    assert seen == [torch.float32, torch.bfloat16]


def test_the_saved_state_has_the_keys_that_running_trainings_wrote(tmp_path):
    """A state of an earlier version can be resumed: names in the file do not change."""
    Trainer(TINY, tmp_path / "a", torch.device("cpu")).save()
    state = torch.load(tmp_path / "a" / "state.pt", weights_only=True)
    assert set(state) == {"recipe", "step", "seconds", "log", "denoiser", "averages", "optimizer"}
    assert state["recipe"] == TINY.fixed
    training.ClassifierTrainer(SMALL, tmp_path / "b", torch.device("cpu")).save()
    state = torch.load(tmp_path / "b" / "state.pt", weights_only=True)
    assert set(state) == {"recipe", "seconds", "epoch", "classifier", "optimizer", "schedule"}
    assert state["recipe"] == repr(SMALL.record())


def test_the_clock_counts_work_and_not_suspension(tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(training.resumable.time, "monotonic", lambda: now[0])
    trainer = training.ClassifierTrainer(SMALL, tmp_path, torch.device("cpu"))
    now[0] += 50.0  # before the start
    trainer.start_clock()
    for passed in (3.0, 9000.0, 4.0):  # two steps around one during which the process was suspended
        now[0] += passed
        trainer.tick()
    assert trainer.seconds == 3.0 + training.STOPPED + 4.0
    assert trainer.record()["minutes"] == round((7.0 + training.STOPPED) / 60, 1)
