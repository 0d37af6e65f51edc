// Every kernel of every set, bit for bit against formulas that share no code with the kernels; so the sets agree with
// each other too. What a kernel reads ends, or begins, at a page that nobody may touch: an overread is a crash even
// where a sanitizer cannot see it, as in assembly. Outputs lie between guard bytes.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "kernel_rows.h"

namespace bihrnet {
namespace {

constexpr uint8_t kOnes[] = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};  // of a nibble

// Every tile reads a plane a nibble of exactly the bytes it may read.
void TestBconv(const Kernels& set, int nibbles, int vectors) {
  const int triples = (nibbles + 2) / 3;
  const int entries = 3 * triples;
  const int bytes = kLanes * vectors;
  // Offsets may point behind and before the tile's first plane, at any alignment, and nibbles may share bytes.
  const int planes = std::min(entries, Random(1, 40));
  const int slack = Random(0, 40);
  const size_t size = static_cast<size_t>(planes) * bytes + slack;
  Input<uint8_t> signs(size);
  const bool extreme = Random(0, 4) == 0;  // all counts at their most, where fields would overflow
  for (size_t i = 0; i < size; ++i) signs[i] = static_cast<uint8_t>(extreme ? 15 : Random(0, 15));
  const int origin = Random(0, static_cast<int>(size) - bytes);
  Input<int32_t> offsets(entries);
  for (int k = 0; k < entries; ++k) offsets[k] = Random(0, static_cast<int>(size) - bytes) - origin;
  Input<uint16_t> weights(2 * static_cast<size_t>(entries));
  std::vector<uint8_t> nibble(static_cast<size_t>(kQuad) * nibbles);
  for (uint8_t& value : nibble) value = static_cast<uint8_t>(extreme ? 0 : Random(0, 15));
  for (int pair = 0; pair < 2; ++pair) {
    for (int k = 0; k < entries; ++k) {
      const size_t even = static_cast<size_t>(2 * pair) * nibbles + k;
      weights[static_cast<size_t>(pair) * entries + k] =
          k < nibbles ? PairWeights(nibble[even], nibble[even + nibbles]) : kNoWeights;
    }
  }
  const BconvTile tile = {signs.get() + origin, offsets.get(), weights.get(), triples, vectors, Random(0, 1) != 0};
  Output<uint16_t> acc(kQuad * kTilePixels);
  set.bconv(tile, acc.data());
  bool same = acc.GuardsHold();
  for (int c = 0; c < kQuad; ++c) {
    std::vector<uint32_t> counts(bytes);
    for (int k = 0; k < nibbles; ++k) {
      const uint8_t weight = nibble[static_cast<size_t>(c) * nibbles + k];
      const uint8_t* from = tile.signs + offsets[k];
      for (uint32_t& count : counts) count += kOnes[(*from++ ^ weight) & 15];
    }
    for (int p = 0; p < bytes; ++p) {
      same = same && acc.data()[c * kTilePixels + AccumulatorAt(p, tile.halves)] == static_cast<uint16_t>(counts[p]);
    }
  }
  if (!same)
    Fail("bconv of " + std::to_string(nibbles) + " nibbles, " + std::to_string(vectors) + " vectors", set.name);
}

void TestBconvs(const Kernels& set) {
  const int most = kTilePixels / kLanes;
  for (int triples : {1, 2, 20, 21, 22}) {
    for (int vectors = 1; vectors <= most; ++vectors) TestBconv(set, 3 * triples - vectors % 3, vectors);
  }
  for (int triples : {42, 43, 96, 192}) {  // with every tail, and whole; it takes long
    for (int vectors : {1, 2, 3, 4, 5, most}) TestBconv(set, 3 * triples - Random(0, 2), vectors);
  }
  for (int i = 0; i < 60; ++i) TestBconv(set, Random(1, 200), Random(1, most));
  TestBconv(set, 16383, 1);  // 65532 binary channels
  TestBconv(set, 65535, 2);  // totals are modulo 65536
}

// residuals: how many; own: the first is, or both are, the rows themselves.
void TestEpilogue(const Kernels& set, bool prelu, int residuals, bool own) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  Input<uint16_t> acc(static_cast<size_t>(channels) * kTilePixels);
  for (int i = 0; i < channels * kTilePixels; ++i)
    acc[i] = static_cast<uint16_t>(Random(0, Random(0, 1) ? 65535 : 600));
  const std::vector<float> multiplier = Floats(channels), bias = Floats(channels), alpha = Floats(channels);
  const Rows first(channels, pixels, true), other(channels, pixels, true);
  const bool second_own = own && Random(0, 1);
  const Rows& second = second_own ? first : other;
  OutputRows rows(channels, pixels);
  if (own) rows.Fill(first);
  const std::vector<const float*> rows_read(rows.pointers.begin(), rows.pointers.end());
  Epilogue args = {};
  args.acc = acc.get();
  args.rows = rows.pointers.data();
  args.multiplier = multiplier.data();
  args.bias = bias.data();
  args.alpha = prelu ? alpha.data() : nullptr;
  if (residuals > 0) args.residual = own ? rows_read.data() : first.pointers.data();
  if (residuals > 1) args.second_residual = second_own ? rows_read.data() : second.pointers.data();
  const bool clamp = Random(0, 1);
  args.clamp_min = clamp ? Random(-100, 300) : std::numeric_limits<int32_t>::min();
  args.clamp_max = clamp ? args.clamp_min + Random(0, 900) : std::numeric_limits<int32_t>::max();
  args.channels = channels;
  args.pixels = pixels;
  set.epilogue(args);
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const int32_t twice = std::max(std::min(2 * acc[c * kTilePixels + p], args.clamp_max), args.clamp_min);
      volatile float y = static_cast<float>(twice);  // volatile: each step is rounded on its own
      y = y * multiplier[c];
      y = y + (bias[c] + 0.0f);
      if (prelu && y < 0.0f) y = y * alpha[c];
      if (residuals > 0) y = y + first.pointers[c][p];
      if (residuals > 1) y = y + second.pointers[c][p];
      same = same && SameBits(y, rows.pointers[c][p]);
    }
  }
  if (!same) Fail("epilogue with " + std::to_string(residuals) + " residuals", set.name);
}

void TestEpilogues(const Kernels& set) {
  for (int i = 0; i < 600; ++i) TestEpilogue(set, i % 2 == 0, i % 3, i % 5 < 2);
}

float Expected(Pointwise op, float x, float operand) {
  switch (op) {
    case Pointwise::kCopy:
      return operand;
    case Pointwise::kAdd:
      return x + operand;
    case Pointwise::kSub:
      return x - operand;
    case Pointwise::kRsub:
      return operand - x;
    case Pointwise::kMul:
      return x * operand;
    case Pointwise::kMax:
      return std::max(x, operand);
    case Pointwise::kMin:
      return std::min(x, operand);
    case Pointwise::kPrelu:
      return x < 0.0f ? x * operand : x;
    case Pointwise::kRoundEven:
      return std::nearbyintf(x);
    case Pointwise::kRoundAway:
      return std::roundf(x);
  }
  return x;
}

// operand_kind: 0 constants, 1 other rows, 2 the rows that are operated on themselves; these may be the results' rows.
void TestPointwise(const Kernels& set, Pointwise op, int operand_kind, bool in_place) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const Rows before(channels, pixels, true);
  const Rows others(channels, pixels, true);
  const std::vector<float> constants = Floats(channels, true);
  OutputRows rows(channels, pixels);
  if (in_place) rows.Fill(before);
  const std::vector<const float*> own(rows.pointers.begin(), rows.pointers.end());
  PointwiseArgs args = {};
  args.op = op;
  args.rows = rows.pointers.data();
  args.source = in_place ? own.data() : before.pointers.data();
  args.operands = operand_kind == 0 ? nullptr : operand_kind == 1 ? others.pointers.data() : args.source;
  const bool unary = op == Pointwise::kRoundEven || op == Pointwise::kRoundAway;
  if (unary) args.operands = nullptr;
  args.constants = operand_kind == 0 && !unary ? constants.data() : nullptr;
  args.channels = channels;
  args.pixels = pixels;
  set.pointwise(args);
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const float x = before.pointers[c][p];
      const float operand = operand_kind == 0 ? constants[c] : operand_kind == 1 ? others.pointers[c][p] : x;
      same = same && SameBits(Expected(op, x, operand), rows.pointers[c][p]);
    }
  }
  if (!same) Fail("pointwise operation " + std::to_string(static_cast<int>(op)), set.name);
}

void TestSum(const Kernels& set, int count, bool scaled, bool in_place) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const Rows before(channels, pixels, true);
  std::vector<Rows> terms;
  for (int i = 0; i < count; ++i) terms.emplace_back(channels, pixels, true);
  const std::vector<float> factors = Floats(channels, true);
  OutputRows rows(channels, pixels);
  if (in_place) rows.Fill(before);
  const std::vector<const float*> own(rows.pointers.begin(), rows.pointers.end());
  Sum args = {};
  args.rows = rows.pointers.data();
  args.source = in_place ? own.data() : before.pointers.data();
  for (int i = 0; i < count; ++i) args.terms[i] = terms[i].pointers.data();
  args.count = count;
  args.factors = scaled ? factors.data() : nullptr;
  args.channels = channels;
  args.pixels = pixels;
  set.sum(args);
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      volatile float x = before.pointers[c][p];  // volatile: each step is rounded on its own
      for (const Rows& term : terms) x = x + term.pointers[c][p];
      if (scaled) x = x * factors[c];
      same = same && SameBits(x, rows.pointers[c][p]);
    }
  }
  if (!same) Fail("sum of " + std::to_string(count), set.name);
}

void TestSums(const Kernels& set) {
  for (int i = 0; i < 120; ++i) TestSum(set, 1 + i % kMaxTerms, i % 2 == 0, i % 5 < 2);
}

void TestPointwises(const Kernels& set) {
  for (int op = 0; op <= static_cast<int>(Pointwise::kRoundAway); ++op) {
    for (int i = 0; i < 45; ++i) TestPointwise(set, static_cast<Pointwise>(op), i % 3, i % 2 == 0);
  }
}

void TestQuantize(const Kernels& set, bool biased) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const Rows rows(channels, pixels, true);
  std::vector<float> bias = Floats(channels);
  for (float& value : bias) value = Random(0, 2) ? value : Random(0, 1) ? 0.0f : -0.0f;
  Input<uint8_t> mask(pixels);
  for (int p = 0; p < pixels; ++p) mask[p] = Random(0, 5) ? 15 : 0;
  Output<uint8_t> nibbles(pixels);
  set.quantize({rows.pointers.data(), biased ? bias.data() : nullptr, mask.get(), nibbles.data(), channels, pixels});
  bool same = nibbles.GuardsHold();
  for (int p = 0; p < pixels; ++p) {
    int expected = 0;
    for (int c = 0; c < channels; ++c) {
      const float x = rows.pointers[c][p];
      const bool negative = biased ? x + bias[c] < 0.0f : x < 0.0f;
      if (negative && mask[p] != 0) expected += 1 << c;
    }
    same = same && nibbles.data()[p] == expected;
  }
  if (!same) Fail("quantize", set.name);
}

void TestQuantizes(const Kernels& set) {
  for (int i = 0; i < 200; ++i) TestQuantize(set, i % 2 == 0);
}

void TestTranspose(const Kernels& set, int pixels) {
  const int channels = Random(1, kQuad);
  const int stride = channels + (Random(0, 2) ? Random(0, 40) : 0);
  const size_t count = static_cast<size_t>(pixels - 1) * stride + channels;
  Input<float> nhwc(count);
  const std::vector<float> values = Floats(count, true);
  std::copy(values.begin(), values.end(), nhwc.get());
  OutputRows rows(channels, pixels);
  set.rows_from_nhwc({rows.pointers.data(), nhwc.get(), stride, channels, pixels});
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) same = same && SameBits(nhwc[p * stride + c], rows.pointers[c][p]);
  }
  if (!same) Fail("rows_from_nhwc", set.name);

  Output<float> back(count);
  std::vector<uint8_t> untouched(reinterpret_cast<uint8_t*>(back.data()),
                                 reinterpret_cast<uint8_t*>(back.data() + count));
  set.nhwc_from_rows({rows.pointers.data(), back.data(), stride, channels, pixels});
  same = back.GuardsHold();
  for (size_t i = 0; i < count; ++i) {
    const bool written = static_cast<int>(i % stride) < channels;
    const void* expected = written ? static_cast<const void*>(&nhwc[i]) : &untouched[i * sizeof(float)];
    same = same && std::memcmp(back.data() + i, expected, sizeof(float)) == 0;
  }
  if (!same) Fail("nhwc_from_rows", set.name);
}

void TestTransposes(const Kernels& set) {
  for (int pixels = 1; pixels <= 70; ++pixels) {
    for (int i = 0; i < 6; ++i) TestTranspose(set, pixels);
  }
}

void TestSelection() {
  const Kernels* best = SelectKernels(nullptr);
  const bool found = best != nullptr && SelectKernels("") == best && SelectKernels("scalar") == ScalarKernels() &&
                     SelectKernels("avx2") == Avx2Kernels() && SelectKernels("neon") == NeonKernels() &&
                     SelectKernels("none such") == nullptr;
  const Kernels* wide = Avx2Kernels() != nullptr ? Avx2Kernels() : NeonKernels();
  if (!found || (wide != nullptr && best != wide)) Fail("selection", best != nullptr ? best->name : "null");
}

}  // namespace
}  // namespace bihrnet

int main() {
  using namespace bihrnet;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a crash leaves the lines before it
  TestSelection();
  const struct {
    const char* name;
    void (*test)(const Kernels&);
  } kTests[] = {{"bconv", TestBconvs},
                {"epilogue", TestEpilogues},
                {"pointwise", TestPointwises},
                {"quantize", TestQuantizes},
                {"transposes", TestTransposes},
                {"halving", TestHalving},
                {"every second", TestEverySecond},
                {"sums", TestSums},
                {"repeats", TestRepeats},
                {"conv", TestConvs},
                {"bytes", TestBytes},
                {"byte conv", TestByteConvs}};
  for (const Kernels* set : {ScalarKernels(), Avx2Kernels(), NeonKernels()}) {
    if (set == nullptr) continue;
    for (const auto& test : kTests) {
      test.test(*set);
      std::printf("%s %s: ok\n", set->name, test.name);
    }
  }
  return 0;
}
