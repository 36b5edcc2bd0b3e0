"""Encoders of pictures: shapes, scales, refusals. Backbones have a test file of their own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Dict, Discrete

from agents import ALGORITHMS, SACConfig, UnsupportedSpaceError, check_agent, load, save
from agents.config import backbone_and_width
from agents.encoders import Encoder, PictureEncoder
from agents.observations import NUMBERS, PIXELS, Features, ObservationLayout, Picture
from agents.off_policy import random_batch
from supervised.backbones import BACKBONES, create_backbone

SMALL = Box(0, 255, (4, 36, 36), np.uint8)  # the smallest that the Nature CNN takes


def layout_and_features(space: Box | Dict, n: int = 3) -> tuple[ObservationLayout, Features]:
    layout = ObservationLayout(space)
    space.seed(0)
    samples: list[Any] = [space.sample() for _ in range(n)]
    batch: Any = (
        {name: np.stack([sample[name] for sample in samples]) for name in space.spaces}
        if isinstance(space, Dict)
        else np.stack(samples)
    )
    return layout, layout.features(batch, torch.device("cpu"))


# -- backbones ---------------------------------------------------------------------------------


def test_nature_cnn_maps() -> None:
    """Mnih et al. 2015, Methods: 84 x 84 becomes 20 x 20, 9 x 9 and 7 x 7."""
    backbone = create_backbone("nature_cnn", in_chans=4)
    maps = backbone(torch.zeros(2, 4, 84, 84))
    assert [tuple(m.shape) for m in maps] == [(2, 32, 20, 20), (2, 64, 9, 9), (2, 64, 7, 7)]
    counted = sum(p.numel() for p in backbone.parameters())
    assert counted == 32 * (4 * 64 + 1) + 64 * (32 * 16 + 1) + 64 * (64 * 9 + 1)


# -- encoders ----------------------------------------------------------------------------------


def test_numbers_stay_as_they_are() -> None:
    layout, features = layout_and_features(Box(-5, 5, (3,)))
    encoder: Any = Encoder(layout, "nature_cnn")
    assert encoder.size == 3
    assert not list(encoder.parameters())
    assert encoder(features) is features


def test_nature_network() -> None:
    """One hidden layer of 512 rectified units behind the convolutions."""
    layout, features = layout_and_features(Box(0, 255, (4, 84, 84), np.uint8))
    encoder: Any = Encoder(layout, "nature_cnn")
    assert tuple(encoder.pictures[0].linear.weight.shape) == (512, 7 * 7 * 64)
    out = encoder(features)
    assert out.shape == (3, 512)
    assert encoder.size == 512
    assert (out >= 0).all()
    assert (out == 0).any()


def test_pictures_are_scaled_to_one() -> None:
    encoder: Any = PictureEncoder(Picture(4, (36, 36)), "nature_cnn", "float32")
    white = torch.full((1, 4, 36, 36), 255, dtype=torch.uint8)
    by_hand = encoder.linear(encoder.backbone(torch.ones(1, 4, 36, 36))[-1].flatten(1)).relu()
    assert torch.equal(encoder(white), by_hand)


@pytest.mark.parametrize("size", [(35, 84), (84, 35), (8, 8), (1, 1)])
def test_too_small_pictures_are_refused(size: tuple[int, int]) -> None:
    layout = ObservationLayout(Box(0, 255, (4, *size), np.uint8))
    with pytest.raises(UnsupportedSpaceError, match=r"too small.*'nature_cnn'.*ResizeObservation"):
        Encoder(layout, "nature_cnn")


def test_smallest_pictures() -> None:
    layout, features = layout_and_features(SMALL)
    encoder: Any = Encoder(layout, "nature_cnn")
    assert encoder.pictures[0].linear.in_features == 64
    assert encoder(features).shape == (3, 512)


def test_colours_last() -> None:
    """[H, W, 3] reads the same as the same picture with its colours first."""
    last = Box(0, 255, (40, 48, 3), np.uint8)
    layout, features = layout_and_features(last)
    assert isinstance(features, dict)
    assert features[PIXELS].shape == (3, 3, 40, 48)
    last.seed(0)
    np.testing.assert_array_equal(features[PIXELS][0], np.moveaxis(last.sample(), -1, 0))
    encoder: Any = Encoder(layout, "nature_cnn")
    assert encoder.pictures[0].backbone.stages[0].in_channels == 3
    assert encoder(features).shape == (3, 512)


def test_stack_of_coloured_pictures() -> None:
    layout, features = layout_and_features(Box(0, 255, (2, 36, 36, 3), np.uint8))
    encoder: Any = Encoder(layout, "nature_cnn")
    assert encoder.pictures[0].backbone.stages[0].in_channels == 6
    assert encoder(features).shape == (3, 512)


def test_dict_of_numbers_and_pictures() -> None:
    """Numbers first, as they are, then 512 features of each picture from an encoder of its own."""
    space = Dict({"speed": Box(-1, 1, (2,)), "left": SMALL, "gear": Discrete(4), "right": SMALL})
    layout, features = layout_and_features(space)
    assert isinstance(features, dict)
    encoder: Any = Encoder(layout, "nature_cnn")
    out = encoder(features)
    assert out.shape == (3, 6 + 2 * 512)
    assert encoder.size == 6 + 2 * 512
    assert torch.equal(out[:, :6], features[NUMBERS])
    for i, name in enumerate(encoder.names):
        part = out[:, 6 + 512 * i : 6 + 512 * (i + 1)]
        assert torch.equal(part, encoder.pictures[i](features[name]))
    assert set(encoder.names) == {"left", "right"}
    assert not torch.equal(encoder.pictures[0].linear.weight, encoder.pictures[1].linear.weight)


def test_gradients_reach_every_parameter() -> None:
    layout, features = layout_and_features(Dict({"a": SMALL, "b": Box(-1, 1, (2,))}))
    encoder: Any = Encoder(layout, "nature_cnn")
    encoder(features).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())


def test_bfloat16_is_close_and_returns_float32() -> None:
    picture = Picture(4, (36, 36))
    exact, rounded = (PictureEncoder(picture, "nature_cnn", p) for p in ("float32", "bfloat16"))
    rounded.load_state_dict(exact.state_dict())
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (8, 4, 36, 36), dtype=torch.uint8, generator=random)
    expected, out = exact(pictures), rounded(pictures)
    assert out.dtype == torch.float32
    assert not torch.equal(out, expected)
    assert (out - expected).norm() < 0.02 * expected.norm()
    assert all(p.dtype == torch.float32 for p in rounded.parameters())


def test_precision_of_an_encoder() -> None:
    encoder = Encoder(ObservationLayout(SMALL), "nature_cnn", "bfloat16")
    assert [part.precision for part in encoder.pictures] == ["bfloat16"]


def test_signals_keep_their_size() -> None:
    """From PyTorch's own start the Nature CNN's features differ by thousandths between pictures:
    what moves in them is lost, and the first updates silence whole layers.
    """
    encoder = Encoder(ObservationLayout(Box(0, 255, (4, 84, 84), np.uint8)), "nature_cnn")
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (16, 4, 84, 84), generator=generator, dtype=torch.uint8)
    size = (pictures / 255).square().mean().sqrt()
    with torch.no_grad():
        features = encoder({NUMBERS: torch.zeros(16, 0), PIXELS: pictures})
    assert 0.5 * size < features.square().mean().sqrt() < 2 * size


# -- other backbones ---------------------------------------------------------------------------


def test_width_behind_a_colon() -> None:
    layout, features = layout_and_features(SMALL)
    encoder: Any = Encoder(layout, "nature_cnn:0.5")
    assert [stage.out_channels for stage in encoder.pictures[0].backbone.stages] == [16, 32, 32]
    assert encoder(features).shape == (3, 512)
    assert backbone_and_width("resnet18:0.25") == ("resnet18", 0.25)
    assert backbone_and_width("resnet18") == ("resnet18", 1.0)


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_encodes_picture_by_picture(name: str) -> None:
    """What the others in a batch are changes nothing, in training neither."""
    layout, features = layout_and_features(Box(0, 255, (2, 67, 67), np.uint8))
    assert isinstance(features, dict)
    torch.manual_seed(0)
    encoder: Any = Encoder(layout, f"{name}:0.125").train()
    with torch.no_grad():
        together = encoder(features)
        alone = encoder({key: value[1:2] for key, value in features.items()})
    assert together.shape == (3, 512)
    torch.testing.assert_close(together[1:2], alone, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        ("resnet17", "encoder must be one of nature_cnn, .*, not 'resnet17'"),
        ("resnet18:", "width of at most 4.0, like resnet18:0.25, and is 'resnet18:'"),
        ("resnet18:wide", "width of at most 4.0"),
        ("resnet18:0", "width of at most 4.0"),
        ("resnet18:-1", "width of at most 4.0"),
        ("resnet18:nan", "width of at most 4.0"),
        ("resnet18:1e9", "width of at most 4.0"),
    ],
)
def test_refused_names(encoder: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SACConfig(encoder=encoder)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_agent_takes_a_deep_backbone(name: str, tmp_path: Path) -> None:
    """It acts, is saved, and comes back the same; what is forged about its size is refused."""
    agent_type, config_type = ALGORITHMS[name]
    actions = Discrete(3) if name == "dqn" else Box(-1, 1, (2,))
    config = config_type(encoder="resnet18:0.125", hidden_sizes=(8,))
    agent: Any = agent_type(SMALL, actions, config, seed=0)
    save(agent, tmp_path)
    again = load(tmp_path)
    SMALL.seed(0)
    picture = SMALL.sample()
    np.testing.assert_array_equal(
        again.predict(picture, deterministic=True)[0], agent.predict(picture, deterministic=True)[0]
    )
    huge = replace(config, encoder="resnet152:4")
    with pytest.raises(ValueError, match="encoder"):
        check_agent(agent.state_dict(), name, SMALL, actions, huge)


@pytest.mark.parametrize("name", ["dqn", "sac"])
def test_updates_move_every_layer_of_a_resnet(name: str) -> None:
    agent_type, config_type = ALGORITHMS[name]
    actions = Discrete(3) if name == "dqn" else Box(-1, 1, (2,))
    config = config_type(encoder="resnet18:0.125", hidden_sizes=(8,))
    agent: Any = agent_type(SMALL, actions, config, seed=0)
    networks = [agent.network] if name == "dqn" else [agent.actor, agent.critics]
    before = [[p.detach().clone() for p in network.parameters()] for network in networks]
    for _ in range(3):
        assert all(np.isfinite(value) for value in agent.update(random_batch(agent, 8)).values())
    for network, old in zip(networks, before, strict=True):
        for p, start in zip(network.parameters(), old, strict=True):
            assert not torch.equal(p, start)
