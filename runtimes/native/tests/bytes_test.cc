// The kernels of int8 planes, against the formulas in kernels.h.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernel_rows.h"

namespace bihrnet {
namespace {

int Saturated(int x) { return std::clamp(x, -128, 127); }

// floor((x * slope / 128, rounded half up, + round, a word that saturates) / 2^shift)
int Sloped(int x, int slope, int round, int shift = 8) {
  const double scaled = std::clamp(std::floor(x * (slope / 128.0) + 0.5) + round, -32768.0, 32767.0);
  return Saturated(static_cast<int>(std::floor(scaled / (1 << shift))));
}

// A word that wraps, scaled and rounded half up, and what is added to it saturates.
int OnWords(const ByteCurve& curve, int count) {
  const auto word = static_cast<int16_t>(static_cast<uint32_t>(count) * curve.gain + static_cast<uint32_t>(curve.base));
  const double scaled = std::floor(word * (curve.factor / 32768.0) + 0.5);
  return static_cast<int>(std::floor(std::clamp(scaled + curve.more, -32768.0, 32767.0) / 256));
}

struct ByteRows {
  ByteRows(int channels, int pixels) {
    for (int c = 0; c < channels; ++c) {
      values.emplace_back(pixels);
      for (int p = 0; p < pixels; ++p) values.back()[p] = static_cast<int8_t>(Random(-128, 127));
      pointers.push_back(values.back().get());
    }
  }
  std::vector<Input<int8_t>> values;
  std::vector<const int8_t*> pointers;
};

struct OutputBytes {
  OutputBytes(int channels, int pixels) {
    for (int c = 0; c < channels; ++c) {
      values.emplace_back(pixels);
      pointers.push_back(values.back().data());
    }
  }
  void Fill(const ByteRows& from) {
    for (size_t c = 0; c < values.size(); ++c) std::copy_n(from.pointers[c], values[c].size(), values[c].data());
  }
  bool GuardsHold() const {
    return std::all_of(values.begin(), values.end(), [](const auto& row) { return row.GuardsHold(); });
  }
  std::vector<Output<int8_t>> values;
  std::vector<int8_t*> pointers;
};

void TestEpilogue(const Kernels& set, int residuals, bool own) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const int most = Random(0, 3) ? 600 : 65535;
  Input<uint16_t> acc(static_cast<size_t>(channels) * kTilePixels);
  for (int i = 0; i < channels * kTilePixels; ++i) acc[i] = static_cast<uint16_t>(Random(0, most));
  std::vector<int8_t> table(static_cast<size_t>(most) + 1);
  for (int8_t& byte : table) byte = static_cast<int8_t>(Random(-128, 127));
  std::vector<ByteCurve> curves(channels);
  for (ByteCurve& curve : curves) {
    curve.multiplier = std::uniform_real_distribution<float>(-1.0f, 1.0f)(Rng());
    curve.bias = Random(0, 1) ? static_cast<float>(Random(-600, 600)) / 2 : 300 * curve.multiplier;
    if (Random(0, 1)) curve.multiplier = static_cast<float>(Random(-4, 4)) / 4;  // ties
    curve.has_slope = Random(0, 2) != 0;
    curve.slope = static_cast<int16_t>(Random(0, 4) ? Random(0, 32767) : 32767);
    curve.round = static_cast<int16_t>(Random(0, 255));
    if (Random(0, 2) == 0) {
      curve.gain = static_cast<uint16_t>(Random(0, 3) ? Random(1, 65535 / most + 1) : Random(1, 65535));
      curve.base = static_cast<int16_t>(Random(0, 1) ? -int64_t{curve.gain} * most / 2 : Random(-32768, 32767));
      curve.factor = static_cast<int16_t>(Random(-32767, 32767));
      curve.more = static_cast<int16_t>(Random(0, 3) ? Random(-300, 300) : Random(-32768, 32767));
    }
    if (Random(0, 3) == 0) curve.table = table.data();
  }
  const ByteRows first(channels, pixels), second(channels, pixels);
  OutputBytes rows(channels, pixels);
  if (own) rows.Fill(first);
  const std::vector<const int8_t*> rows_read(rows.pointers.begin(), rows.pointers.end());
  ByteEpilogue args = {};
  args.acc = acc.get();
  args.rows = rows.pointers.data();
  args.curves = curves.data();
  if (residuals > 0) args.residual = own ? rows_read.data() : first.pointers.data();
  if (residuals > 1) args.second_residual = second.pointers.data();
  const bool clamp = Random(0, 1);
  args.clamp_min = clamp ? Random(-100, 300) : std::numeric_limits<int32_t>::min();
  args.clamp_max = clamp ? args.clamp_min + Random(0, 900) : std::numeric_limits<int32_t>::max();
  args.channels = channels;
  args.pixels = pixels;
  set.byte_epilogue(args);
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    const ByteCurve& curve = curves[c];
    for (int p = 0; p < pixels; ++p) {
      const int count = acc[c * kTilePixels + AccumulatorAt(p, true)];
      const int32_t twice = std::max(std::min(2 * count, args.clamp_max), args.clamp_min);
      volatile float y = static_cast<float>(twice);  // volatile: each step is rounded on its own
      y = y * curve.multiplier;
      y = y + curve.bias;
      int x = curve.gain != 0 ? OnWords(curve, count) : Saturated(static_cast<int>(std::nearbyint(y)));
      if (curve.has_slope) x = std::max(x, Sloped(x, curve.slope, curve.round));
      if (curve.table != nullptr) x = table[count];
      if (residuals > 0) x = Saturated(x + first.pointers[c][p]);
      if (residuals > 1) x = Saturated(x + second.pointers[c][p]);
      same = same && x == rows.pointers[c][p];
    }
  }
  if (!same) Fail("byte epilogue with " + std::to_string(residuals) + " residuals", set.name);
}

// As wide numbers have it: what the kernels' words and products must not lose.
int Sum(const ByteAddition& how, int a, int b) {
  if (how.kind == ByteAddition::Kind::kSaturated) return Saturated(a + b);
  const int from_a = a - how.zero_points[0], from_b = b - how.zero_points[1];
  if (how.kind == ByteAddition::Kind::kWhole) {
    const double y = (how.weights[0] * from_a + how.weights[1] * from_b) * (how.factor / 32768.0);
    return Saturated(static_cast<int>(std::round(y)) + how.zero_points[2]);  // ties away from zero
  }
  const auto high = [](double x, int32_t mantissa) { return std::floor(x * (mantissa / 2147483648.0) + 0.5); };
  const double sum = from_a * 524288.0 + high(std::ldexp(from_b, how.second_shift), how.second_mantissa);
  const double y = std::round(std::ldexp(high(sum, how.sum_mantissa), -how.sum_shift)) + how.zero_points[2];
  return static_cast<int>(std::clamp<double>(y, how.low, how.high));
}

ByteAddition RandomAddition() {
  ByteAddition how;
  how.kind = static_cast<ByteAddition::Kind>(Random(0, 2));
  for (int16_t& zero : how.zero_points) zero = static_cast<int16_t>(Random(0, 2) ? Random(-128, 127) : -128);
  how.weights[0] = static_cast<int8_t>(Random(1, 127));
  how.weights[1] = static_cast<int8_t>(Random(1, 128 - how.weights[0]));
  how.factor = static_cast<int16_t>(Random(0, 2) ? 32768 / (how.weights[0] + how.weights[1]) : Random(1, 32767));
  how.second_shift = Random(0, 19);
  how.second_mantissa = Random(1 << 30, std::numeric_limits<int32_t>::max());
  how.sum_mantissa = Random(1 << 30, std::numeric_limits<int32_t>::max());
  how.sum_shift = Random(0, 3) ? Random(17, 21) : Random(0, 31);
  how.low = static_cast<int8_t>(Random(0, 2) ? -128 : Random(-128, 127));
  how.high = static_cast<int8_t>(Random(0, 2) ? 127 : Random(how.low, 127));
  return how;
}

void TestSum(const Kernels& set, bool own) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const ByteAddition how = RandomAddition();
  const ByteRows a(channels, pixels), b(channels, pixels);
  OutputBytes rows(channels, pixels);
  if (own) rows.Fill(a);
  const std::vector<const int8_t*> rows_read(rows.pointers.begin(), rows.pointers.end());
  set.byte_sum(
      {rows.pointers.data(), own ? rows_read.data() : a.pointers.data(), b.pointers.data(), &how, channels, pixels});
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      same = same && rows.pointers[c][p] == Sum(how, a.pointers[c][p], b.pointers[c][p]);
    }
  }
  if (!same) Fail("byte sum of kind " + std::to_string(static_cast<int>(how.kind)), set.name);
}

void TestMap(const Kernels& set) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const ByteRows source(channels, pixels);
  std::vector<int8_t> table(256);
  for (int8_t& byte : table) byte = static_cast<int8_t>(Random(-128, 127));
  std::vector<ByteMap> maps(channels);
  for (ByteMap& map : maps) {
    map.slope = static_cast<int16_t>(Random(0, 4) ? Random(0, 32767) : 32767);
    map.round = static_cast<int16_t>(Random(0, 255));
    if (Random(0, 1)) map.round = static_cast<int16_t>(Random(-32768, 32767));
    map.shift = static_cast<int8_t>(Random(7, 8));
    map.or_x = Random(0, 1);
    if (Random(0, 3) == 0) map.table = table.data();
  }
  OutputBytes rows(channels, pixels);
  set.byte_map({rows.pointers.data(), source.pointers.data(), maps.data(), channels, pixels});
  bool same = rows.GuardsHold();
  for (int c = 0; c < channels; ++c) {
    for (int p = 0; p < pixels; ++p) {
      const int x = source.pointers[c][p];
      int y = Sloped(x, maps[c].slope, maps[c].round, maps[c].shift);
      if (maps[c].or_x) y = std::max(x, y);
      if (maps[c].table != nullptr) y = table[x + 128];
      same = same && y == rows.pointers[c][p];
    }
  }
  if (!same) Fail("byte map", set.name);
}

void TestSigns(const Kernels& set) {
  const int channels = Random(1, kQuad);
  const int pixels = Pixels();
  const ByteRows rows(channels, pixels);
  std::vector<int8_t> thresholds(channels);
  for (int8_t& threshold : thresholds)
    threshold = static_cast<int8_t>(Random(0, 3) ? Random(-20, 20) : Random(-128, 127));
  const int always = Random(0, 3) ? 0 : Random(0, (1 << channels) - 1);
  Input<uint8_t> mask(pixels);
  for (int p = 0; p < pixels; ++p) mask[p] = Random(0, 5) ? 15 : 0;
  Output<uint8_t> nibbles(pixels);
  set.byte_signs({rows.pointers.data(), thresholds.data(), static_cast<uint8_t>(always), mask.get(), nibbles.data(),
                  channels, pixels});
  bool same = nibbles.GuardsHold();
  for (int p = 0; p < pixels; ++p) {
    int expected = always;
    for (int c = 0; c < channels; ++c) expected |= (rows.pointers[c][p] < thresholds[c] ? 1 : 0) << c;
    same = same && nibbles.data()[p] == (mask[p] != 0 ? expected : 0);
  }
  if (!same) Fail("byte signs", set.name);
}

void TestHalve(const Kernels& set) {
  const int pixels = Random(1, 50), rows = Random(1, 5);
  const int from_pitch = 2 * pixels + Random(0, 5), to_pitch = pixels + Random(0, 4);
  const size_t size = static_cast<size_t>(2 * rows - 1) * from_pitch + 2 * pixels;
  Input<int8_t> from(size);
  for (size_t i = 0; i < size; ++i) from[i] = static_cast<int8_t>(Random(0, 3) ? Random(-4, 4) : Random(-128, 127));
  Output<int8_t> to(static_cast<size_t>(rows - 1) * to_pitch + pixels);
  const std::vector<int8_t> before(to.data(), to.data() + to.size());
  set.byte_halve({from.get(), to.data(), pixels, rows, from_pitch, to_pitch});
  bool same = to.GuardsHold();
  for (size_t i = 0; i < to.size(); ++i) {
    const size_t row = i / to_pitch, x = i % to_pitch;
    int expected = before[i];
    if (x < static_cast<size_t>(pixels)) {
      const int8_t* upper = from.get() + 2 * row * from_pitch + 2 * x;
      const int sum = upper[0] + upper[1] + upper[from_pitch] + upper[from_pitch + 1];
      expected = static_cast<int>(std::round(sum / 4.0));  // ties away from zero
    }
    same = same && to.data()[i] == expected;
  }
  if (!same) Fail("halving bytes", set.name);
}

void TestRepeat(const Kernels& set, int factor) {
  const int width = Random(1, 70), height = Random(1, 8);
  const int pitch = width + Random(0, 4);
  const int from_height = Random(1, height), from_width = (width + factor - 1) / factor;
  const int from_pitch = from_width + Random(0, 3);
  const int size = (from_height - 1) * from_pitch + from_width + kLanes;
  Input<int8_t> from(static_cast<size_t>(size));
  for (int i = 0; i < size; ++i) from[i] = static_cast<int8_t>(Random(-128, 127));
  std::vector<int> rows(static_cast<size_t>(height));
  for (int& row : rows) row = Random(0, from_height - 1);
  const int first = Random(0, height * pitch - 1);
  const int pixels = Random(1, height * pitch - first + 20);
  Output<int8_t> to(static_cast<size_t>(pixels));
  const std::vector<int8_t> before(to.data(), to.data() + pixels);
  set.byte_repeat({from.get(), from_pitch, rows.data(), factor, to.data(), first / pitch, first % pitch, pixels, height,
                   width, pitch});
  bool same = to.GuardsHold();
  for (int i = 0; i < pixels; ++i) {
    const int y = (first + i) / pitch, x = (first + i) % pitch;
    const bool image = y < height && x < width;
    same = same && to.data()[i] == (image ? from[rows[y] * from_pitch + x / factor] : before[static_cast<size_t>(i)]);
  }
  if (!same) Fail("repeating bytes " + std::to_string(factor) + " times", set.name);
}

}  // namespace

void TestBytes(const Kernels& set) {
  for (int i = 0; i < 300; ++i) TestEpilogue(set, i % 3, i % 5 < 2);
  for (int i = 0; i < 300; ++i) TestSum(set, i % 2 == 0);
  for (int i = 0; i < 200; ++i) TestMap(set);
  for (int i = 0; i < 200; ++i) TestSigns(set);
  for (int i = 0; i < 300; ++i) TestHalve(set);
  for (int factor = 1; factor <= 9; ++factor) {
    for (int i = 0; i < 100; ++i) TestRepeat(set, factor);
  }
}

}  // namespace bihrnet
