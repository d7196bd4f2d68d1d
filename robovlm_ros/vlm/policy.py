"""The action-token policy: a vision-language model with learned tokens that come to mean "what to do now"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoModel, AutoModelForImageTextToText, PreTrainedModel
from transformers.utils import ModelOutput

from robovlm_ros.errors import UserError
from robovlm_ros.vlm.answering import answer, read_answer
from robovlm_ros.vlm.backbone import Backbone, backbone_of
from robovlm_ros.vlm.configuration import ActionTokenConfig
from robovlm_ros.vlm.context import Context, read, read_window
from robovlm_ros.vlm.heads import build_head
from robovlm_ros.vlm.heads.base import HeadShape
from robovlm_ros.vlm.heads.discrete import DiscreteHead
from robovlm_ros.vlm.heads.generative import Guide
from robovlm_ros.vlm.latents import pool_latents
from robovlm_ros.vlm.resampler import Resampler, read_resampler
from robovlm_ros.vlm.sequence import Tokens, gather


@dataclass
class ActionTokenOutput(ModelOutput):  # type: ignore[misc]
    """What a forward gives."""

    loss: torch.Tensor | None = None
    """Scalar, when targets were given."""
    actions: torch.Tensor | None = None
    """(B, chunk_size, action_dim) normalised actions, probabilities where binary; when no targets were given."""
    latents: torch.Tensor | None = None
    """(B, latent_num, D) action latents; (B, W, latent_num, D) of a window."""
    history: torch.Tensor | Context | None = None
    """What to hand to the next forward of this episode: of history policy_head the latents (B, H, latent_num, D) of the
    newest observations, of interleaved what the VLM has read; None when there is nothing to go on from."""


class ActionTokenPolicy(PreTrainedModel):  # type: ignore[misc]
    """[images] [instruction] [state token] [action tokens] → action latents → head → chunk.

    The action tokens are parameters, zeros at first; everything that they come to mean is learned. With latents
    `down_sample` there are none. Values are normalised throughout: `ActionTokenProcessor` knows the units.
    """

    config_class = ActionTokenConfig
    base_model_prefix = "vlm"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    # a backbone may be loaded in half precision; what is new was trained in whole, and costs nothing
    _keep_in_fp32_modules_strict = [r"^action_token$", r"^state_token\.", r"^resampler\.", r"^head\."]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: ActionTokenConfig, vlm: Any = None) -> None:
        """``vlm`` is the backbone, which stays as it is; None: one with random weights, as `from_pretrained` wants."""
        super().__init__(config)
        contract = config.check()
        self.vlm = AutoModelForImageTextToText.from_config(config.vlm_config) if vlm is None else vlm
        hidden = self.backbone.hidden_size
        vectors = 1 if config.shared_action_token else config.latent_num
        self.action_token = nn.Parameter(torch.zeros(vectors, hidden)) if config.latents == "action_token" else None
        self.state_token = nn.Linear(len(config.state), hidden) if config.state else None
        self.head = build_head(
            HeadShape(
                hidden_size=hidden,
                latent_num=config.latent_num,
                chunk_size=config.chunk_size,
                binary=tuple(contract.binary.tolist()),
                window=config.window if config.history == "policy_head" else 1,
            ),
            config.head or {},
        )
        self._check_head()
        self.resampler = None if config.resampler is None else Resampler(hidden, read_resampler(config.resampler))
        for module in () if vlm is None else vlm.modules():
            module._is_hf_initialized = True  # transformers' own mark: `post_init` draws no weights for these
        self.post_init()

    def _check_head(self) -> None:
        """UserError when the head cannot work with this backbone, these latents or this history."""
        words, config = self.backbone.vocabulary, self.config
        kind = (config.head or {}).get("type", "mlp")
        if self.head.words > words:
            raise UserError(
                f"the vocabulary of '{self.vlm.config.model_type}' has {words} words, fewer than the {self.head.words} "
                "bins of the head: choose fewer bins"
            )
        if config.history == "interleaved" and self.head.fuses_history:
            raise UserError(
                f"head '{kind}' joins a window of latents, which history 'interleaved' leaves to the VLM: choose "
                "history policy_head, or a head that looks at one observation"
            )
        if self.head.answers and (config.history == "interleaved" or config.latents != "action_token"):
            raise UserError(
                f"head '{kind}' with decoding autoregressive goes on behind the action tokens of one observation: "
                "choose history one_step and latents action_token, or decoding parallel"
            )

    @classmethod
    def from_pretrained(cls, name_or_path: Any, *arguments: Any, **options: Any) -> Any:
        """transformers' own, of complete folders; UserError for adapters, which `load_policy` puts on their base."""
        try:
            return super().from_pretrained(name_or_path, *arguments, **options)
        except OSError as error:
            config = options.get("config") or cls.config_class.from_pretrained(name_or_path)
            if config.base is None:
                raise
            raise UserError(
                f"checkpoint {name_or_path} holds adapters without their base: load it with "
                "robovlm_ros.vlm.checkpoint.load_policy, or make a complete folder with convert merge"
            ) from error

    @classmethod
    def from_vlm(cls, vlm: Any, config: ActionTokenConfig) -> ActionTokenPolicy:
        """A new policy on top of a pre-trained vision-language model; only what is new is random (or zero)."""
        policy = cls(config, vlm)
        policy.inherit()
        return policy

    @torch.no_grad()
    def inherit(self) -> None:
        """Let the head begin with the vision-language model's words, where bins are words."""
        if self.head.words:
            self.head.inherit(*self.backbone.last_words(self.head.words))

    def _init_weights(self, module: nn.Module) -> None:
        """New parts only: the backbone initialises its own modules, and PyTorch the linear layers of the head."""
        if module is self and self.action_token is not None:
            nn.init.zeros_(self.action_token)

    @property
    def dtype(self) -> torch.dtype:
        """The backbone's: that in which a folder is loaded again."""
        dtype: torch.dtype = self.vlm.dtype
        return dtype

    @property
    def new_dtype(self) -> torch.dtype:
        """That of what is new, which may be wider than the backbone's."""
        return next(self.head.parameters()).dtype

    @property
    def backbone(self) -> Backbone:
        """The adapter over the vision-language model."""
        return backbone_of(self.vlm)

    @property
    def new_parameters(self) -> list[nn.Parameter]:
        """What the policy adds to the backbone: action token(s), state token, resampler and head."""
        return [parameter for name, parameter in self.named_parameters() if not name.startswith("vlm.")]

    def image_embeddings(self, pixel_values: torch.Tensor, **images: torch.Tensor) -> torch.Tensor:
        """(B, N, D) features of all cameras' images (B, cameras, 3, H, W), or of what the family makes of them."""
        return self.backbone.image_embeddings(pixel_values, **images)

    def prompt(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        image_embeds: torch.Tensor,
        state: torch.Tensor | None = None,
        **layout: torch.Tensor,
    ) -> tuple[Tokens, torch.Tensor]:
        """What the text tower reads of one observation, (B, L + K) tokens, and where what the policy added is (B, K).

        Args:
            input_ids: (B, L) prompt with image placeholders.
            attention_mask: (B, L) 1 for real tokens.
            image_embeds: (B, N, D) from `image_embeddings`; before any resampler, for that learns.
            state: (B, S) normalised state, when the policy has a state token.
            layout: what else the backbone's family wants to know of the prompt, such as image_grid_thw.
        """
        if self.resampler is not None:
            image_embeds = self.resampler(image_embeds, len(self.config.cameras))  # (B, cameras * M, D)
        tokens = self.backbone.embed(input_ids, attention_mask, image_embeds, **layout)  # embeddings (B, L, D)
        return tokens.insert(self.added(len(input_ids), state))  # embeddings (B, L + K, D)

    def added(self, batch: int, state: torch.Tensor | None) -> torch.Tensor:
        """(B, K, D) what stands behind the prompt: state token and action tokens, those of them that there are."""
        parts = []
        if self.state_token is not None:
            if state is None:
                raise ValueError("this policy has a state token: give it the state")
            parts.append(self.state_token(state.to(self.state_token.weight.dtype))[:, None])  # (B, 1, D)
        if self.action_token is not None:
            parts.append(self.action_token.expand(batch, self.config.latent_num, -1))  # (B, latent_num, D)
        if not parts:
            return torch.zeros(batch, 0, self.backbone.hidden_size, dtype=self.new_dtype, device=self.vlm.device)
        return torch.cat([part.to(self.new_dtype) for part in parts], dim=1)  # (B, K, D)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        pixel_values: torch.Tensor | None = None,
        image_embeds: torch.Tensor | None = None,
        state: torch.Tensor | None = None,
        history: torch.Tensor | Context | None = None,
        actions: torch.Tensor | None = None,
        valid: torch.Tensor | None = None,
        guide: Guide | None = None,
        **images: torch.Tensor,
    ) -> ActionTokenOutput:
        """Loss when targets are given, else actions; all normalised.

        All inputs but ``history`` may have a window dimension behind the batch, (B, W, ...): then so have targets,
        actions and latents. Samples with fewer observations than W are filled up at the end, with ``valid`` 0 there:
        heads and histories are causal, so that what comes later changes nothing.

        With history ``interleaved`` a window is one sequence, and running reads an observation behind those that were
        read before. With ``window`` of them the sequence is full, and the next observation begins a new one: a window
        that slides could equal no forward, for what is kept of an observation has seen all those before it. Training
        shows each number of observations from 1 to ``window``, as running does.

        Args:
            input_ids, attention_mask: (B, L) the prompt.
            pixel_values: (B, cameras, 3, H, W) images, or
            image_embeds: (B, N, D) their features, computed before.
            state: (B, S) normalised state.
            history: what the forward of the previous observation gave; for running, that is without window and
                targets.
            actions: (B, C, A) targets, 0 or 1 where binary.
            valid: (B, C) 1 for target steps that count; all of them by default.
            guide: what the actions are drawn towards; for running, with a head that draws them from noise.
            images: further tensors of the backbone's own processor, that say where images lie for instance.
        """
        if (pixel_values is None) == (image_embeds is None):
            raise ValueError("give either pixel_values or image_embeds")
        batch = input_ids.shape[:-1]  # (B,) or (B, W)
        windowed = len(batch) == 2

        def rows(given: torch.Tensor) -> torch.Tensor:
            return given.flatten(0, 1) if windowed else given  # (B W, ...)

        layout = {key: rows(value) for key, value in images.items()}
        if image_embeds is None:
            assert pixel_values is not None
            features = self.image_embeddings(rows(pixel_values), **layout)
        else:
            features = rows(image_embeds)
        tokens, places = self.prompt(
            rows(input_ids), rows(attention_mask), features, None if state is None else rows(state), **layout
        )
        if isinstance(self.head, DiscreteHead) and self.head.answers:
            return self._answer(self.head, tokens, places[:, -self.config.latent_num :], actions, valid)
        hidden, context = self._read(tokens, batch, history)  # (B W, L + K, D)
        latents = self._latents(hidden, tokens, places)  # (B W, latent_num, D)
        latents = latents.view(*batch, *latents.shape[1:])  # (B, latent_num, D) or (B, W, latent_num, D)
        if actions is None:
            return self.decide(latents, history=history, context=context, guide=guide)
        if valid is None:
            valid = torch.ones(actions.shape[:-1], device=actions.device)
        window = latents
        if not windowed:
            window, actions, valid = latents[:, None], actions[:, None], valid[:, None]  # windows of 1
        return ActionTokenOutput(loss=self.head.loss(window, actions, valid), latents=latents)

    def decide(
        self,
        latents: torch.Tensor,
        *,
        history: torch.Tensor | Context | None = None,
        context: Context | None = None,
        guide: Guide | None = None,
    ) -> ActionTokenOutput:
        """What the head makes of the newest latents (B, latent_num, D), or of windows of them (B, W, latent_num, D).

        ``history`` and ``guide`` as in `forward`; ``context`` is what the VLM has read with this observation.
        """
        windowed = latents.ndim == 4
        window = latents if windowed else self._window(latents, history)  # (B, W, latent_num, D)
        decided = self.head(window) if guide is None else self.head(window, guide)  # (B, W, C, A)
        return ActionTokenOutput(
            actions=decided if windowed else decided[:, -1],
            latents=latents,
            history=window[:, 1 - self.config.window :] if self.head.shape.window > 1 else context,
        )

    def _answer(
        self,
        head: DiscreteHead,
        tokens: Tokens,
        places: torch.Tensor,
        actions: torch.Tensor | None,
        valid: torch.Tensor | None,
    ) -> ActionTokenOutput:
        """What a head gives that decides value behind value; places (B, latent_num) are those of the action tokens."""
        if actions is None:
            states, decided = answer(self.backbone, head, tokens, places)
            return ActionTokenOutput(actions=decided, latents=states.to(self.new_dtype))
        states = read_answer(self.backbone, head, tokens, places, actions).to(self.new_dtype)  # (B, K + n - 1, D)
        valid = torch.ones(actions.shape[:-1], device=actions.device) if valid is None else valid
        loss = head.loss(states[:, None], actions[:, None], valid[:, None])
        return ActionTokenOutput(loss=loss, latents=states[:, : places.shape[1]])

    def _read(
        self, tokens: Tokens, batch: torch.Size, history: torch.Tensor | Context | None
    ) -> tuple[torch.Tensor, Context | None]:
        """(B W, L, D) last hidden states, and what the next observation of an interleaved history is read behind."""
        if self.config.history != "interleaved" or self.config.window == 1:
            return self.backbone.decode(tokens), None
        if len(batch) == 2:
            return read_window(self.backbone, tokens, batch[1]), None
        if history is not None and not isinstance(history, Context):
            raise ValueError("history 'interleaved' goes on from a context")
        hidden, context = read(self.backbone, tokens, history)
        return hidden, context if context.frames < self.config.window else None

    def _latents(self, hidden: torch.Tensor, tokens: Tokens, places: torch.Tensor) -> torch.Tensor:
        """(B, latent_num, D) hidden states at the action tokens, or means of the prompt's where there are none."""
        config = self.config
        if self.action_token is None:
            latents = pool_latents(hidden, tokens, self.backbone, pooled=config.pooled, latent_num=config.latent_num)
        else:
            latents = gather(hidden, places[:, -config.latent_num :])
        return latents.to(self.new_dtype)  # the head stays exact where the backbone computes in halves

    def _window(self, latents: torch.Tensor, history: torch.Tensor | Context | None) -> torch.Tensor:
        """(B, W, latent_num, D) the newest latents (B, latent_num, D) behind those of earlier observations."""
        window = latents[:, None]  # (B, 1, latent_num, D)
        if isinstance(history, torch.Tensor) and self.head.shape.window > 1:
            window = torch.cat([history, window], dim=1)[:, -self.config.window :]  # (B, <= window, latent_num, D)
        return window


AutoModel.register(ActionTokenConfig, ActionTokenPolicy, exist_ok=True)
