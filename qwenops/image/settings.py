"""Settings for one picture: the maker's own values, a preset of documented ones, or a Lightning LoRA's.

What has no effect on these models is refused with the reason, so that nobody tunes a knob that is not connected.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from qwenops.errors import BadInput
from qwenops.image.catalogue import ImageModel, Lightning, Source, sources
from qwenops.image.sizes import Size, choose_size, remarks
from qwenops.tables import load_table

SAMPLERS: Final = (
    "euler",
    "euler_a",
    "heun",
    "dpm2",
    "dpm++2s_a",
    "dpm++2m",
    "dpm++2mv2",
    "ipndm",
    "ipndm_v",
    "lcm",
    "ddim_trailing",
    "tcd",
    "res_multistep",
    "res_2s",
    "er_sde",
)
"""What stable-diffusion.cpp calls its samplers (src/stable-diffusion.cpp, sampling_methods_str)."""


@dataclass(frozen=True)
class Settings:
    """What a picture is made with, and where each value is from.

    `true_cfg_scale` is None where the maker has published none. `flow_shift` is stable-diffusion.cpp's fixed one, None
    where that program chooses it; the makers' own scheduler shifts by the picture's size. `came_from` has a source, or
    a word such as "asked for", for each setting.
    """

    model: ImageModel
    size: Size
    steps: int
    true_cfg_scale: float | None
    negative_prompt: str | None
    flow_shift: float | None
    sampler: str
    lightning: Lightning | None
    preset: str | None
    came_from: Mapping[str, Source | str]
    remarks: tuple[str, ...] = field(default=())

    @property
    def evaluations(self) -> int:
        """How often the model is run: twice a step where guidance is on."""
        return self.steps * (2 if (self.true_cfg_scale or 1.0) > 1.0 else 1)


def choose_settings(
    model: ImageModel,
    *,
    size: str | None = None,
    preset: str | None = None,
    lightning_steps: int | None = None,
    steps: int | None = None,
    true_cfg_scale: float | None = None,
    negative_prompt: str | None = None,
    flow_shift: float | None = None,
    sampler: str | None = None,
    scheduler: str | None = None,
    guidance_scale: float | None = None,
    temperature: float | None = None,
) -> Settings:
    """The settings for a picture: what was asked for, else the LoRA's, else the maker's.

    Raises BadInput for what has no effect, for a sampler or LoRA that does not exist, and for a size that is not
    allowed.
    """
    refuse_without_effect(guidance_scale=guidance_scale, temperature=temperature, scheduler=scheduler, sampler=sampler)
    if not model.is_qwen:
        raise BadInput(
            f"settings are kept for the Qwen-Image models; {model.title} is there for comparison",
            do="qwenops image compare",
        )
    chosen = _preset(preset)
    lora = _lightning(model, lightning_steps)
    came: dict[str, Source | str] = {}
    picked = choose_size(model, size or (chosen.get("ratio") if chosen else None))
    came["size"] = _size_source(model, picked)
    values = _values(model, lora, steps, true_cfg_scale, negative_prompt, flow_shift, came)
    came["sampler"] = "asked for" if sampler else model.facts["sampler"].source
    said = [*remarks(model, picked), *_said_of(chosen, lora), *_said_of_guidance(values)]
    if sampler not in (None, "euler"):
        said.append(f"no source says that {sampler} is better on these models; their makers use euler")
    return Settings(
        model=model,
        size=picked,
        **values,
        sampler=sampler or model.value("sampler"),
        lightning=lora,
        preset=preset,
        came_from=came,
        remarks=tuple(said),
    )


def refuse_without_effect(
    *, guidance_scale: float | None, temperature: float | None, scheduler: str | None, sampler: str | None
) -> None:
    """Raise BadInput with the reason for a setting that does nothing here."""
    asked = {
        "--guidance-scale": guidance_scale is not None,
        "--temperature": temperature is not None,
        "--scheduler karras": "karras" in f"{scheduler or ''} {sampler or ''}".lower(),
    }
    for row in load_table("qwenops.image", "models.toml")["refused"]:
        if asked[row["option"]]:
            raise BadInput(
                f"{row['option']} has no effect on these models: {row['why']} ({sources()[row['from']].title})",
                do=row["do"],
            )
    if scheduler is not None:
        raise BadInput(f"{scheduler!r} is not a schedule these models were made for", do="leave --scheduler out")
    if sampler is not None and sampler not in SAMPLERS:
        raise BadInput(f"no sampler is called {sampler!r}", do="one of " + ", ".join(SAMPLERS))


def _values(
    model: ImageModel,
    lora: Lightning | None,
    steps: int | None,
    cfg: float | None,
    negative: str | None,
    shift: float | None,
    came: dict[str, Source | str],
) -> dict[str, Any]:
    """Steps, guidance, negative prompt and shift, each noted with where it is from."""
    own = {"steps": lora.steps, "true_cfg_scale": lora.true_cfg_scale, "flow_shift": lora.flow_shift} if lora else {}
    asked = {"steps": steps, "true_cfg_scale": cfg, "negative_prompt": negative, "flow_shift": shift}
    engine = model.facts.get("sd_cpp_flow_shift")
    found: dict[str, Any] = {}
    for name, wish in asked.items():
        fact = model.facts.get(name)
        if wish is not None:
            found[name], came[name] = wish, "asked for"
        elif lora and name in own:
            found[name], came[name] = own[name], lora.source
        elif fact is not None:
            found[name], came[name] = fact.value, fact.source
        elif name == "flow_shift" and engine is not None:
            found[name], came[name] = engine.value, engine.source
        else:
            found[name], came[name] = None, "unknown"
    return found


def _said_of_guidance(values: Mapping[str, Any]) -> list[str]:
    cfg, negative = values["true_cfg_scale"], values["negative_prompt"]
    if cfg is None:
        return ["its maker has published no guidance; stable-diffusion.cpp's own example has one (--cfg)"]
    if cfg > 1 and negative == "":
        return ["an empty negative prompt turns guidance off in diffusers; a single space keeps it on"]
    if cfg <= 1 and negative not in (None, "", " "):
        return ["without guidance (cfg 1) the negative prompt has no effect"]
    return []


def _said_of(preset: Mapping[str, Any] | None, lora: Lightning | None) -> list[str]:
    if preset is None:
        return []
    if lora is not None and not preset["lightning"]:
        raise BadInput(
            f"the preset for {preset['what']} takes no Lightning LoRA: dense or small text is better without one "
            f"({sources()[preset['from']].title})",
            do="leave --lightning out, or leave --preset out",
        )
    return list(preset["say"])


def _preset(name: str | None) -> Mapping[str, Any] | None:
    if name is None:
        return None
    rows: Mapping[str, Mapping[str, Any]] = load_table("qwenops.image", "models.toml")["presets"]
    if name not in rows:
        raise BadInput(f"no preset is called {name!r}", do="one of " + ", ".join(rows))
    return rows[name]


def _lightning(model: ImageModel, steps: int | None) -> Lightning | None:
    if steps is None:
        return None
    for one in model.lightning:
        if one.steps == steps:
            return one
    known = ", ".join(str(one.steps) for one in model.lightning)
    raise BadInput(
        f"no Lightning LoRA of {steps} steps is known for {model.title}",
        do=f"--lightning with {known}" if known else "leave --lightning out",
    )


def _size_source(model: ImageModel, size: Size) -> Source | str:
    if size.ratio is None:
        return "asked for"
    table = model.facts.get("size_table")
    return "asked for" if table is None else table.source
