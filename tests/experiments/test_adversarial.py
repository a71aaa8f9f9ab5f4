"""Training against a critic: losses, steps, and the overlay of Li et al."""

import copy
import shutil

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.utils import AdversarialIterationEvents
from reference import assert_close, assert_teaches
from torch import nn

from experiments.adversarial import (
    ConditionalAdversarialTrainer,
    DiscriminatorLoss,
    GeneratorInferer,
    GeneratorLoss,
    PrepareConditional,
    WeightedLoss,
    parallel_like,
)
from experiments.runs import find_config
from monai_iste.errors import TrainingError
from monai_iste.handlers import ClipGradients, StopOnNonFiniteLoss
from monai_iste.networks.baselines.li_unet_gan import ConditionalDiscriminator, LiUNetGAN

TINY = (2, 3, 4, 5)


def changed(before, module):
    return [name for name, value in module.state_dict().items() if not torch.equal(before[name], value)]


# --- losses -----------------------------------------------------------------------------------------------------------


def test_losses_by_hand():
    """Judgments below zero count in full: no activation stands before the squares."""
    real, fake = torch.tensor([[0.5, -1.0], [2.0, 1.0]]), torch.tensor([[0.5, -2.0], [1.0, 0.0]])
    # (real - 1)^2: 0.25 4 1 0; fake^2: 0.25 4 1 0; (fake - 1)^2: 0.25 9 0 1
    assert float(DiscriminatorLoss()(real, fake)) == pytest.approx((5.25 / 4 + 5.25 / 4) / 2)
    assert float(GeneratorLoss()(fake)) == pytest.approx(0.01 * 10.25 / 4)
    assert float(GeneratorLoss(2.0)(fake)) == pytest.approx(2 * 10.25 / 4)
    assert float(WeightedLoss(nn.L1Loss())(real, fake)) == pytest.approx(0.99 * (0 + 1 + 1 + 1) / 4)


# --- one step ---------------------------------------------------------------------------------------------------------


def pairs(count=2, size=32):
    generator = torch.Generator().manual_seed(5)
    return [{k: torch.rand(2, 3, size, size, generator=generator) for k in ("image", "label")} for _ in range(count)]


def trainer(data=None, **changes):
    torch.manual_seed(0)
    generator, critic = LiUNetGAN(channels=TINY), ConditionalDiscriminator(TINY)
    arguments = {
        "device": "cpu",
        "max_epochs": 1,
        "train_data_loader": data or pairs(),
        "g_network": generator,
        "g_optimizer": torch.optim.Adam(generator.parameters(), 1e-2),
        "g_loss_function": GeneratorLoss(0.01),
        "recon_loss_function": WeightedLoss(nn.L1Loss(), 0.99),
        "d_network": critic,
        "d_optimizer": torch.optim.Adam(critic.parameters(), 1e-3),
        "d_loss_function": DiscriminatorLoss(),
        "g_inferer": GeneratorInferer(scale=1),
        "prepare_batch": PrepareConditional(),
    }
    return ConditionalAdversarialTrainer(**{**arguments, **changes}), generator, critic


def test_steps_equal_those_written_out():
    engine, generator, critic = trainer()
    g, d = copy.deepcopy(generator), copy.deepcopy(critic)
    g_optimizer, d_optimizer = torch.optim.Adam(g.parameters(), 1e-2), torch.optim.Adam(d.parameters(), 1e-3)
    losses = []
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(e.state.output[0]))
    engine.run()
    assert len(losses) == 2
    for batch, noted in zip(pairs(), losses, strict=True):
        x, y = batch["image"], batch["label"]
        fake = g(x, scale=1)
        loss = 0.99 * (fake - y).abs().mean() + 0.01 * (d(fake, x) - 1).square().mean()
        g_optimizer.zero_grad()
        loss.backward()
        g_optimizer.step()
        opposed = ((d(y, x) - 1).square().mean() + d(fake.detach(), x).square().mean()) / 2
        d_optimizer.zero_grad()
        opposed.backward()
        d_optimizer.step()
        assert float(noted["loss"]) == pytest.approx(loss.item(), rel=1e-5)
        assert float(noted["discriminator_loss"]) == pytest.approx(opposed.item(), rel=1e-5)
    for ours, theirs in ((generator, g), (critic, d)):
        for name, value in theirs.state_dict().items():
            assert_close(ours.state_dict()[name], value.numpy(), 1e-5)


def test_a_step_changes_each_network_once():
    engine, generator, critic = trainer(pairs(1))
    start = copy.deepcopy(generator.state_dict()), copy.deepcopy(critic.state_dict())
    seen = {}

    @engine.on(AdversarialIterationEvents.GENERATOR_MODEL_COMPLETED)
    def _between() -> None:
        seen["generator"] = copy.deepcopy(generator.state_dict())
        seen["critic"] = changed(start[1], critic)
        seen["gradients"] = [p.grad for p in critic.parameters()]

    engine.run()
    assert seen["critic"] == []  # although gradients went through it
    assert all(g is not None for g in seen["gradients"])
    assert changed(start[0], generator) == list(start[0])
    assert changed(seen["generator"], generator) == []
    assert changed(start[1], critic) == list(start[1])


def test_the_generator_learns_through_the_critic():
    engine, generator, _ = trainer(pairs(1), recon_loss_function=WeightedLoss(nn.L1Loss(), 0.0))
    start = copy.deepcopy(generator.state_dict())
    engine.run()
    assert changed(start, generator) == list(start)
    engine, generator, _ = trainer(
        pairs(1), recon_loss_function=WeightedLoss(nn.L1Loss(), 0.0), g_loss_function=GeneratorLoss(0.0)
    )
    engine.run()
    assert changed(start, generator) == []


def test_the_trainers_state_is_its_count():
    engine, _, _ = trainer()
    engine.run()
    assert dict(engine.state_dict()) == {"epoch_length": 2, "iteration": 2, "max_epochs": 1}


def test_gradients_are_clipped_before_the_step():
    norms = []

    class Spy(torch.optim.SGD):
        def step(self, closure=None):
            norms.append(float(nn.utils.get_total_norm([p.grad for g in self.param_groups for p in g["params"]])))

    torch.manual_seed(0)
    generator = LiUNetGAN(channels=TINY)
    engine, *_ = trainer(
        g_network=generator,
        g_optimizer=Spy(generator.parameters(), 1e-3),
        train_handlers=[ClipGradients(generator, max_norm=1e-3)],
    )
    engine.run()
    assert norms == pytest.approx([1e-3, 1e-3], rel=1e-2)


@pytest.mark.parametrize("broken", ["g_loss_function", "d_loss_function"])
def test_either_loss_that_is_not_finite_ends_the_run_before_its_step(broken):
    def not_a_number(*judgments):
        return sum(j.sum() for j in judgments) * torch.nan

    engine, generator, critic = trainer(train_handlers=[StopOnNonFiniteLoss()], **{broken: not_a_number})
    start = copy.deepcopy(generator.state_dict()), copy.deepcopy(critic.state_dict())
    with pytest.raises(TrainingError) as error:
        engine.run()
    assert_teaches(error.value, "nan at step 1")
    assert changed(start[1], critic) == []
    assert bool(changed(start[0], generator)) == (broken == "d_loss_function")


def test_a_critic_is_wrapped_as_the_network_is(tmp_path):
    critic = ConditionalDiscriminator(TINY)
    assert parallel_like(nn.Linear(1, 1), critic) is critic
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        wrapped = parallel_like(nn.parallel.DistributedDataParallel(nn.Linear(1, 1)), critic)
        assert isinstance(wrapped, nn.parallel.DistributedDataParallel)
        assert wrapped.module is critic
    finally:
        torch.distributed.destroy_process_group()


# --- the overlay ------------------------------------------------------------------------------------------------------


TOY = {"steps_per_epoch": 2, "batch_size": 2, "lr_size": 16, "val_crop": 64, "val_interval": 9}


def train(folder, max_epochs, before=None):
    """A training of seconds, with one loading process; ``before`` looks at it before it starts."""
    names = ("train", "fixed_scale", "li_unet_gan")
    network = {"_target_": "monai_iste.networks.baselines.li_unet_gan.LiUNetGAN", "scale": "@scale", "channels": TINY}
    flow = ConfigWorkflow(
        [str(find_config(name)) for name in names],
        logging_file=False,
        **{"scale": 3, "network_def": network, "output_dir": str(folder), "max_epochs": max_epochs, **TOY},
    )
    flow.initialize()
    if before is not None:
        before(flow.parser.get_parsed_content, flow.trainer)
    flow.run()
    return flow.parser.get_parsed_content


def check_settings(get, trainer):
    state = trainer.state
    assert (state.g_loss_function.weight, state.recon_loss_function.weight) == (0.01, 0.99)
    assert isinstance(state.recon_loss_function.loss, nn.L1Loss)
    assert (state.g_optimizer.defaults["lr"], state.d_optimizer.defaults["lr"]) == (1e-4, pytest.approx(1e-5))
    for scheduler in (get("lr_scheduler"), get("discriminator_lr_scheduler")):
        assert scheduler.eta_min == pytest.approx(0.05 * scheduler.base_lrs[0])
    assert get("curriculum").target == 3
    assert get("discriminator").layers[0].out_channels == TINY[0]
    batch = next(iter(trainer.data_loader))
    assert batch["image"].shape == batch["label"].shape == (2, 3, 48, 48)
    assert 0.5 < batch["label"].max() <= 1
    assert 0 < (batch["image"] - batch["label"]).abs().mean() < 0.1


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    return folder, train(folder, 2)


def test_the_overlay_is_the_papers_training(tmp_path):
    assert train(tmp_path, 1, check_settings)("curriculum").progress == 0  # the mean factor of the epoch that was last
    assert (tmp_path / "model.pt").is_file()


def test_both_networks_resume_from_a_checkpoint(trained, tmp_path, capsys):
    folder, get = trained
    assert get("curriculum").progress == 0.5
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    saved = torch.load(tmp_path / "checkpoint_epoch=2.pt", weights_only=True)
    assert set(saved) == {
        "network", "optimizer", "lr_scheduler", "report", "trainer",
        "discriminator", "discriminator_optimizer", "discriminator_lr_scheduler",
    }  # fmt: skip
    started = {}

    def watch(get, trainer):
        @trainer.on(Events.ITERATION_STARTED(once=5))
        def _note() -> None:
            started["critic"] = changed(saved["discriminator"], get("discriminator"))
            started["steps"] = float(next(iter(get("discriminator_optimizer").state.values()))["step"])
            started["progress"] = get("curriculum").progress

    get = train(tmp_path, 3, watch)
    assert "Resumed" in capsys.readouterr().out
    assert started == {"critic": [], "steps": 4, "progress": pytest.approx(4 / 6)}
    assert get("train#trainer").state.iteration == 6
    assert get("discriminator_lr_scheduler").last_epoch == get("lr_scheduler").last_epoch == 6
    assert changed(saved["discriminator"], get("discriminator"))


def test_the_same_seed_gives_the_same_networks(trained, tmp_path):
    get, again = trained[1], train(tmp_path, 2)
    for key in ("network_def", "discriminator_def"):
        assert changed(get(key).state_dict(), again(key)) == []
