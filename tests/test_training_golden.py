"""A whole training run of the original implementation, step by step."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from vitreid.configs import make_config
from vitreid.datasets import Batch
from vitreid.loss import build_loss
from vitreid.model import ModelSpec, ReidModel, load_weights
from vitreid.processor import Trainer, TrainingModule
from vitreid.solver import build_optimizers, build_schedule

GOLDEN = Path(__file__).parent / "golden" / "training_12_steps.safetensors"


@pytest.fixture(scope="module")
def golden():
    with safe_open(GOLDEN, "pt") as file:
        return json.loads(file.metadata()["case"]), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def build(case: dict, weights: Path) -> tuple[Trainer, ReidModel]:
    """The original's recipe through our config, its weights through our importer."""
    cfg = make_config(
        {
            "SOLVER.BASE_LR": case["base_lr"],
            "SOLVER.BIAS_LR_FACTOR": case["bias_lr_factor"],
            "SOLVER.MAX_EPOCHS": case["max_epochs"],
            "SOLVER.WARMUP_EPOCHS": case["warmup_epochs"],
        }
    )
    spec = ModelSpec(
        name="vit_base_patch16_224",
        img_size=case["size"],
        stride=case["stride"],
        embed_dim=case["embed_dim"],
        depth=case["depth"],
        num_heads=case["num_heads"],
        mlp_ratio=case["mlp_ratio"],
        sie_camera=True,
        sie_coe=case["sie_coef"],
        cameras=tuple(f"c{i + 1}" for i in range(case["num_cameras"])),
    )
    model = ReidModel(spec)
    loss = build_loss(cfg, case["num_classes"], model.embed_dim, model.num_branches)
    loss.heads[0].weight.data.copy_(load_weights(model, weights).classifiers[0])
    schedule = build_schedule(cfg, case["steps_per_epoch"])
    optimizers = build_optimizers(cfg, model, loss)
    return Trainer(TrainingModule(model, loss), optimizers, schedule, None, device=torch.device("cpu"), precision=torch.float32), model


def test_twelve_steps_of_the_original_are_reproduced(golden, tmp_path):
    """Loss of every step to 1e-4, and the embeddings of the trained model."""
    case, data = golden
    weights = tmp_path / "original.safetensors"
    save_file({name.removeprefix("state."): value for name, value in data.items() if name.startswith("state.")}, weights)
    trainer, model = build(case, weights)
    trainer.module.train()
    losses = []
    for step, index in enumerate(data["batch_index"]):
        epoch, iteration = divmod(step, case["steps_per_epoch"])
        trainer.schedule.apply(trainer.optimizers, epoch + 1, iteration)
        unknown = torch.full_like(index, -1)
        batch = Batch(data["input.image"][index], data["input.pid"][index], data["input.camid"][index], unknown, index)
        terms, _ = trainer.step(batch)
        losses.append(sum(terms.values()).item())
    assert losses == pytest.approx(data["loss_per_step"].tolist(), abs=1e-4, rel=0)
    with torch.inference_mode():
        final = model.eval().embed(data["input.image"], data["input.camid"])
    assert torch.allclose(final, data["final.eval.before"], atol=1e-4)
