"""Training on a tiny recipe: it learns, it can be interrupted anywhere, and the state it leaves runs no code."""

from dataclasses import replace

import pytest
import torch

from uturn_lib import training
from uturn_lib.training import RECIPES, Stage, Trainer

TINY = replace(
    RECIPES["laptop"],
    stages=(Stage(8 * 32, 2e-3, 0.3, warmup_images=64), Stage(4 * 32, 1e-3, 0.7, warmup_images=64)),
    batch=32,
    unet=dict(
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "UpBlock2D"),
        dropout=0.1,
    ),
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
    """EDM weighting: for D = c_skip x (F = 0) on N(0, s_d^2) data the weighted error is 1 at every noise level."""

    class Zero(torch.nn.Module):
        sigma_data = 0.5

        def denoise(self, x, sigma, labels):
            return self.sigma_data**2 / (self.sigma_data**2 + sigma**2) * x

    generator = torch.Generator().manual_seed(0)
    images, noise = (torch.randn(6, 1, 100, 100, generator=generator) for _ in range(2))
    sigma = torch.tensor([0.01, 0.1, 0.5, 1.0, 10.0, 80.0])
    loss = training.edm_loss(Zero(), 0.5 * images, sigma, noise, None)
    torch.testing.assert_close(loss, torch.ones(6), atol=0.06, rtol=0)  # 4 standard errors of 10,000 squares


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
    moved = training.augment(test.images, torch.Generator().manual_seed(0))
    assert moved.min() >= -1.001 and moved.max() <= 1.001 and (moved - test.images).abs().mean() > 0.02
    assert (load_classifier("mnist-classifier", "cpu").predict(moved) == test.labels).double().mean() > 0.95
