"""Checkpoints of denoising-diffusion-pytorch's trainer: weights for an external network."""

import pytest
import torch
from foreign import LucidrainsUnet, filled, lucidrains_file

import etsdm
from etsdm.errors import CheckpointError, IntegrityError
from etsdm.interop import Options, convert
from etsdm.schedules import Cosine

GIVEN = {"target": "v", "condition_map": "e-tsdm", "backbone": {"image_size": 8}}


@pytest.mark.parametrize("weights", ["ema", "current"])
def test_weights_come_into_a_network_that_is_given(tmp_path, weights):
    networks = {"ema": filled(LucidrainsUnet(), 1), "current": filled(LucidrainsUnet(), 2)}
    torch.save(lucidrains_file(networks["ema"], networks["current"]), tmp_path / "model-1.pt")
    report = convert("lucidrains", tmp_path / "model-1.pt", tmp_path / "out", Options(model=GIVEN, weights=weights))
    found = etsdm.load(tmp_path / "out", backbone=LucidrainsUnet())
    assert (found.schedule, found.target.type_name) == (Cosine(), "v")
    x, t = torch.ones(1, 1, 8, 8), torch.tensor([39.0])
    assert torch.equal(found.output(x, t), networks[weights](x, torch.tensor([20.0])))
    assert report.parity == {"tensors": 6, "tensors_identical": True, "forward": "not run: external network"}
    assert report.used["network.init_conv.bias"] == ("ema.ema_model." if weights == "ema" else "model.") + "model.init_conv.bias"


def test_what_is_missing_or_other_is_named(tmp_path):
    path = tmp_path / "model-1.pt"
    good = lucidrains_file(filled(LucidrainsUnet(), 1), filled(LucidrainsUnet(), 2))
    ema = good["ema"]
    uneven = {**ema, "ema_model.alphas_cumprod": torch.linspace(0.9, 0.1, 50)}
    cases = [
        (good, {}, r"backbone\.image_size: not in the file; give it"),
        (good, {"backbone": {"image_size": 8}}, r"target: not in the file; give that of its objective"),
        ({**good, "lora": 1}, GIVEN, r"'lora' is missing or not expected"),
        ({"model": good["model"]}, GIVEN, r"'ema' is missing or not expected"),
        ({**good, "ema": {**ema, "x": torch.ones(1)}}, GIVEN, r"ema: key 'x' is not of GaussianDiffusion"),
        ({**good, "ema": uneven}, GIVEN, r"ema: alphas_cumprod: .*give schedule"),
        (
            lucidrains_file(filled(LucidrainsUnet(2), 1), filled(LucidrainsUnet(2), 2)),
            GIVEN,
            r"takes 2 channels and predicts 1, as with self_condition; .*etsdm\.wrap",
        ),
        ({**good, "ema": {key: value for key, value in ema.items() if "final_conv" not in key}}, GIVEN, r"final_conv\.weight is missing"),
    ]
    for content, given, message in cases:
        torch.save(content, path)
        with pytest.raises(CheckpointError, match=message):
            convert("lucidrains", path, tmp_path / "out", Options(model=given))
    torch.save({**good, "ema": {**ema, "ema_model.model.final_conv.bias": torch.tensor([torch.inf])}}, path)
    with pytest.raises(IntegrityError, match=r"weight 'network\.final_conv\.bias' is not finite"):
        convert("lucidrains", path, tmp_path / "out", Options(model=GIVEN))
    assert not (tmp_path / "out").exists()
