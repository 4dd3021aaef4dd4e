"""The pretended GPU has the rules of a real one: what CUDA computes is computed, what it refuses is refused."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn
from torch.nn import functional as F

from tests.device_rules import CPU, GPU
from tests.pretended_device import Pretence, WrongDeviceError, pretended_gpu


@pytest.fixture
def gpu() -> Iterator[Pretence]:
    with pretended_gpu() as pretence:
        yield pretence


def here(*shape: int) -> Tensor:
    return torch.rand(*shape, device=GPU)


def there(*shape: int) -> Tensor:
    return torch.rand(*shape)


def test_the_machine_is_as_before_afterwards() -> None:
    before = torch.cuda.is_available(), torch.Generator, threading.Thread.run, torch.autocast.__init__
    with pretended_gpu():
        assert torch.cuda.is_available()
        x = here(3)
        assert x.device == GPU
    assert before == (torch.cuda.is_available(), torch.Generator, threading.Thread.run, torch.autocast.__init__)
    assert x.device == CPU
    assert np.asarray(x).shape == (3,)


ON_THE_GPU: dict[str, Callable[[], Any]] = {
    "factories": lambda: [torch.zeros(2, device="cuda"), torch.full((2,), 1.0, device=0), torch.arange(3, device=GPU)],
    "of values": lambda: [torch.tensor([1, 2], device=GPU), torch.as_tensor([1], device=GPU), here(2).new_tensor([1])],
    "of arrays": lambda: torch.as_tensor(np.zeros(3), device=GPU),
    "like": lambda: [torch.zeros_like(here(2)), here(2).new_zeros(4), torch.rand_like(here(2))],
    "views": lambda: [here(2, 3).T, here(4)[1:], here(2, 3).flatten(), here(3).detach(), *here(2, 2).unbind()],
    "moved": lambda: [there(2).to(GPU), there(2).to("cuda"), there(2).cuda(), there(2).to(here(1))],
    "moved back and forth": lambda: there(2).cuda().cpu().to(GPU, torch.float16, non_blocking=True),
    "types": lambda: [here(2).double(), here(2).to(torch.int32), here(2).type_as(here(1)), there(2).type_as(here(1))],
    "pinned": lambda: there(2).pin_memory().to(GPU, non_blocking=True),
    "copies": lambda: [here(2).clone(), copy.deepcopy(here(2)), copy.deepcopy(nn.Parameter(here(2)))],
    "made on the way": lambda: [
        F.one_hot(here(3).long(), 3),
        F.pad(here(1, 2), [1, 1]),
        torch.cdist(here(2, 2), here(2, 2)),
    ],
    "with numbers": lambda: [here(2) + 1, 1 / here(2), here(2).clamp(0, 1), here(2) * torch.tensor(2.0)],
    "numbers on both sides": lambda: torch.lerp(here(2), here(2), torch.tensor(0.5)),
    "indexed by a CPU": lambda: [here(4)[torch.tensor([1, 2])], here(4)[torch.tensor([True, False, True, True])]],
    "a shape": lambda: [here(4).view_as(there(2, 2)), here(1).expand_as(there(3))],
    "by several": lambda: [torch.cat([here(2), here(3)]), torch.stack([here(2), here(2)]), here(2, 2) @ here(2, 2)],
    "subclass": lambda: [MetaTensor(here(1, 3)), MetaTensor(here(1, 3)) + 1, MetaTensor(there(1, 3)).to(GPU)],
    "network": lambda: list(nn.BatchNorm2d(3).to(GPU, memory_format=torch.channels_last).state_dict().values()),
    "noise": lambda: torch.randn(3, generator=torch.Generator(GPU).manual_seed(1), device=GPU),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("make", ON_THE_GPU.values(), ids=ON_THE_GPU.keys())
def test_is_on_the_gpu(make: Callable[[], Any], inference: bool, gpu: Pretence) -> None:
    with torch.inference_mode(inference):
        made = make()
    for tensor in made if isinstance(made, list) else [made]:
        assert tensor.device == GPU
        assert tensor.is_cuda
        assert not tensor.is_cpu
        assert tensor.get_device() == 0
    assert gpu.refused == []


ON_THE_CPU: dict[str, Callable[[], Any]] = {
    "moved": lambda: [here(2).cpu(), here(2).to("cpu"), here(2).to(there(1)), here(2).to(CPU, torch.float16)],
    "like": lambda: [torch.zeros_like(here(2), device="cpu"), here(2).new_zeros(2, device="cpu")],
    "values": lambda: [torch.tensor([1.0]), torch.as_tensor(np.zeros(2)), torch.tensor(here(2).tolist())],
    "a number": lambda: torch.tensor(here(1).item()),
    "from an array": lambda: torch.from_numpy(np.zeros(2)),
    "noise": lambda: torch.randn(3, generator=torch.Generator().manual_seed(1)),
    "subclass": lambda: [MetaTensor(here(1, 3)).cpu(), MetaTensor(here(1, 3)).affine],
    "filled by the GPU": lambda: there(2).fill_(here(1)[0]),
    "copied from the GPU": lambda: there(2).copy_(here(2)),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("make", ON_THE_CPU.values(), ids=ON_THE_CPU.keys())
def test_is_on_the_cpu(make: Callable[[], Any], inference: bool, gpu: Pretence) -> None:
    with torch.inference_mode(inference):
        made = make()
    for tensor in made if isinstance(made, list) else [made]:
        assert tensor.device == CPU
        assert np.asarray(tensor).size
    assert gpu.refused == []


def assigned(tensor: Tensor, where: Any, value: Any) -> Tensor:
    tensor[where] = value
    return tensor


REFUSED: dict[str, Callable[[], Any]] = {
    "sum": lambda: here(2) + there(2),
    "a number of the GPU": lambda: there(2) * here(1)[0],
    "a number in place": lambda: torch.tensor(0.0).add_(here(1)[0]),
    "comparison": lambda: here(2) > there(2),
    "equal": lambda: torch.equal(here(2), there(2)),
    "where": lambda: torch.where(here(2) > 0, here(2), there(2)),
    "cat": lambda: torch.cat([here(2), there(2)]),
    "product": lambda: here(2, 2) @ there(2, 2),
    "convolution": lambda: F.conv2d(here(1, 1, 3, 3), there(1, 1, 3, 3)),
    "network left behind": lambda: nn.Conv3d(1, 1, 1)(here(1, 1, 2, 2, 2)),
    "batch norm": lambda: F.batch_norm(here(2, 3), there(3), here(3), training=True),
    "indices of a GPU": lambda: there(4)[torch.tensor([1], device=GPU)],
    "mask of a GPU": lambda: there(4)[torch.ones(4, dtype=torch.bool, device=GPU)],
    "values put": lambda: assigned(here(4), torch.tensor([0, 1], device=GPU), there(2)),
    "filled where": lambda: here(4).masked_fill_(torch.ones(4, dtype=torch.bool), 0),
    "index_select": lambda: here(4).index_select(0, torch.tensor([1])),
    "gather": lambda: here(4).gather(0, torch.tensor([1])),
    "isin": lambda: torch.isin(here(4), there(2)),
    "quantile": lambda: torch.quantile(here(4), torch.tensor(0.5)),
    "searchsorted": lambda: torch.searchsorted(here(4), there(2)),
    "bincount": lambda: torch.bincount(here(4).long(), weights=there(4)),
    "loss": lambda: F.cross_entropy(here(2, 3), torch.tensor([0, 1])),
    "class weights": lambda: F.cross_entropy(here(2, 3), torch.tensor([0, 1], device=GPU), weight=there(3)),
    "embedding_bag": lambda: F.embedding_bag(torch.tensor([[0, 1]]), here(3, 2)),
    "grid_sample": lambda: F.grid_sample(here(1, 1, 3, 3), there(1, 3, 3, 2), align_corners=False),
    "several at once": lambda: torch._foreach_lerp_([here(2)], [there(2)], 0.5),
    "generator": lambda: torch.randn(3, generator=torch.Generator(), device=GPU),
    "generator of the GPU": lambda: torch.randn(3, generator=torch.Generator("cuda")),
    "made by the CPU, of a subclass": lambda: MetaTensor(here(1, 3)) + MetaTensor(there(1, 3)),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("mix", REFUSED.values(), ids=REFUSED.keys())
def test_is_refused(mix: Callable[[], Any], inference: bool, gpu: Pretence) -> None:
    with torch.inference_mode(inference), pytest.raises(WrongDeviceError, match="device"):
        mix()
    assert len(gpu.refused) == 1


@pytest.mark.gpu
def test_a_real_gpu_has_the_same_rules() -> None:
    wrong = []
    for name, make in {**ON_THE_GPU, **ON_THE_CPU}.items():
        made = make()
        devices = {tensor.device for tensor in (made if isinstance(made, list) else [made])}
        if devices != {GPU if make is ON_THE_GPU.get(name) else CPU}:
            wrong.append(f"{name}: on {devices}")
    for name, mix in REFUSED.items():
        try:
            mix()
        except RuntimeError:
            continue
        wrong.append(f"{name}: not refused")
    assert wrong == []


@pytest.mark.parametrize("convert", [np.asarray, np.array, Tensor.numpy, lambda x: x.detach().numpy()])
@pytest.mark.parametrize("make", [lambda x: x, lambda x: MetaTensor(x[None]), lambda x: x[1:], nn.Parameter])
def test_is_no_array(convert: Callable[[Any], Any], make: Callable[[Tensor], Tensor], gpu: Pretence) -> None:
    x = make(here(3))
    with pytest.raises(TypeError, match=r"Use Tensor.cpu\(\)"):
        convert(x)
    assert gpu.refused
    convert(x.detach().cpu())


def test_slices_take_what_lies_elsewhere(gpu: Pretence) -> None:
    """As CUDA does: an assignment to a slice is a copy, which crosses devices; and stays where it was."""
    assert assigned(here(4), slice(1, 3), there(2)).device == GPU
    assert assigned(there(4), slice(1, 3), here(2)).device == CPU
    assert assigned(here(4), here(4) > 0.5, 1.0).device == GPU
    assert gpu.refused == []


def test_a_step_of_training(gpu: Pretence) -> None:
    """Mixed precision, gradients, clipping, fused AdamW and its state: everything stays on the GPU."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LeakyReLU(), nn.Conv2d(2, 1, 1)).to(GPU)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    scaler = torch.amp.GradScaler("cuda", init_scale=8)
    assert scaler.is_enabled()
    with torch.autocast("cuda", dtype=torch.float16):
        out = network(here(2, 1, 5, 5))
    assert out.dtype == torch.float16
    scaler.scale(out.float().square().mean()).backward()
    scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1e-3)
    before = [one.detach().clone() for one in network.parameters()]
    scaler.step(optimizer)
    scaler.update()
    gradients = [one.grad for one in network.parameters()]
    state = [value for values in optimizer.state.values() for value in values.values()]
    for tensor in [out, *gradients, *state, *network.state_dict().values()]:
        assert tensor.device == GPU
    assert any((old != new).any() for old, new in zip(before, network.parameters(), strict=True))
    assert gpu.refused == []
    assert gpu.computed["convolution_backward"] == 2


def test_a_backward_pass_in_python_sees_devices(gpu: Pretence) -> None:
    class Twice(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return 2 * x

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> Tensor:
            assert gradient.device == GPU
            return gradient * torch.full((2,), 2.0)

    x = here(2).requires_grad_()
    with pytest.raises(WrongDeviceError):
        Twice.apply(x).sum().backward()


@pytest.mark.parametrize("to", [CPU, GPU, None])
def test_files_know_devices(to: torch.device | None, tmp_path: Path, gpu: Pretence) -> None:
    torch.save({"here": here(2), "there": there(2)}, tmp_path / "x.pt")
    loaded = torch.load(tmp_path / "x.pt", map_location=to, weights_only=True)
    assert loaded["here"].device == (to or GPU)
    assert loaded["there"].device == (to or CPU)
    network = nn.Linear(2, 2, bias=False).to(GPU)
    network.load_state_dict({"weight": torch.ones(2, 2)})
    assert network.weight.device == GPU


def test_threads_have_the_same_gpu(gpu: Pretence) -> None:
    x, caught = here(2), []

    def work() -> None:
        caught.append(x.device)
        try:
            x + there(2)
        except WrongDeviceError as error:
            caught.append(type(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert caught == [GPU, WrongDeviceError]
    assert len(gpu.refused) == 1
