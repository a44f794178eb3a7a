"""The sweeps that several figures share.

Each is split into independent chunks, cached on disk (``engine``) and computed once. A chunk is a
block of samples at one noise level. It is named by all its inputs and by the code that computes it,
so the same sweep can be interrupted, continued, extended, or spread over processes. A sweep's
``.plan`` gives its chunks without running them.

==========  ======================================================================================
engine      experiments, their chunks and the cache; ``code``: which code a result depends on
study       what an experiment needs: the data, the denoiser and the judges of a profile
sweeps      the same ground truths turned at every level; ``multi_class``, ``conditional``,
            ``repeated`` are the profile's
starts      samples without a ground truth at every level: artificial start, G-Turn,
            other laws
paths       what happens along a generation, and on the way back: KS statistics, norms, correlations
affine      how affine a denoiser is at every level
retention   T_m and T_s of the multi-class sweep; ``class_gate``: whether T_s may be read
chains      outputs that are turned again: chains of U-Turns
classes     class retention of the ideal U-Turn from below, by a classifier of noisy images
entropy     the entropy of the class given a noisy image: from denoising errors, from a classifier
spaces      T_m in pixels and in features: whose image is an output?
together    what changes together, in pixels or in features
locality    how far a denoiser must look
own_time    T_m of every image, and its traits
predicted   noise scales from the training images alone, with intervals
memory      copies of training images among outputs, for four scores
scores      the network beside the score that memorises, that of a Gaussian, and a local one
exact       what is known of the data's own laws without any network
==========  ======================================================================================
"""

from .affine import Affinity, affinity
from .chains import Chains, band, band_variances, chains, sampling_gains
from .classes import (
    ClassBound,
    class_bound,
    noise_judge,
    profile_class_bound,
    shipped_class_bound,
)
from .entropy import (
    ClassEntropy,
    class_entropy,
    classifier_surprise,
    entropy_images,
    mixture_entropy,
    profile_class_entropy,
)
from .exact import (
    class_mixture,
    class_spectra,
    empirical_retention,
    mixture_bench,
    mixture_retention,
)
from .locality import Locality, locality_gaps, outputs_alike
from .memory import (
    Memory,
    memory_by_score,
    memory_of_draws,
    memory_of_sweep,
    real_images_compared,
)
from .own_time import OwnTimes, own_times, repeats_around
from .paths import (
    GenerationPath,
    generation_path,
    profile_generation,
    return_paths,
    reverse_trajectory,
)
from .predicted import predicted_scales
from .retention import Transitions, class_gate, transitions
from .scores import (
    Deviation,
    KeptByScore,
    deviation,
    identity_at_all_levels,
    identity_by_score,
    local_sweep,
    training_sweep,
)
from .spaces import Kept, kept_in, spaces_at_hand
from .starts import initial_laws, late_levels, shortened_runs, start_sweep
from .study import Study, Workbench, prepare, second_bench
from .sweeps import (
    Repeats,
    Sweep,
    conditional,
    deterministic,
    fresh_u_turn,
    multi_class,
    profile_sweep,
    repeated,
    u_turn_sweep,
)
from .together import changes_together

__all__ = [
    "Affinity",
    "Chains",
    "ClassBound",
    "ClassEntropy",
    "Deviation",
    "GenerationPath",
    "Kept",
    "KeptByScore",
    "Locality",
    "Memory",
    "OwnTimes",
    "Repeats",
    "Study",
    "Sweep",
    "Transitions",
    "Workbench",
    "affinity",
    "changes_together",
    "band",
    "band_variances",
    "chains",
    "class_bound",
    "class_entropy",
    "class_gate",
    "class_mixture",
    "class_spectra",
    "classifier_surprise",
    "conditional",
    "deterministic",
    "deviation",
    "empirical_retention",
    "entropy_images",
    "fresh_u_turn",
    "generation_path",
    "identity_at_all_levels",
    "identity_by_score",
    "initial_laws",
    "kept_in",
    "late_levels",
    "local_sweep",
    "locality_gaps",
    "memory_by_score",
    "memory_of_draws",
    "memory_of_sweep",
    "mixture_bench",
    "mixture_entropy",
    "mixture_retention",
    "multi_class",
    "noise_judge",
    "outputs_alike",
    "own_times",
    "predicted_scales",
    "prepare",
    "profile_class_bound",
    "profile_class_entropy",
    "profile_generation",
    "profile_sweep",
    "real_images_compared",
    "repeated",
    "repeats_around",
    "return_paths",
    "reverse_trajectory",
    "sampling_gains",
    "second_bench",
    "shipped_class_bound",
    "shortened_runs",
    "spaces_at_hand",
    "start_sweep",
    "training_sweep",
    "transitions",
    "u_turn_sweep",
]
