"""Other libraries' names for what exists here, and explanations of their features that do not.

Names are grouped by kind (`format`, `parameter`, `optimizer` …), the argument of `errors.unknown`. They are compared
without case, hyphens, underscores and spaces. A name that means something else is never suggested; it is explained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping


def simplified(name: str) -> str:
    """A name in lower case without hyphens, underscores and spaces."""
    return re.sub(r"[-_\s]", "", name.casefold())


def _by_spelling(ours: Mapping[str, str]) -> dict[str, str]:
    """{"lr": "learning_rate lrate"} as {"learningrate": "lr", "lrate": "lr"}."""
    return {simplified(word): name for name, words in ours.items() for word in words.split()}


def _each(words: str, explanation: str) -> dict[str, str]:
    """One explanation for several names; `{}` is replaced by the name."""
    return {simplified(word): explanation.format(word) for word in words.split()}


SAME: dict[str, dict[str, str]] = {
    "format": _by_spelling(
        {
            "float32": "fp32 single f32 full binary32",
            "bf16": "bfloat16 bfloat brainfloat16",
            "fp16": "float16 half f16 binary16",
            "tf32": "tensorfloat32",
            "e4m3": "float8_e4m3fn float8_e4m3 fp8_e4m3 fp8_e4m3fn fp8e4m3 e4m3fn f8e4m3 f8e4m3fn hfp8",
            "e5m2": "float8_e5m2 fp8_e5m2 fp8e5m2 f8e5m2",
            "e2m1": "float4_e2m1fn float4_e2m1fn_x2 fp4_e2m1 fp4 e2m1fn f4e2m1fn",
            "e2m3": "float6_e2m3fn fp6_e2m3 e2m3fn f6e2m3fn",
            "e3m2": "float6_e3m2fn fp6_e3m2 e3m2fn f6e3m2fn",
            "mxfp8": "mxfp8_e4m3 mx_fp8_e4m3 mxfp8_e4m3fn",
            "mxfp8_e5m2": "mx_fp8_e5m2",
            "mxfp6": "mxfp6_e2m3 mx_fp6_e2m3",
            "mxfp6_e3m2": "mx_fp6_e3m2",
            "mxfp4": "mxfp4_e2m1 mx_fp4_e2m1",
            "nvfp4": "nvidia_fp4 fp4_nv",
            "ternary": "twn",
            "binary": "bnn xnor",
        }
    ),
    "parameter": _by_spelling(
        {
            "lr": "learning_rate lrate lr0 step_size eta base_lr initial_lr",
            "batch_size": "bs batch minibatch mini_batch_size train_batch_size per_device_train_batch_size",
            "weight_decay": "wd decay l2 lambda l2_reg l2_penalty",
            "l1": "l1_reg l1_penalty",
            "epochs": "epoch n_epochs num_epochs max_epochs nepochs num_train_epochs",
            "betas": "beta beta1 beta2 adam_betas adam_beta1 adam_beta2",
            "eps": "epsilon adam_epsilon",
            "optimizer": "opt optim optimiser solver",
            "model": "net network arch architecture nn",
            "data": "dataset datasets data_set ds",
            "loss": "loss_fn loss_function criterion objective",
            "bitwidth": "bits num_bits nbits n_bits precision wl word_length wordlength wbits nbit",
            "fraction": "frac frac_bits fl fractional_bits fraction_bits",
            "rounding": "rounding_mode round_mode round round_method rounding_method",
            "init": "initializer initialiser initialization initialisation weight_init kernel_initializer",
            "quantize": "quantization quantisation quantizer quantizers quant quantise qconfig",
            "quantize_init": "quantise_init",
            "loss_scale": "grad_scale loss_scaling grad_scaler",
            "preprocess": "preprocessing transform transforms normalize normalise normalization",
            "split": "train_split test_split",
        }
    ),
    "optimizer": _by_spelling({"sgd": "gd gradient_descent vanilla plain", "rmsprop": "rms"}),
    "model": _by_spelling(
        {
            "mlp": "fc fcn dense ann dnn fully_connected multilayer_perceptron feedforward",
            "softmax": "logistic logistic_regression logreg linear softmax_regression",
            "lenet": "lenet5 lenet_5",
            "cnn3": "cnn convnet simple_cnn",
            "conv_block": "conv_blocks conv_block_network",
        }
    ),
    "data": _by_spelling(
        {
            "fashion_mnist": "fmnist fashion f_mnist",
            "digits": "optdigits load_digits sklearn_digits",
        }
    ),
    "rounding": _by_spelling(
        {
            "stochastic": "sr random stoch stochastic_rounding probabilistic",
            "nearest": "rne rtne rn even half_even half_to_even nearest_even round_nearest ties_to_even rint round",
            "away": "rna half_up half_away half_away_from_zero ties_to_away nearest_away",
            "zero": "trunc truncate truncation rtz rz toward_zero towards_zero chop",
            "down": "floor rd rtn toward_negative toward_negative_infinity",
            "up": "ceil ceiling ru rtp toward_positive toward_positive_infinity",
        }
    ),
    "loss": _by_spelling(
        {
            "cross_entropy": "ce xent nll crossentropyloss softmax_cross_entropy categorical_crossentropy"
            " sparse_categorical_crossentropy nll_loss",
            "squared_error": "mse mse_loss mean_squared_error l2 sse squared quadratic square",
        }
    ),
    "role": _by_spelling(
        {
            "weight": "weights w kernel kernels",
            "bias": "biases b",
            "norm": "norms bn batchnorm batch_norm layernorm layer_norm affine",
            "activation": "activations act acts a",
            "error": "errors grad_output grad_outputs dy delta deltas dgrad grad_input activation_grad",
            "gradient": "gradients grad grads dw wgrad grad_weight weight_grad",
            "update": "updates",
            "momentum": "optimizer_state velocity moment moments",
            "master": "master_weights master_weight shadow shadow_weights",
        }
    ),
    "init": _by_spelling(
        {
            "glorot_uniform": "xavier glorot xavier_uniform",
            "he": "he_normal kaiming kaiming_normal",
            "he_uniform": "kaiming_uniform",
            "torch": "default pytorch",
            "normal": "gaussian randn random_normal",
        }
    ),
    "kind of plot": _by_spelling(
        {
            "lines": "line lineplot line_plot curve curves plot",
            "heatmap": "heat imshow image matshow pcolormesh",
            "histogram": "hist histplot distribution",
            "surface": "3d surf plot_surface",
            "scatter": "points dots scatterplot",
        }
    ),
    "metric": _by_spelling(
        {
            "test_accuracy": "accuracy acc test_acc val_accuracy val_acc validation_accuracy eval_accuracy top1",
            "test_loss": "loss val_loss validation_loss eval_loss",
            "train_accuracy": "train_acc training_accuracy",
            "train_loss": "training_loss",
            "seconds": "time runtime duration wall_time elapsed",
        }
    ),
    "key": _by_spelling(
        {
            "seeds": "seed repeats repeat n_seeds num_seeds random_state",
            "grid": "axes axis matrix sweep params parameters search_space product",
            "trial": "fixed settings common constants base_config",
            "extends": "extend inherit inherits base parent _base_ defaults",
            "plots": "figures figure",
            "variants": "variant cases alternatives",
            "exclude": "skip except",
            "also": "blocks grids",
            "only": "filter where",
        }
    ),
    "command": _by_spelling(
        {
            "run": "train start sweep execute fit launch resume continue",
            "table": "show results list csv print compare summary",
            "plot": "draw figure figures graph plots",
            "why": "explain info describe inspect log logs",
            "status": "ls ps state progress top",
            "data": "download datasets dataset fetch",
            "formats": "dtypes types number-formats",
            "export": "save weights",
        }
    ),
    "option": _by_spelling(
        {
            "--jobs": "--workers --num-workers --n-jobs --parallel --processes --cores --threads --num-jobs --n_jobs",
            "--device": "--gpu --cuda --accelerator",
            "--results": "--out --output --outdir --output-dir --results-dir --dir --out-dir --folder --store",
            "-S": "--set --override --param --parameter",
            "--dry-run": "--plan --check --simulate",
            "--force": "--retrain --again --overwrite --rerun --fresh",
            "--exitfirst": "--fail-fast --failfast",
            "--stack": "--stack-size",
            "--timeout": "--time-limit --max-time",
            "--no-plot": "--no-plots --no-figures",
            "--aggregate": "--mean --means --average --summary",
            "--against": "--baseline --compare --vs",
            "--lowest": "--least --min",
            "--reach": "--target",
            "--yes": "--confirm",
        }
    ),
}
"""{kind: {the simplified name elsewhere: the name here}}"""

_OTHER_OPTIMIZER = "optimizer '{}' is not supported"
_OTHER_DATA = "data set '{}' is not supported; you can use your own: {{name: npz, file: x.npz}}"
_OTHER_FLOAT8 = "'{}' has another exponent bias and no -0, and is not supported; e4m3 and e5m2 are those of OCP"
_NO_SCHEDULE = "learning rates are constant: there is no '{}'"
_FLOAT32_ONLY = "everything that is not quantized is computed in float32: there is no '{}'"
EXPLAINED: dict[str, dict[str, str]] = {
    "format": {
        **_each("float8_e4m3fnuz float8_e5m2fnuz float8_e4m3b11fnuz e4m3fnuz e5m2fnuz", _OTHER_FLOAT8),
        **_each("float64 double fp64 f64 binary64", _FLOAT32_ONLY),
        **_each("fp8 float8 f8", "'{}' is e4m3 or e5m2, or, with a scale per block, mxfp8"),
        **_each("fp6 float6", "'{}' is e2m3 or e3m2, or, with a scale per block, mxfp6"),
        **_each("e8m0 e8m0fnu float8_e8m0fnu", "'{}' is the format of the scales in mxfp8, mxfp6 and mxfp4"),
        **_each("nf4 normal_float4 fp4_nf4", "'{}' is not supported; kmeans16 learns 16 levels from the data"),
        **_each("posit posit8 posit16", "'{}' is not supported"),
    },
    "parameter": {
        **_each(
            "seed seeds random_state random_seed", "seeds apply to the whole spec: write `seeds: 5` at the top level"
        ),
        **_each(
            "name title extends trial grid zip variants exclude only also plots search max_trials stack",
            "'{}' is not a trial parameter but a key of the spec: write it at the top level",
        ),
        **_each("scheduler lr_scheduler warmup warmup_steps lr_decay lr_schedule gamma step_lr", _NO_SCHEDULE),
        **_each("nesterov amsgrad dampening maximize", "there is no '{}': sgd, rmsprop and adam are the plain ones"),
        **_each("grad_clip clip_grad clip_grad_norm max_grad_norm", "gradients are not clipped: there is no '{}'"),
        **_each("device", "the device is an option: `qsweep run --device cuda`"),
        **_each("workers num_workers jobs n_jobs", "workers are an option: `qsweep run -j 4`"),
        **_each(
            "steps n_steps num_steps max_steps n_iter max_iter", "there is no '{}': training is measured in `epochs`"
        ),
        **_each("augment augmentation shuffle", "there is no '{}': batches are shuffled, images are used as they are"),
        **_each("val_split validation_split test_size", "there is no '{}': a data set has its own test set"),
        **_each("dtype amp autocast", "there is no '{}': set number formats with `quantize: {{weight: bf16}}`"),
    },
    "optimizer": {
        **_each(
            "adamw",
            "'{}' has decoupled weight decay, which is not supported; with `weight_decay: 0` it is the same as adam",
        ),
        **_each(
            "adagrad adadelta adamax nadam radam rprop lbfgs asgd sparseadam adafactor muon lion lamb lars adan sophia "
            "shampoo signsgd adabelief ftrl yogi adam8bit",
            _OTHER_OPTIMIZER,
        ),
        **_each("momentum sgdm nag heavy_ball", "write `optimizer: sgd` and `momentum: 0.9`"),
    },
    "model": {
        **_each(
            "transformer bert gpt gpt2 llama lstm gru rnn unet",
            "'{}' is not supported; you can use your own net as FILE.py:FUNCTION",
        ),
    },
    "data": {
        **_each("cifar", "write cifar10 or cifar100"),
        **_each(
            "kmnist emnist qmnist svhn stl10 imagenet tinyimagenet iris celeba usps omniglot wikitext", _OTHER_DATA
        ),
    },
    "rounding": _each("round_half_down half_down odd", "'{}' is not supported"),
    "loss": _each("bce bcewithlogits hinge l1 l1_loss mae huber smooth_l1 kl kldiv", "'{}' is not supported"),
    "role": {
        **_each("accumulator accumulation acc partial_sum", "sums are computed in float32: there is no role '{}'"),
        **_each("input inputs", "the role of a layer's inputs is activation, with `at: operands`"),
        **_each("output outputs", "the role of a layer's outputs is activation"),
    },
    "init": {
        **_each("xavier_normal glorot_normal", "'{}' is not supported; glorot_uniform has the same variance"),
        **_each("zeros ones orthogonal uniform lecun lecun_normal constant", "'{}' is not supported"),
    },
    "kind of plot": _each(
        "bar box boxplot violin pie contour area", "'{}' is not supported; `table --csv` prints data for other programs"
    ),
    "metric": _each("error test_error error_rate", "'{}' is 1 - test_accuracy: draw test_accuracy"),
    "key": _each("version description author", "there is no key '{}': write a comment (#) or `title:`"),
    "command": {
        **_each(
            "check validate lint plan dryrun dry-run",
            "`qsweep run -n SPEC` checks a spec and shows what would be trained",
        ),
        **_each("help", "`qsweep --help`"),
        **_each("version", "`qsweep --version`"),
        **_each("stop kill cancel", "press Ctrl-C in the terminal of the run; finished trials are kept"),
    },
    "option": {
        **_each("--seed --seeds", "seeds are set in the spec, or with `-S seeds=3`"),
        **_each("--json", "`qsweep table --csv` prints machine-readable tables"),
        **_each("--verbose --quiet --debug", "there is no '{}'"),
    },
}
"""{kind: {a name: its explanation}} for names of what does not exist here."""

TORCHVISION = re.compile(
    r"(torchvision[.:/]?(models[.:/])?)?((alexnet|convnext|densenet|efficientnet|googlenet|inception|maxvit|mnasnet|mobilenet"
    r"|regnet|resnet|resnext|shufflenet|squeezenet|swin|vgg|vit|wide_?resnet)[a-z0-9_]*)"
)
"""Classifiers of torchvision, which a spec may name as `torchvision:NAME`."""


def _integers(match: re.Match[str]) -> str:
    """int8 → `uniform8 symmetric=true`: integers times a scale; uint8 has a zero point."""
    return f"uniform{match[2]}" if match[1] else f"uniform{match[2]} symmetric=true"


FORMAT_PATTERNS = (
    (re.compile(r"(u?)(?:q?int|qi|i)(\d{1,2})"), _integers),
    (re.compile(r"(?:e)(\d)m(\d{1,2})fn?"), lambda match: f"e{match[1]}m{match[2]}"),
    (re.compile(r"(?:bfp|msfp|blockfp|blockfloat)(\d{1,2})"), lambda match: f"block{match[1]}"),
)
"""Other libraries' names of formats that contain numbers."""
Q_NOTATION = re.compile(r"(?:s|u)?q(\d{1,2})[.,_](\d{1,2})")
"""Fixed point by its integer and fractional bits."""

RELATED = {
    "column": ("metric", "parameter"),
    "axis": ("parameter",),
    "data set": ("data",),
    "parameter of retraining": ("parameter",),
}
"""Kinds whose names are also names of other kinds."""


def same(what: str, name: str) -> str:
    """The name here for another library's name; "" if there is none."""
    text = name.casefold().removeprefix("torch.").removeprefix("np.").removeprefix("jnp.")
    for kind in RELATED.get(what, (what,)):
        if (found := SAME.get(kind, {}).get(simplified(text))) is not None:
            return found
    if what == "model" and (found_model := TORCHVISION.fullmatch(text.replace("-", "_"))):
        return "torchvision:" + re.sub(r"^(resnet|vgg|densenet)_(?=\d)", r"\1", found_model[3])
    if what == "format":
        return next((ours(m) for pattern, ours in FORMAT_PATTERNS if (m := pattern.fullmatch(simplified(text)))), "")
    return ""


def explained(what: str, name: str) -> str:
    """The explanation of a name of something that does not exist here; "" if there is none."""
    text = name.casefold().removeprefix("torch.")
    for kind in RELATED.get(what, (what,)):
        if (found := EXPLAINED.get(kind, {}).get(simplified(text))) is not None:
            return found
    if what == "format" and (q := Q_NOTATION.fullmatch(text)):
        integer, fraction = int(q[1]), int(q[2])
        return (
            f"with the sign among the {integer} it is fixed{integer + fraction}f{fraction}, "
            f"with a sign beside them fixed{integer + fraction + 1}f{fraction}"
        )
    return ""
