"""What is claimed, by whom, the rule that judges it, and what each answer means in plain words. A table, no code.

C: the paper's (abstract and section titles). P: the companion papers'. O, P2.3, P4.4, P4.5: ours. All rules are ours; the numbers in them
are ``verdicts.MARGINS``. "Lies below" and the like are said of 95 % intervals.
"""

from __future__ import annotations

from .verdicts import margin as m

# id: (statement, whose it is, rule)
STATEMENTS = {
    "C1": (
        "There is a memorization time T_m: below it the U-Turn returns (nearly) its ground truth, beyond it it does not.",
        "paper",
        f"Identity retention lies above {m('returned'):g} at the smallest sigma_u and below {m('lost'):g} at the largest. T_m lies inside the grid.",
    ),
    "C2": (
        "There is a speciation time T_s > T_m, beyond which outputs belong to other classes.",
        "paper",
        f"Gate: T_s can be read. log T_s - log T_m (paired) lies above 0. Class retention at the largest sigma_u lies below chance + {m('chance'):g}.",
    ),
    "C3": (
        "T_m and T_s depend on the ground truth (no self-averaging).",
        "paper",
        "Repeats of single ground truths, against one curve common to all (parametric bootstrap). Holds: p < 0.01, for T_m and for T_s. Does not hold: the "
        f"spread of log T that chance does not explain lies below {m('own spread'):g}. Gate for the half on T_s: T_s can be read.",
    ),
    "C4": (
        "Gaussian test: U-Turn auto-correlation and its Gaussian approximation agree beyond T_s, and approximately on [T_m, T_s].",
        "paper",
        f"Gate: T_s can be read. C - C_Gauss (centred) lies within {m('affine'):g} at all sigma_u >= T_s, within {m('nearly affine'):g} on [T_m, T_s]. "
        f"1 - R^2 of the held-out affine regression lies below {m('affine'):g} at all sigma >= T_s (Figure 14). Intervals are corrected for the number of levels.",
    ),
    "C5": (
        "The result is insensitive to how the reverse process is initialised at the large final time.",
        "paper",
        f"Only the law at sigma_max changes (same seeds). The median image moves by less than {m('moved'):g} of the distance between unrelated images; the paired change of the "
        f"Frechet distance lies within {m('loss'):g} of the floor. Both for every law.",
    ),
    "C6": (
        "The U-Turn needs fewer network calls at the same Frechet distance; the artificial start fails at small T_u.",
        "paper",
        f"Gate: free samples are good. At some sigma_u with at most 1/{m('fewer calls'):g} of the calls: the Frechet distance exceeds the full run's by less than {m('loss'):g} of the floor; it lies "
        f"below that of a full run shortened to as many calls; outputs are not nearer to their ground truths than other real images are (ratio above {m('nearness'):g}). "
        f"The artificial start at T_m exceeds the full run by more than {m('loss'):g} of the floor. Intervals are corrected for the number of levels.",
    ),
    "C7a": (
        "Deterministic sampler: there is no randomness in the output.",
        "paper",
        "Two runs from the same x_u give the same bits.",
    ),
    "C7b": (
        "Deterministic sampler: the image stops changing as T_u grows.",
        "paper",
        f"Between the two largest sigma_u (same eps) the median image moves by less than {m('moved'):g} of the distance between unrelated images, and fewer than {m('moved'):.0%} of the "
        "outputs change class (data with classes).",
    ),
    "C7c": (
        "Deterministic sampler: no speciation transition is seen.",
        "paper",
        "Gate: classes can be read. Class retention of the ODE lies above its midpoint (1 + 1/K)/2 at every sigma_u, up to the largest.",
    ),
    "C8": (
        "The kernel distance as a function of T_u selects the best T_u.",
        "paper",
        "Gate: free samples are good. The level of the smallest kernel distance lies inside the grid.",
    ),
    "O1": (
        "C = E|D|^2 / E|x_0|^2: under the exact reverse SDE x_0 and y_0 are independent draws from p(. | x_u).",
        "ours",
        f"C - E|D|^2 / E|x_0|^2 (paired over ground truths) lies within {m('identity'):g} at every sigma_u. Intervals are corrected for the number of levels.",
    ),
    "O2": (
        "While the noise dominates, the authors' KS rule flags pixels at the rate of Gaussian numbers (2.6 % at n = 256).",
        "ours",
        f"At the level nearest to sigma = 10 the flagged fraction minus the rule's null rate lies within {m('null rate'):g}.",
    ),
    "O4": (
        "The network's T_m is not recall: training and held-out images are returned alike, and sooner lost than by a score that has "
        "memorised the training images.",
        "ours",
        f"T_m(training) / T_m(held out) of the network lies within a factor of {m('alike'):g}. T_m of the empirical score (training starts) lies above that of the network.",
    ),
    "O5": (
        "The two halves of C4 are one: 1 - R^2 = (C - C_Gauss) / C (C centred) for an exact denoiser.",
        "ours",
        f"Their difference lies within {m('affine'):g} at every level with C > 0.1. Intervals are corrected for the number of levels.",
    ),
    "P2.1": (
        "Generation has phases: which parts of the U-Net matter changes with the noise level.",
        "P2",
        "Two change points of the shares on half of the images: the borders that are drawn. On the other half, for at least one border: Spearman's correlation over the parts is lower "
        f"between the phases than within them, by more than {m('phases'):g}. Intervals are corrected for two borders.",
    ),
    "P2.2": (
        "Leaving parts out by a schedule makes inference about 27 % faster with minimal degradation.",
        "P2",
        f"Schedule chosen on other seeds. Wall time saved: more than {m('time saved'):.0%} in all of at least 5 interleaved rounds. Median image distance: below {m('budget'):g} of that between unrelated images. "
        f"Frechet distance: raised by less than {m('loss'):g} of the floor (paired). Gate for the last: free samples are good.",
    ),
    "P2.3": (
        "At equal cost the shortcut comes closer to the full run's images than fewer steps do, and than cached deep features do.",
        "ours",
        "Its median image distance minus that of each (paired) lies below 0. Equal operations, to one step of the sampler or one cell of the schedule.",
    ),
    "P3.1": (
        "The sampling trajectory is nearly straight.",
        "P3",
        f"The greatest distance from the chord lies below {m('straight'):.0%} of the length.",
    ),
    "P3.2": (
        "The denoising trajectory converges faster than the sampling trajectory, and both come ever nearer to the end.",
        "P3",
        f"As drawn, in shares of the first distance. In more than {m('generations'):.0%} of the generations r has a smaller share left than x at every level between the first and the last; in as many neither "
        "distance ever grows by more than 1 % of that between unrelated images.",
    ),
    "P3.4": (
        "The network is close to the optimal denoiser at large noise and parts from it below.",
        "P3",
        f"On the model's paths and on the optimal ones, at every level above 12: the distance of the two lies below {m('close'):g} of its greatest value on that path, and (paired) below the distance of the "
        "data mean from the optimal denoiser.",
    ),
    "P3.5": (
        "Stopping early and taking the denoised image costs little.",
        "P3",
        f"Gate: free samples are good. Stopped at 1/1.25 of the calls the Frechet distance is raised by less than {m('loss'):g} of the floor (paired).",
    ),
    "P4.1": (
        "There is an optimal finite diffusion time for a start from plain noise.",
        "P4",
        "The T that minimises G(T) + KL[p_T | noise] lies inside the grid.",
    ),
    "P4.2": (
        "By the bound an auxiliary law allows a shorter diffusion at no loss.",
        "P4",
        f"For some law KL[p_T | law] + G(T) minus the minimum of KL[p_T | noise] + G(T) lies below 0 at the largest T that is {m('shorter'):g} times smaller than where that minimum is. "
        "Intervals are corrected for the number of laws.",
    ),
    "P4.3": (
        "With an auxiliary law the quality of samples is kept at a shorter diffusion.",
        "P4",
        f"Gate: free samples are good. At some T with at most 1/{m('fewer calls'):g} of the calls: the Frechet distance from the mixture exceeds the full run's by less than {m('loss'):g} of the floor; it lies "
        f"below that of a full run shortened to as many calls; plain noise at that T exceeds the full run by more than {m('loss'):g} of the floor. Intervals are corrected for the number of levels.",
    ),
    "P4.4": (
        "One axis for both papers: at a short diffusion, the more the start knows the better the samples: noise, Gaussian (G-Turn), mixture, ground truth (U-Turn).",
        "ours",
        "Gates: T_s can be read; free samples are good. At the quality level nearest to T_s each Frechet distance minus the next in this order lies above 0.",
    ),
    "P4.5": (
        "The best T for an auxiliary law, where its denoiser becomes as good as the network, is the same against the memorising score on training images and by losses on held-out images.",
        "ours",
        f"For the Gaussian and the mixture the two lie within a factor of {m('same T'):g} of each other, and inside the grid.",
    ),
}
PAPER_CLAIMS = tuple(id for id, (_, source, _) in STATEMENTS.items() if source == "paper")

# id: (what "holds" means, what "does not hold" means), in plain words
MEANINGS = {
    "C1": ("A weak turn gives the image back, a strong one does not.", "There is no level at which the U-Turn goes over from giving its image back to losing it."),
    "C2": ("An output first stops being its image, and only later leaves its class.", "The class is not lost after the image, or not lost at all."),
    "C3": ("Some images are forgotten sooner than others, by more than chance.", "All images are forgotten at the same level."),
    "C4": ("Where the class is lost, a Gaussian with the same covariance predicts all that is left.", "The data are not yet Gaussian to the score where the class is lost: a Gaussian predicts too little memory."),
    "C5": ("However the run is started, the same images come out.", "How the run is started shows in the images."),
    "C6": ("Starting late from a noisy real image saves calls that fewer steps would not.", "The U-Turn saves nothing that fewer steps do not save as well, or it pays with copies."),
    "C7a": ("The way back is a function: the same start gives the same image.", "The same start gave two images."),
    "C7b": ("For a strong turn the image depends on the noise alone, and no longer on the level.", "The image still changes at the largest levels used."),
    "C7c": ("The output keeps the class of its ground truth at every level.", "The class is lost with the deterministic sampler as well."),
    "C8": ("There is a best level, neither the smallest nor the largest.", "The smallest distance is at an end of the grid: an unchanged real image cannot be beaten."),
    "O1": ("One call of the network tells how much of the image a whole U-Turn keeps.", "Network and sampler together do not draw from the posterior that the network stands for."),
    "O2": ("At large noise the test sees Gaussian pixels, as it should.", "The test flags other than the expected number of pixels where nothing but noise is to be seen."),
    "O4": ("The network treats images that it was trained on like images that it has never seen.", "The network remembers its training images."),
    "O5": ("Two measurements of 'how Gaussian' give one number.", "Two measurements that agree for an exact score differ: the network's is not exact."),
    "P2.1": ("Early and late in a generation, other parts of the network do the work.", "The same parts matter from the beginning to the end."),
    "P2.2": ("A quarter of the work can be left out and is not missed.", "What is left out is missed, or saves too little."),
    "P2.3": ("Leaving parts out is better than the two simpler ways of saving.", "One of the two simpler ways of saving is at least as good."),
    "P3.1": ("The path from noise to image is hardly bent.", "The path from noise to image is bent."),
    "P3.2": ("What the network believes is settled sooner than the noisy image is.", "Relative to where it starts, the denoised image is not sooner at its end than the noisy one: it is nearer only in plain distance."),
    "P3.4": ("At large noise the network is the best denoiser there is; further down it goes its own way.", "At large noise the network is not nearer to the best denoiser than the mean image is, or it does not part from it further down."),
    "P3.5": ("The last steps can be left out.", "The last steps are needed."),
    "P4.1": ("Neither the shortest nor the longest diffusion is best.", "The longest diffusion within reach is best: the network is never worse than the answer 0."),
    "P4.2": ("A start from a fitted law loses nothing in the bound, although it is later.", "No fitted law allows a later start without loss in the bound."),
    "P4.3": ("A fitted start saves calls that fewer steps would not.", "A fitted start saves nothing that fewer steps do not save as well."),
    "P4.4": ("Every bit of knowledge in the start makes the samples better.", "More knowledge in the start does not always give better samples."),
    "P4.5": ("Where to start from a fitted law can be found without knowing the true score.", "The two ways to find the best start disagree."),
}  # fmt: skip
UNDECIDED = {
    "too weak to tell": "The interval contains the margin: with these samples it could be either.",
    "not testable here": "The instrument cannot see it with this network: nothing is said, for or against.",
}

CHANGES = (
    "Rules changed on 2026-11-24, after first results and before the runs that are shown, because some rewarded few samples, some judged with instruments that could not see, and some were identities. "
    "Every rule now compares an interval with a fixed margin and has four answers (before: values, or half-widths of intervals, in C1, C4, C5, C6, C7, C8, O1, O2, O4, O5, P4.3, P4.4, P4.5). T_s is read only where a network that is told the class keeps it "
    "(C2, C3, C4, C7c, P4.4), and quality is judged only around good samples, with margins in units of the floor (C6, C8, P2.2, P3.5, P4.3, P4.4). C6 and P4.3 must beat a full run with as many calls. C7 became three claims. "
    "P3.2 is judged in the shares that its figure draws, P3.4 against the mean of the data, P2.1 at the borders that are drawn. O3 and P3.3 are identities: tests of the code now, no findings."
)
