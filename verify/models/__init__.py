"""`python -m verify.models`: `convert`, in both forms, on models of other packages. Writes docs/models.md.

Needs packages that nothing else here does, and none of their weights:

    pip install --no-deps timm monai diffusers kornia kornia_rs pytorchcv segmentation_models_pytorch torchvision
    pip install einops huggingface_hub safetensors PyYAML pillow tqdm requests regex importlib_metadata

torchvision has to be the release that belongs to the installed torch, from where that came. A model whose package is
missing is a row that says so.
"""
