"""The models of other packages that `convert` is tried on, small where their packages allow it, without their weights.

Each is built by a call that needs its package alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module

import torch
from torch import nn

TIMM = """
resnet18 resnet26d resnext26ts seresnet18 resnetv2_50 res2net50_14w_8s resnest14d skresnet18 regnetx_002 regnety_002
regnetz_005 efficientnet_b0 efficientnetv2_rw_t tf_efficientnet_b0 mobilenetv2_050 mobilenetv3_small_050
mobilenetv4_conv_small_035 mnasnet_small hardcorenas_a lcnet_050 gernet_s convnext_atto convnextv2_atto
vgg11_bn xception41 dpn48b nf_resnet26 eca_nfnet_l0 repvgg_a0 mobileone_s0
ghostnet_050 cspresnet50 darknet53 dla46_c selecsls42b ese_vovnet19b_dw rexnet_100 mobilevit_xxs edgenext_xx_small
fastvit_t8 efficientvit_b0 poolformer_s12 repvit_m0_9 hgnet_tiny
""".split()
PYTORCHCV = """
resnet10 preresnet10 shufflenet_g1_wd4 shufflenetv2_wd2 squeezenet_v1_1 mobilenet_wd4 condensenet74_c4_g4
menet108_8x1_g3 igcv3_wd4 fdmobilenet_wd4 bagnet9 diracnet18v2 spnasnet
""".split()


@dataclass(frozen=True)
class Entry:
    """A model and what it is called with.

    Attributes:
        build: returns the model.
        sizes: heights (and widths) of its square images; one where the model takes no other.
        channels: of an image.
        arguments: of (images, generator), what follows the images in a call.
    """

    build: Callable[[], nn.Module]
    sizes: tuple[int, ...] = (64, 96)
    channels: int = 3
    arguments: Callable = field(default=lambda images, generator: ())


def of(module: str, name: str, *args, **options) -> Callable[[], nn.Module]:
    """`name(*args, **options)` of a module that is imported when it is called."""

    def build():
        return getattr(import_module(module), name)(*args, **options)

    return build


def timestep(images, generator):
    return (torch.randint(1000, images.shape[:1], generator=generator),)


def timestep_and_text(images, generator):
    text = torch.randn(len(images), 5, 16, generator=generator, dtype=torch.float64)
    return (*timestep(images, generator), text)


def timm(name, **options):
    return of("timm", "create_model", name, num_classes=10, **options)


def monai(name, *args, **options):
    return of("monai.networks.nets", name, *args, **options)


def diffusers(name, **options):
    return of("diffusers", name, norm_num_groups=8, **options)


def pytorchcv(name):
    """With a last pooling of any size: theirs is of 7x7 pixels."""

    def build():
        model = import_module("pytorchcv.model_provider").get_model(name, pretrained=False)
        for path in [path for path, _ in model.named_modules()]:
            if path.endswith("final_pool"):
                model.set_submodule(path, nn.AdaptiveAvgPool2d(1))
        return model

    return build


def smp(name, encoder="resnet18", **options):
    return of("segmentation_models_pytorch", name, encoder, encoder_weights=None, classes=4, **options)


def torchvision(name, **options):
    return of("torchvision.models.segmentation", name, weights=None, weights_backbone=None, **options)


BLOCKS = dict(block_out_channels=(16, 32), layers_per_block=1)
IMAGES = dict(spatial_dims=2, in_channels=1, out_channels=3)

MODELS = {
    **{f"timm {name}": Entry(timm(name), sizes=(48, 64)) for name in TIMM},
    **{f"timm {name}": Entry(timm(name)) for name in ("densenet121", "hrnet_w18_small")},
    "timm dla46_c": Entry(timm("dla46_c"), sizes=(64, 128)),
    "timm selecsls42b": Entry(timm("selecsls42b"), sizes=(128, 192)),
    **{f"timm {name}": Entry(timm(name), sizes=(139, 171)) for name in ("inception_v3", "inception_v4")},
    "timm swin_tiny_patch4_window7_224": Entry(
        timm("swin_tiny_patch4_window7_224", img_size=64, strict_img_size=False, window_size=4), sizes=(64, 128)
    ),
    "timm vit_tiny_patch16_224": Entry(timm("vit_tiny_patch16_224", img_size=64, dynamic_img_size=True)),
    "timm resnet18, features": Entry(timm("resnet18", features_only=True)),
    "timm mobilenetv3_large_100, features": Entry(timm("mobilenetv3_large_100", features_only=True)),
    "timm efficientnet_b0, output stride 8": Entry(timm("efficientnet_b0", output_stride=8)),
    "monai BasicUNet": Entry(monai("BasicUNet", 2, 1, 3, (8, 8, 16, 16, 32, 8)), channels=1),
    "monai BasicUNetPlusPlus": Entry(monai("BasicUNetPlusPlus", 2, 1, 3, (8, 8, 16, 16, 32, 8)), channels=1),
    "monai FlexibleUNet": Entry(monai("FlexibleUNet", 3, 2, "efficientnet-b0", spatial_dims=2)),
    "monai FlexibleUNet, resnet18": Entry(monai("FlexibleUNet", 3, 2, "resnet18", spatial_dims=2)),
    "monai UNet": Entry(
        monai("UNet", channels=(8, 16, 32), strides=(2, 2), num_res_units=2, norm="batch", **IMAGES), channels=1
    ),
    "monai SegResNet": Entry(
        monai("SegResNet", init_filters=8, norm=("batch", {"affine": True}), **IMAGES), channels=1
    ),
    "monai AttentionUnet": Entry(
        monai("AttentionUnet", channels=(8, 16, 32), strides=(2, 2), **IMAGES), channels=1
    ),
    "monai DynUNet": Entry(
        monai(
            "DynUNet", kernel_size=[3, 3, 3], strides=[1, 2, 2], upsample_kernel_size=[2, 2],
            filters=[8, 16, 32], norm_name="batch", deep_supervision=True, **IMAGES,
        ), channels=1,
    ),
    "monai HighResNet": Entry(monai("HighResNet", **IMAGES), channels=1),
    "monai DenseNet121": Entry(monai("DenseNet121", **IMAGES), channels=1),
    "monai EfficientNetBN": Entry(monai("EfficientNetBN", "efficientnet-b0", pretrained=False, num_classes=4)),
    "monai SEResNet50": Entry(monai("SEResNet50", spatial_dims=2, in_channels=3, num_classes=4)),
    "diffusers UNet2DModel": Entry(
        diffusers(
            "UNet2DModel", in_channels=3, out_channels=3, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"), **BLOCKS,
        ), sizes=(32, 48), arguments=timestep,
    ),
    "diffusers UNet2DConditionModel": Entry(
        diffusers(
            "UNet2DConditionModel", in_channels=4, out_channels=4, cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), **BLOCKS,
        ), sizes=(32, 48), channels=4, arguments=timestep_and_text,
    ),
    "diffusers AutoencoderKL": Entry(
        diffusers(
            "AutoencoderKL", down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4, **BLOCKS,
        ), sizes=(32, 48),
    ),
    "diffusers VQModel": Entry(
        diffusers(
            "VQModel", down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2, num_vq_embeddings=32, **BLOCKS,
        ), sizes=(32, 48),
    ),
    "kornia HardNet": Entry(of("kornia.feature", "HardNet", False), sizes=(32,), channels=1),
    "kornia SOSNet": Entry(of("kornia.feature", "SOSNet", False), sizes=(32,), channels=1),
    "kornia HyNet": Entry(of("kornia.feature", "HyNet", False), sizes=(32,), channels=1),
    "kornia TFeat": Entry(of("kornia.feature", "TFeat", False), sizes=(32,), channels=1),
    "kornia KeyNet": Entry(of("kornia.feature", "KeyNet", False), channels=1),
    "kornia DISK": Entry(lambda: of("kornia.feature", "DISK")().unet),
    "kornia XFeatModel": Entry(of("kornia.feature", "XFeatModel")),
    "kornia DexiNed": Entry(of("kornia.models.dexined", "DexiNed", pretrained=False)),
    # Not TinyViT: for one image its input gradient is wrong as it is, by torch.nn.BatchNorm2d in eval mode, where the
    # gradient of the result has strides (C, 1, W * C, C). Finite differences agree with the folded convolution.
    "kornia RRDBNet": Entry(
        of("kornia.models", "RRDBNet", 3, 3, num_feat=16, num_block=2, num_grow_ch=8), sizes=(16, 24)
    ),
    **{
        f"pytorchcv {name}": Entry(pytorchcv(name), sizes=(48, 64))
        for name in PYTORCHCV
    },
    "pytorchcv peleenet": Entry(pytorchcv("peleenet")),
    "smp Unet": Entry(smp("Unet")),
    "smp Unet, scSE": Entry(smp("Unet", decoder_attention_type="scse")),
    "smp UnetPlusPlus": Entry(smp("UnetPlusPlus", "mobilenet_v2")),
    "smp FPN": Entry(smp("FPN", "efficientnet-b0")),
    "smp DeepLabV3Plus": Entry(smp("DeepLabV3Plus")),
    "smp PSPNet": Entry(smp("PSPNet")),
    "smp Linknet": Entry(smp("Linknet", "timm-efficientnet-b0")),
    "smp MAnet": Entry(smp("MAnet")),
    "smp PAN": Entry(smp("PAN"), sizes=(128, 160)),
    "smp UPerNet": Entry(smp("UPerNet", "tu-mobilenetv3_small_050")),
    "smp Segformer": Entry(smp("Segformer", "mit_b0")),
    "torchvision deeplabv3_mobilenet_v3_large": Entry(torchvision("deeplabv3_mobilenet_v3_large", num_classes=4)),
    "torchvision fcn_resnet50": Entry(torchvision("fcn_resnet50", num_classes=4, aux_loss=True)),
    "torchvision lraspp_mobilenet_v3_large": Entry(torchvision("lraspp_mobilenet_v3_large", num_classes=4)),
}  # fmt: skip
