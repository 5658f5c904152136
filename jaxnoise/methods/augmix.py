"""AugMix: plain training whose predictions agree on an image and on two AugMix views of it."""

from __future__ import annotations

import dataclasses

from jaxnoise import augment
from jaxnoise.core.types import Method, Network, Spec
from jaxnoise.methods import _base
from jaxnoise.methods.noisymix import noisymix


def augmix(
  network: Network,
  *,
  spec: Spec,
  jsd: bool = True,
  jsd_weight: float = 12.0,
  first: _base.Transform = augment.identity,
  policy: _base.Transform | None = augment.augmix,
) -> Method:
  """Minimises CE(z^0, y) + jsd_weight JSD(z^0, z^1, z^2); without `jsd`, CE(z^1, y).

  x^0 is the image after `first`, x^1 and x^2 are two `policy` draws from x^0; all views go through
  one forward pass in train mode. It is `noisymix` without mixing and noise, and draws the same
  numbers from the same streams.

  Args:
    network: the model.
    spec: the run's static facts; `num_classes` is used.
    jsd: False trains on one AugMix view alone.
    jsd_weight: weight of the stability term, >= 0.
    first: (rng, image) -> image, one draw per example, shared by the views (flip and crop).
    policy: (rng, image) -> image, drawn for each further view; None is `augment.augmix`.

  Returns:
    A Method with one predictor, "student".

  Raises:
    InputError: for a negative weight.

  Source: Hendrycks et al. (2020), AugMix, eq. (1) and the authors' code.

  Example:
    >>> from jaxnoise import core, methods, models
    >>> network = models.network(models.wide_resnet(3, depth=10, widen_factor=1))
    >>> spec = core.Spec(num_train=2, num_classes=3, image_shape=(8, 8, 3))
    >>> methods.augmix(network, spec=spec).name
    'augmix'
  """
  made = noisymix(
    network,
    spec=spec,
    alpha=0.0,
    add_noise=0.0,
    mult_noise=0.0,
    jsd_weight=jsd_weight if jsd else 0.0,
    stages=(0,),
    random_level=False,
    first=first,
    policy=augment.augmix if policy is None else policy,
  )
  return dataclasses.replace(made, name="augmix")
