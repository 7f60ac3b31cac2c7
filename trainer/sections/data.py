"""What is trained on: files, what a record holds, how records become blocks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .section import Section, refuse, require

Format = Literal["text", "jsonl", "parquet", "dataset"]
Style = Literal["text", "prompt-completion", "chat"]
Packing = Literal["cut", "fill", "none"]


class Data(Section):
    """Training text."""

    files: tuple[str, ...] = Field(
        min_length=1,
        description="files, patterns or directories, from the recipe's own directory; "
        "`python-stdlib:GLOB` is text of the running Python; with format dataset, directories "
        "that `datasets` can read, or `hub:NAME`",
    )
    eval_files: tuple[str, ...] = Field((), description="the same, held out")
    format: Format = Field("text", description="how the files are written")
    split: str = Field("train", description="split of a dataset (format dataset)")
    eval_split: str = Field("train", description="split of the held-out datasets")
    style: Style = Field("text", description="what a record holds (text for classification)")
    text_key: str = Field("text", description="key of the text in a record")
    label_key: str = Field("label", description="key of the label (classification)")
    prompt_key: str = Field("prompt", description="key of the prompt")
    completion_key: str = Field("completion", description="key of the completion")
    messages_key: str = Field("messages", description="key of a chat's messages")
    chat_template: str | None = Field(
        None, description="file of a Jinja chat template; else the tokenizer's own"
    )
    completion_only: bool = Field(
        default=True, description="count the loss on completions and replies only"
    )
    packing: Packing | None = Field(
        None,
        description="`cut`: one stream of text cut into blocks; `fill`: whole records side by "
        "side in a block, none sees another; `none`: a record a row, padded. Left out: cut for "
        "text, none for the other styles",
    )
    block_size: int = Field(
        512, ge=2, description="tokens in a block; longer records are cut there"
    )

    @property
    def packs(self) -> Packing:
        """Return how records become blocks."""
        return self.packing or ("cut" if self.style == "text" else "none")

    @model_validator(mode="after")
    def _style_fits(self) -> Data:
        if self.format == "text" and self.style != "text":
            refuse(f"style {self.style} needs records: use format jsonl, parquet or dataset")
        if self.packing == "cut" and self.style != "text":
            refuse(f"packing cut would tear records of style {self.style}: use fill or none")
        if self.chat_template and self.style != "chat":
            refuse("chat_template has no effect without style chat: leave it out")
        if self.format == "dataset":
            require("format dataset", "datasets", "datasets")
        if self.format == "parquet":
            require("format parquet", "pyarrow", "pyarrow")
        return self
