"""What transformer encoders run on, whatever they are for."""

from __future__ import annotations

from morgand.fingerprint.engines import Package

ENCODERS = (
    Package("onnx", ("onnxruntime", "tokenizers"), "onnxruntime", how_to_get="pip install onnxruntime tokenizers"),
    Package(
        "sentence-transformers", ("sentence-transformers", "torch"), "sentence_transformers",
        how_to_get="pip install 'morgan-assistant[gpu]'",
    ),
)  # fmt: skip
