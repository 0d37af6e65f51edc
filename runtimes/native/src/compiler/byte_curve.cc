#include "compiler/byte_curve.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace bihrnet {
namespace {

constexpr float kWithinInt32 = 1e9f;

int Clamped(int x) { return std::clamp(x, -128, 127); }

// Every step rounded on its own, whatever the compiler may contract.
float Line(int32_t twice, float multiplier, float bias) {
  const volatile float scaled = static_cast<float>(twice) * multiplier;
  return scaled + bias;
}

// What LCE rounds to: ties go away from zero.
int RoundAway(float y) {
  if (y >= 127.0f) return 127;
  return y >= -128.0f ? static_cast<int>(std::round(y)) : -128;  // NaN, too
}

int RoundEven(float y) { return Clamped(static_cast<int>(std::nearbyint(std::clamp(y, -200.0f, 200.0f)))); }

// (x * slope / 128 + round) >> 8, or x where that is more and `or_x`.
struct Slope {
  int16_t slope = 0;
  int16_t round = 0;
  bool or_x = false;

  int operator()(int x) const {
    const int scaled = (x * 256 * slope + (1 << 14)) >> 15;
    const int y = Clamped((scaled + round) >> 8);
    return or_x ? std::max(x, y) : y;
  }
};

// A slope that gives map[x + 128] for every x that occurs.
bool FindSlope(const int8_t* map, const bool* occurs, bool or_x, Slope* found) {
  found->or_x = or_x;
  for (const int round : {128, 127, 124, 132, 116, 140, 104, 152}) {
    // x * slope / 128 + round lies from 256 * map(x) to 256 * (map(x) + 1).
    double low = 0.0, high = 32767.0;
    for (int x = -128; x < (or_x ? 0 : 128); ++x) {
      if (!occurs[x + 128] || x == 0) continue;
      const double y = map[x + 128];
      const double one = 128.0 * (256.0 * y - round) / x, other = 128.0 * (256.0 * (y + 1) - round) / x;
      low = std::max(low, std::min(one, other));
      high = std::min(high, std::max(one, other));
    }
    if (low > high) continue;
    found->round = static_cast<int16_t>(round);
    found->slope = static_cast<int16_t>((low + high) / 2);
    bool same = true;
    for (int x = -128; x < 128 && same; ++x) same = !occurs[x + 128] || (*found)(x) == map[x + 128];
    if (same) return true;
  }
  return false;
}

// One channel's bytes by accumulator, and which bytes occur.
class Channel {
 public:
  Channel(const Bconv& bconv, int channel) : bconv_(bconv) {
    curve_.multiplier = bconv.multiplier[static_cast<size_t>(channel)];
    curve_.bias = bconv.bias[static_cast<size_t>(channel)] + 0.0f;
    const int last = std::min(12 * bconv.triples, 65535);
    for (int acc = 0; acc <= last; ++acc) bytes_.push_back(RoundAway(LineAt(acc, curve_.bias)));
    for (const int byte : bytes_) occurs_[byte + 128] = true;
  }

  // Whether a curve of the kernels gives all of them, and `map` (null: as they are) of them.
  bool Find(const int8_t* map, ByteCurve* curve) {
    if (!FindLine() || (map != nullptr && !FindMap(map))) return false;
    *curve = curve_;
    return true;
  }

  const std::vector<int>& bytes() const { return bytes_; }

 private:
  float LineAt(int acc, float bias) const {
    return Line(std::max(std::min(2 * acc, bconv_.clamp_max), bconv_.clamp_min), curve_.multiplier, bias);
  }

  // The kernels send ties to even numbers: a bias next to the right one may move a tie to where it belongs.
  bool FindLine() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    if (!(std::fabs(curve_.multiplier) < kWithinInt32)) return false;
    for (const float bias :
         {curve_.bias, std::nextafter(curve_.bias, kInfinity), std::nextafter(curve_.bias, -kInfinity)}) {
      bool same = true;
      for (size_t acc = 0; acc < bytes_.size() && same; ++acc) {
        const float y = LineAt(static_cast<int>(acc), bias);
        same = std::fabs(y) < kWithinInt32 && RoundEven(y) == bytes_[acc];
      }
      if (!same) continue;
      curve_.bias = bias;
      return true;
    }
    return false;
  }

  bool FindMap(const int8_t* map) {
    bool same = true;
    for (int x = -128; x < 128; ++x) same = same && (!occurs_[x + 128] || map[x + 128] == x);
    if (same) return true;
    Slope slope;
    if (!FindSlope(map, occurs_, true, &slope)) return false;
    curve_.has_slope = true;
    curve_.slope = slope.slope;
    curve_.round = slope.round;
    return true;
  }

  const Bconv& bconv_;
  ByteCurve curve_;
  std::vector<int> bytes_;
  bool occurs_[256] = {};
};

}  // namespace

void SetByteCurves(Bconv* bconv, int channels, const std::vector<int8_t>& map) {
  for (int c = 0; c < channels; ++c) {
    const int8_t* mapped = map.empty() ? nullptr : map.data() + 256 * static_cast<size_t>(c);
    Channel channel(*bconv, c);
    ByteCurve curve;
    const bool found = channel.Find(mapped, &curve);
    bconv->curves.push_back(curve);
    bconv->table_at.push_back(found ? -1 : static_cast<int64_t>(bconv->tables.size()));
    if (found) continue;
    for (const int byte : channel.bytes()) {
      bconv->tables.push_back(mapped != nullptr ? mapped[byte + 128] : static_cast<int8_t>(byte));
    }
  }
}

std::vector<ByteMap> ByteMapsOf(const std::vector<int8_t>& map) {
  bool all[256];
  std::fill_n(all, 256, true);
  std::vector<ByteMap> maps(map.size() / 256);
  for (size_t c = 0; c < maps.size(); ++c) {
    const int8_t* table = map.data() + 256 * c;
    Slope slope;
    if (FindSlope(table, all, true, &slope) || FindSlope(table, all, false, &slope)) {
      maps[c] = {slope.slope, slope.round, slope.or_x, nullptr};
    } else {
      maps[c].table = table;
    }
  }
  return maps;
}

}  // namespace bihrnet
