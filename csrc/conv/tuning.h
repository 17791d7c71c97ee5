// Every constant that was measured, in two sections. bench/tune.py sweeps one of them over the bench's layers;
// docs/performance_notes.md tells what they gained, and where.
#pragma once

#include <cstdint>

namespace nhwc_conv {

constexpr int64_t kKilobyte = 1024, kMegabyte = 1024 * kKilobyte;

// ---- Moves result bits, or layouts that files keep: the same on every machine, whatever its caches are ----

// A cache line, a page, and the ways of a first-level cache, of one page each.
constexpr int64_t kLineBytes = 64, kPageBytes = 4096, kCacheWays = 8;
// Against cache sets that are shared: rows of lanes a line more apart, where they would be a multiple of so many lines;
// so many elements between the products of one point of Winograd's and the next.
constexpr int64_t kAlignedLines = 4, kPointGap = 16;

// Dense. A block of the reduction: weights of the widest tile, which has so many vectors, that stay in three quarters
// of a second-level cache of 512 KB.
constexpr int64_t kBlockWeightBytes = 384 * kKilobyte, kWidestTile = 4;
// Channels of a group so few that staging them, so that the taps of a row are one run, costs less than a loop a tap.
constexpr int64_t kShortTapBytes = 32;
// Outputs in a row for which packed weights choose their tiles; no image is known yet.
constexpr int64_t kPackedRun = 56;
// Planes: taps that make up for staging one group; products of an output that do so where outputs fill half a vector or
// more; bytes that one row of outputs, or the rows between dilated taps, read; vectors of products in a row beside
// which the end of a run, which fills none, is little.
constexpr int64_t kFewestPlaneTaps = 4, kManyPlaneProducts = 40, kLongDotRun = 4;
constexpr int64_t kPlaneRowBytes = kMegabyte, kPlaneGapBytes = 192 * kKilobyte;

// Lanewise: bytes of the narrowest vector, whose groups are too narrow for tiles of their own; and of the widest, which
// the input channels of a group fill for the dot form.
constexpr int64_t kNarrowestVectorBytes = 16, kWidestVectorBytes = 64;
// Padded rows: so many pixels for each of the image's, and these always. Not where the image is lost in its padding.
constexpr int64_t kMostPadding = 4, kAnyPadding = 64;
// Outputs in a row for each tap of a kernel row, from which runs of those with the same taps are long.
constexpr int64_t kLongRun = 4;
// Rows are staged for speed alone in images of less, or for kernels so high, and not where pixels are so large, under
// so few taps or a stride: whole pixels follow each other on their pages, and rows below each other share little.
constexpr int64_t kFarImageBytes = kMegabyte, kHighKernel = 7, kLargePixelBytes = 2 * kKilobyte, kFewTaps = 4;
// Outputs in a row of any item, at least.
constexpr int64_t kFewestAcross = 16;
// The weight gradient: bytes of x in a block. Rows that begin in fewer cache sets than these push each other out; under
// high kernels, which read more of them at once, in as many too.
constexpr int64_t kLanewiseBlockBytes = 192 * kKilobyte, kFewestSpreadSets = 4;
// That of grouped kernels: bytes of x in a block for each pixel that a step skips, since sums are loaded and stored
// once for its outputs.
constexpr int64_t kGroupedBlockBytes = 256 * kKilobyte;

// Winograd: when automatic choices take it. Costs of transforms are counted in products of one input and one output
// channel: of a patch for each channel, of a product of grouped kernels, and of the weights, or the sums of their
// gradient, for each pair of channels, by their bytes; of weights transformed ahead, which a network's other layers
// have driven out of the caches, too.
constexpr int64_t kFewestWinogradChannels = 8, kFewestWinogradBytes = 32, kFewestWinogradPairs = 256;
constexpr double kPatchCost = 250, kWinogradMargin = 1.15, kGroupedCost = 0.7;
constexpr int64_t kWeightCost = 70, kWeightByteCost = 20, kGradientByteCost = 90, kKeptWeightCost = 80;
// More input channels than this are summed in blocks, and patches of the weight gradient: one long chain loses
// accuracy.
constexpr int64_t kWinogradDepth = 64, kPatchBlock = 64;
// Transformed weights that are worth keeping ahead of the calls: reading more of them costs more than transforming
// again.
constexpr int64_t kKeptWinogradBytes = 3 * kMegabyte;

// Weight gradients. Channels of a group so few that the taps of a kernel row share a tile, and bytes of those so many
// that they can be its columns where outputs are fewer than a vector.
constexpr int64_t kMergedTapChannels = 16, kSwappedBytes = 16;
// A block: bytes of its two operands, and bounds of its output pixels. Fewer do not make up for reading and writing the
// gradient once for each.
constexpr int64_t kBlockOperandBytes = 256 * kKilobyte, kFewestBlockPixels = 256, kMostBlockPixels = 1024;
// Below this many weights, their gradient is split over pixels too, lest threads stay idle, or read all pixels each; up
// to so many parts of twice as many weights, since parts cost what memory costs.
constexpr int64_t kPartialElements = 16 * 1024, kLargePartials = 4, kMaxPartials = 16;

// ---- Moves speed only ----

// Multiply-adds in flight that keep one unit busy; and, in those, what a vector of weights, a row of a tile, a tile and
// an output cost.
constexpr double kLatency = 5, kVectorCost = 0.05, kRowCost = 0.15, kTileCost = 0.5, kOutputCost = 0.02;
// Bytes of a row of a weight gradient's columns, which stays in the first-level cache for all tiles of rows.
constexpr int64_t kGradientColumnsBytes = 128;
// Rows of a panel stand a multiple of so many elements apart and as many more, so that they do not share cache sets.
constexpr int64_t kPanelGap = 16;

// Dense items: bytes of input that stay in a second-level cache of 512 KB beside the weights; outputs; tiles of pixels
// that share the packing of weights; items for each thread, so that none waits for the last.
constexpr int64_t kItemInputBytes = 192 * kKilobyte, kMostItemPixels = 4096, kFewestTilesToPack = 4,
                  kItemsPerThread = 4;
// Of results where weights are few: bytes on so many pages as the first-level buffer of addresses holds, but outputs at
// least.
constexpr int64_t kItemOutputBytes = 128 * kKilobyte, kFewestItemPixels = 256;
// Taps so few that most inputs of a tile are new to it.
constexpr int64_t kTapsOfNewInputs = 4;
// Channels of a group so few that other groups use the same pages before they are gone; so much of them is staged at
// once, at most.
constexpr int64_t kNarrowGroupBytes = 128, kStagedGroupsBytes = kMegabyte;

// Pieces: weights for which the first-level cache has no room beside the pixels, for fewer pixels than would share
// them; for more than a few, only if a panel of the weights would not stay in the second-level cache, or if pixels are
// so large that an item would read all weights for few of them. Where matrices are multiplied, or every output lacks
// taps, many more. The input that each item then stages whole.
constexpr int64_t kManyWeightBytes = 128 * kKilobyte, kVeryManyWeightBytes = kMegabyte, kPiecesInputBytes = kMegabyte;
constexpr int64_t kVeryFewPixels = 128, kFewPixels = 256, kSharingPixels = 1024, kFewItemPixels = 32;
// More than any memory holds: a view of stride 0. To pack it at once fails at once; piece by piece would not end.
constexpr int64_t kImpossibleBytes = int64_t(1) << 40;
// Products in a row of a piece. Flat ones stay in the first-level cache; but with a large input, which is read anew for
// each, as deep ones as blocks of the reduction are allowed to be.
constexpr int64_t kFlatPiece = 128, kDeepPiece = 1536, kSmallInputBytes = 512 * kKilobyte;
// Vectors of products in a step of a tile that take long enough to bring a line of memory. With fewer, lines asked for
// in the steps hold up the loads behind them; then pieces of more than so many tiles are twice as deep.
constexpr int64_t kProductsOfLine = 16, kTilesOfDeeperPiece = 8;
// Of weights packed ahead of the call, for few pixels, what stays in the first-level cache.
constexpr int64_t kPackedPieceBytes = 32 * kKilobyte;
// An image that is packed as weights are: see pointwise.h.
constexpr int64_t kExchangedBytes = 4 * kMegabyte;
// What the sums of an item may take where all its columns take a piece before the next; bytes of a row of weights that
// one item should read at least.
constexpr int64_t kPieceRowsBytes = 512 * kKilobyte, kWideRowBytes = 1024;

// Lanewise items: bytes of input that is staged, or read anew for every kernel row, and stays in the second-level
// cache; read once, it may be larger: rows at its ends, which the next item reads too, weigh less. Outputs in a row, at
// least.
constexpr int64_t kLanewiseItemBytes = 192 * kKilobyte, kReadOnceBytes = 4 * kLanewiseItemBytes;
// Lanes, and groups at least, of a staged pixel: of fewer, items read too short pieces of the image's pixels. Lanes at
// least where channels stand apart, and pixels together.
constexpr int64_t kStagedLanes = 512, kFewestPlanarLanes = 16, kFewestStagedGroups = 16;
// So few rows of outputs where images or results take so much; tiles ask ahead where they take as much as comes from
// memory. Rows of kernels that the cache keeps what tiles share for, at most; outputs of a tile, where few. Bytes of a
// pixel, at least, and taps, at most, where images from memory are read in its order; rows of kernels, at most, where
// they are at a stride. Bytes of a pixel, at most, of which tiles take pairs of vectors. Pixels, at least, of which
// tiles under dilated kernels take one in so many.
constexpr int64_t kFewRows = 4, kFewRowsBytes = 512 * kKilobyte, kAskedImageBytes = 6 * kMegabyte;
constexpr int64_t kFewKernelRows = 3, kMostStridedKernelRows = 5, kFewTileRows = 4;
constexpr int64_t kOrderedPixelBytes = 512, kOrderedTaps = 9, kMostPairedBytes = kKilobyte, kSharedPixelBytes = 128;
// Of dense layers of few outputs: bytes of the channels of a group, at least, where tiles ask ahead.
constexpr int64_t kAskedRunBytes = 256;

// Chains: the parts of a second-level cache that images between convolutions take, and weights of one at most.
constexpr int64_t kCachesOfStrip = 2, kCachesOfWeights = 4;

// Winograd. Rows of weights ahead of the one that is transformed, in channels: long enough to come from memory.
constexpr int64_t kRowsAhead = 4;
// Patches of a block: few enough that V and M stay in a second-level cache beside U, more where each block
// transforms the weights anew.
constexpr int64_t kFewPatches = 28, kMostPatches = 64;
// U up to here is written before the first item, its blocks in so many parts, by different threads.
constexpr int64_t kPackedWinogradBytes = 1536 * kKilobyte, kPackParts = 4;
// Its weight gradient. Channels, on either side, of an item that meets several blocks, whose S, V and D are a few times
// what a second-level cache holds. With one block there is no S to come back to: V and D find room in a third-level
// cache, and S is computed in parts that are transformed back before they leave the second-level cache.
constexpr int64_t kWinogradItemChannels = 128, kWinogradItemBytes = 12 * kMegabyte;
constexpr int64_t kWinogradPartRows = 64, kWinogradPartColumns = 128;
// Transforms of one input and one output channel of a patch, in products of one and the other.
constexpr int64_t kInputTransformCost = 300, kGradientTransformCost = 200;

// Weight gradients stage an operand that is read so often: that costs less than reading rows that stand far apart, each
// on a page of its own, or many in one cache set. For one tap, pixels that stand closer than half a page (in a large
// second-level cache, than a page) have to be read more often. A tile of columns stays in the first-level cache for the
// tiles of a part: so many of them count as one.
constexpr int64_t kManyReads = 4, kVeryManyReads = 10, kNearReads = 4, kLargeCacheBytes = 2 * kMegabyte;
// Rows of a part, which are read again for every kernel position only; and columns that are staged together, so many
// that staging the rows anew for each lot of them is little work beside their products.
constexpr int64_t kPartRows = 64, kStagedColumns = 256;
// Pixels so few that the gradient is made row by row, and bytes of a row that is long enough for a call.
constexpr int64_t kStreamedPixels = 16, kLongRowBytes = 512;
// Channels, and rows of channels and taps, whose sums are finished together: they are runs of the result.
constexpr int64_t kFinishedChannels = 16, kFinishedRows = 64;
// Products and bytes of the least passes that threads share: they take six to fifteen microseconds. To begin and to end
// with two threads takes two, and ten where others use the cores.
constexpr double kSharedWork = 256e3;
// Of a row of inputs that two items read, what the second pays, in rows of outputs: staged, or read from where it lies.
// Of a dense item, what its weights cost beside a tile of pixels.
constexpr double kStagedAgain = 0.5, kReadAgain = 0.2, kItemTiles = 1;
// A round of items that keeps more threads busy is worth more rounds if it shortens them by so much.
constexpr double kBetterRounds = 0.95;

}  // namespace nhwc_conv
