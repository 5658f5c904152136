"""The network of the authors' stored training steps, and such steps taken with a method."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnoise.core import Network, Output, Spec, TrainState
from jaxnoise.training import optim

SPEC = Spec(num_train=6, num_classes=5, image_shape=(6, 6, 3), batch_size=6)
TENSORS = (
  "conv.weight", "bn.weight", "bn.bias", "fc.weight", "fc.bias", "bn.running_mean",
  "bn.running_var",
)  # fmt: skip


def torch_network() -> Network:
  """3x3 convolution, batch norm whose running variance is unbiased, ReLU, mean, dense layer.

  Parameters and statistics have PyTorch's names and layouts.
  """

  def apply(params, batch_stats, image, *, train=False, rng=None, **rest):
    del rng, rest
    kernel = jnp.transpose(params["conv.weight"], (2, 3, 1, 0))
    layout = ("NHWC", "HWIO", "NHWC")
    flat = image.reshape(-1, *image.shape[-3:])
    h = jax.lax.conv_general_dilated(flat, kernel, (1, 1), "SAME", dimension_numbers=layout)
    mean, var = batch_stats["bn.running_mean"], batch_stats["bn.running_var"]
    if train:
      values = h.reshape(-1, h.shape[-1])
      count = values.shape[0]
      new = jnp.mean(values, 0), jnp.var(values, 0)
      batch_stats = {
        "bn.running_mean": 0.9 * mean + 0.1 * new[0],
        "bn.running_var": 0.9 * var + 0.1 * new[1] * count / (count - 1),
      }
      mean, var = new
    row = lambda x: x[None, None, None, :]
    h = (h - row(mean)) / jnp.sqrt(row(var) + 1e-5)
    h = jax.nn.relu(h * row(params["bn.weight"]) + row(params["bn.bias"]))
    logits = jnp.mean(h, axis=(1, 2)) @ params["fc.weight"].T + params["fc.bias"][None, :]
    return Output(logits.reshape(*image.shape[:-3], -1), batch_stats, {})

  return Network(lambda rng, image: ({}, {}), apply, 0)


def block(position):
  """A transform that takes the three channels at a position: one of several stored views."""
  return lambda rng, image: image[..., 3 * position : 3 * position + 3]


def take_steps(data, name, method, stored):
  """Takes the four stored steps, each compared with the authors' loss, network and teacher.

  Args:
    data: the golden file.
    name: of the routine.
    method: whose views pick channels of the image.
    stored: names of the stored views that the image is made of, three channels each.
  """
  read = lambda key: data[f"step/{name}/{key}"]
  start = {key: jnp.asarray(read(f"init/{key}")) for key in TENSORS}
  params = {k: v for k, v in start.items() if "running" not in k}
  stats = {k: v for k, v in start.items() if "running" in k}
  config = {"name": "sgd", "momentum": float(read("momentum")), "nesterov": True}
  config["weight_decay"] = float(read("weight_decay"))
  sgd = optim.make_optimizer(config, lambda step: float(read("init_lr")))
  state = TrainState.create(jax.random.key(0), params, stats, opt_state=sgd.init(params))
  state = method.init_state(state)

  @jax.jit
  def step(state, batch):
    key = jax.random.key(0)
    (loss, aux), grads = method.grad_fn(state)(state.params, batch, key)
    updates, opt_state = sgd.update(grads, state.opt_state, state.params, value=loss)
    new = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=aux.batch_stats,
      opt_state=opt_state,
    )
    return method.post_step(new, batch, aux, key), loss

  for t in range(4):
    views = [np.moveaxis(read(view)[t], 1, -1) for view in stored]
    batch = {"image": jnp.concatenate(views, axis=-1), "label": jnp.asarray(read("labels")[t])}
    state, loss = step(state, batch)
    np.testing.assert_allclose(loss, read("loss")[t], rtol=1e-7, err_msg=f"loss of step {t}")
    networks = {"after": {**state.params, **state.batch_stats}}
    if f"step/{name}/teacher_after/fc.bias" in data:
      networks["teacher_after"] = {**state.ema_params, **state.ema_batch_stats}
    for part, tensors in networks.items():
      for key in TENSORS:
        expected = read(f"{part}/{key}")[t]
        message = f"{part}/{key} of step {t}"
        np.testing.assert_allclose(tensors[key], expected, rtol=1e-7, atol=1e-9, err_msg=message)
