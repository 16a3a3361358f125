"""How large a generator is and how long it is trained, by name. Numbers only; nothing here reads an image.

`faithful` is the schedule that SinGAN-Seg's authors published; the others were found by trying on polyps and phantoms.
At 64 px, on one thread of a server's core: `demo` 4 to 5 seconds a case, `fast` about 23, `faithful` 43 minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from site_node.generators.per_case.pyramid import Norm


@dataclass(frozen=True)
class Preset:
    """One schedule. Sizes in pixels; where a field has one value for each scale, the last holds for all finer ones."""

    name: str

    # The scales: see pyramid.scale_sizes. shortest_px decides between copying and mud: a generator sees 11 px at once,
    # so a well-trained coarsest scale of 14 px knows the layout by heart, and one of 26 px breaks lesions into pieces.
    factor: float
    shortest_px: int
    longest_px: int
    max_scales: int | None

    # The networks.
    width: int
    widest: int
    double_every: int
    generator_norm: Norm
    critic_norm: Norm
    # A finer generator starts as the plain upscaling. The authors start from the coarser scale's weights alone; a short
    # schedule spends half its steps on unlearning those.
    quiet_start: bool

    # The steps.
    iterations: tuple[int, ...]
    critic_steps: int  # for each step of the generator
    one_noise: bool  # an iteration's critic steps share one noise, on coarser outputs of their own
    reuse_fake: bool  # the generator's step works on the last critic step's fake, not on a fresh one
    rebuilt_passes: int  # as how many passes a reconstruction counts in BatchNorm's running statistics
    bank: int | None  # coarser outputs drawn beforehand for a scale's training; None: a fresh one for every step
    crop_px: int | None  # side of the random crop that a step works on; None: the whole image

    # The losses and their optimiser, Adam.
    learning_rate: float
    betas: tuple[float, float]
    decay_at: float  # share of a scale's iterations after which the rate is multiplied by decay_factor
    decay_factor: float
    penalty_weight: float
    penalty_every: int  # the penalty is taken at each n-th critic step, n times as strong
    reconstruction_weight: float
    noise_share: float  # noise amplitude over the root mean square error of the upscaled reconstruction

    def width_of(self, scale: int) -> int:
        """Feature channels at a scale, 0 the coarsest."""
        return min(self.width << (scale // self.double_every), self.widest)

    def iterations_of(self, scale: int) -> int:
        """Iterations at a scale, 0 the coarsest."""
        return self.iterations[min(scale, len(self.iterations) - 1)]


# The authors' iteration makes three generator passes after its critic steps and throws two away, as the optimiser's
# step stands outside the loop. What remains is one step on the fake that the critic saw last, and three passes' worth
# of running statistics. They draw z* anew in each iteration of the coarsest scale, which teaches every noise to rebuild
# the image; here it is fixed, as their paper has it.
FAITHFUL = Preset(
    name="faithful",
    factor=0.75,
    shortest_px=25,
    longest_px=250,
    max_scales=None,
    width=32,
    widest=128,
    double_every=4,
    generator_norm="batch",
    critic_norm="batch",
    quiet_start=False,
    iterations=(2000,),
    critic_steps=3,
    one_noise=True,
    reuse_fake=True,
    rebuilt_passes=3,
    bank=None,
    crop_px=None,
    learning_rate=5e-4,
    betas=(0.5, 0.999),
    decay_at=0.8,
    decay_factor=0.1,
    penalty_weight=0.1,
    penalty_every=1,
    reconstruction_weight=10.0,
    noise_share=0.1,
)

# Short schedules. The coarsest scale is cheap and decides where the lesion lies, so it gets most of the steps. A strong
# reconstruction term keeps colours and the mask in place while the critic is still weak; the critic has no norm, since
# its penalty is on the gradient of every image alone.
FAST = replace(
    FAITHFUL,
    name="fast",
    shortest_px=22,
    longest_px=512,
    max_scales=5,
    widest=32,
    critic_norm="none",
    quiet_start=True,
    iterations=(700, 200, 120, 60),
    critic_steps=1,
    one_noise=False,
    reuse_fake=False,
    rebuilt_passes=1,
    bank=64,
    crop_px=40,
    learning_rate=1e-3,
    penalty_every=2,
    reconstruction_weight=50.0,
)

DEMO = replace(
    FAST,
    name="demo",
    shortest_px=14,
    max_scales=4,
    iterations=(280, 55, 25, 12),
    bank=32,
    betas=(0.0, 0.99),
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (FAITHFUL, FAST, DEMO)}
