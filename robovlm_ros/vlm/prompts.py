"""How a family is asked: its prompt template, found once at fine-tuning and kept as text in the checkpoint.

A model that was trained to chat is asked in its own words, with the marks of turns that its chat template puts around
images and question. Training and serving then fill the same text in, by `ActionTokenProcessor.text`.
"""

from __future__ import annotations

from typing import Any

from robovlm_ros.errors import UserError

QUESTION = "What action should the robot take to {instruction}?"
"""What a model is asked."""
PLAIN = "{images}" + QUESTION
"""The template of a model with no conventions of its own."""
_GIVE = "give a prompt with {images} and {instruction}"


def fill_prompt(family: Any, processor: Any, template: str, instruction: str, images: int) -> str:
    """A template with an instruction and that many images, as the backbone's own processor takes it.

    Args:
        family: the backbone's adapter class.
        processor: the backbone's own.
        template: text with {instruction}, and {images} for all images at once or {image} for each.
    """
    # no placeholder of the template or the processor may come in by way of the instruction, nor the end of its turn
    marks = [word for word in processor.tokenizer.get_added_vocab() if word in template]
    for word in (*family.reserved(processor), *marks):
        instruction = instruction.replace(word, " ")
    placeholder = family.placeholder(processor)
    filled = template.replace("{images}", placeholder * images).replace("{image}", placeholder)
    return filled.replace("{instruction}", instruction)


def places_images(template: str, cameras: int) -> bool:
    """Whether a template has a place for the image of each camera: {images} for all at once, or as many {image}."""
    return (template.count("{images}"), template.count("{image}")) in ((1, 0), (0, cameras))


def chat_prompt(processor: Any, placeholder: str, cameras: int) -> str | None:
    """The template that the processor's chat template makes of images and `QUESTION`; None if it has none.

    Raises UserError for a chat template that does not keep both, and takes the begin of text away where the
    tokenizer sets it again.

    Args:
        processor: the vision-language model's own.
        placeholder: what stands for one image in its prompts.
        cameras: images of a prompt; where the chat template puts something between them, the result has {image} for
            each instead of {images}.
    """
    if not getattr(processor, "chat_template", None):
        return None
    turn = {"role": "user", "content": [*[{"type": "image"}] * cameras, {"type": "text", "text": QUESTION}]}
    try:
        text = str(processor.apply_chat_template([turn], tokenize=False, add_generation_prompt=True))
    except Exception as cause:  # a template is a program of the folder's author, and may raise anything
        reason = f"{type(cause).__name__}: {' '.join(str(cause).split())[:200]}"
        raise UserError(f"the backbone's chat template fails ({reason}): {_GIVE}") from cause
    for part, count in ((placeholder, cameras), ("{instruction}", 1)):
        if text.count(part) != count:
            found = text.count(part)
            raise UserError(
                f"the backbone's chat template leaves {found} of '{part}' where there should be {count}: {_GIVE}"
            )
    tokenizer = processor.tokenizer
    begin = tokenizer.bos_token
    if begin and text.startswith(begin) and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]:
        text = text[len(begin) :]
    together = placeholder * cameras
    return text.replace(together, "{images}") if together in text else text.replace(placeholder, "{image}")
