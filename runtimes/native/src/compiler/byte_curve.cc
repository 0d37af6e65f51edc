#include "compiler/byte_curve.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace bihrnet {
namespace {

constexpr float kWithinInt32 = 1e9f;
constexpr int kGains = 24;  // that are tried
constexpr size_t kAskedFirst = 8;
constexpr double kHalfBit = 1.0 / (1 << 24);  // of a float

int Clamped(int x) { return std::clamp(x, -128, 127); }

// Every step rounded on its own, whatever the compiler may contract.
float Line(int32_t twice, float multiplier, float bias) {
  const volatile float scaled = static_cast<float>(twice) * multiplier;
  return scaled + bias;
}

// What LCE rounds to: ties go away from zero.
int RoundAway(float y) {
  if (y >= 127.0f) return 127;
  if (!(y >= -128.0f)) return -128;  // NaN, too
  const int whole = static_cast<int>(y);
  const float rest = y - static_cast<float>(whole);  // exact
  return whole + (rest >= 0.5f ? 1 : 0) - (rest <= -0.5f ? 1 : 0);
}

int RoundEven(float y) { return Clamped(static_cast<int>(std::nearbyint(std::clamp(y, -200.0f, 200.0f)))); }

// As ByteMap has it.
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
    double low = -32767.0, high = 32767.0;
    for (int x = -128; x < (or_x ? 0 : 128); ++x) {
      if (!occurs[x + 128] || x == 0) continue;
      const double by = 128.0 / x;
      const double one = (256.0 * map[x + 128] - round) * by, other = one + 256.0 * by;
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

// A line through the steps of a map that saturates at its ends.
bool FindLine(const int8_t* map, ByteMap* line) {
  constexpr int kTries = 600;
  int first = -128, last = 127;
  while (first < 127 && map[first + 128] == map[first + 129] && std::abs(map[first + 128] + 0.5) > 127) ++first;
  while (last > first && map[last + 128] == map[last + 127] && std::abs(map[last + 128] + 0.5) > 127) --last;
  for (const int shift : {8, 7}) {
    const int one = 1 << shift;
    const double slope = 128.0 * one * (map[last + 128] - map[first + 128]) / std::max(1, last - first);
    for (int i = 0; i < kTries; ++i) {
      const double tried = std::nearbyint(slope) + (i % 2 == 0 ? i / 2 : -(i + 1) / 2);
      if (std::fabs(tried) > 32767) continue;
      int least = -32768, most = 32767;
      for (int x = -128; x < 128 && least <= most; ++x) {
        const int high = (x * 256 * static_cast<int>(tried) + (1 << 14)) >> 15;
        const int y = map[x + 128];
        if (y > -128) least = std::max(least, one * y - high);
        if (y < 127) most = std::min(most, one * (y + 1) - 1 - high);
      }
      if (least > most) continue;
      line->slope = static_cast<int16_t>(tried);
      line->round = static_cast<int16_t>(least + (most - least) / 2);
      line->shift = static_cast<int8_t>(shift);
      return true;
    }
  }
  return false;
}

// One channel's bytes by accumulator: where they change, and which occur.
class Channel {
 public:
  Channel(const Bconv& bconv, int channel) : bconv_(bconv) {
    curve_.multiplier = bconv.multiplier[static_cast<size_t>(channel)];
    curve_.bias = bconv.bias[static_cast<size_t>(channel)] + 0.0f;
    last_ = std::min(12 * bconv.triples, 65535);
    // Bytes rise, or fall, all along, and so do those of the kernels: they are the same where they are so at both ends
    // and on both sides of every change.
    const int final = ByteAt(last_);
    const double bias = curve_.bias;
    one_ = 0.5 / static_cast<double>(curve_.multiplier);
    off_ = (std::fabs(bias) + 300) * kHalfBit * std::fabs(one_) + 1e-6;
    ends_.reserve(2 * 256);
    const bool far = !(std::fabs(one_) < 2);     // else it is quicker to take each than to find the next
    const bool one_by_one = far && off_ < 0.25;  // no change leaves a byte out
    int byte = ByteAt(0);
    for (int acc = 0; acc <= last_; ++acc) {
      int last = acc;
      if (byte == final) {
        last = last_;
      } else if (far || acc == 0) {
        last = NextChange(acc, byte, final > byte) - 1;
      }
      ends_.emplace_back(acc, byte);
      if (last > acc) ends_.emplace_back(last, byte);
      occurs_[byte + 128] = true;
      acc = last;
      if (acc < last_) byte = one_by_one ? byte + (final > byte ? 1 : -1) : ByteAt(acc + 1);
    }
  }

  // Whether a curve of the kernels gives all of them, and `map` (null: as they are) of them.
  bool Find(const int8_t* map, ByteCurve* curve) {
    if (!(std::fabs(curve_.multiplier) < kWithinInt32)) return false;
    if ((!FindWords() && !FindFloats()) || (map != nullptr && !FindMap(map))) return false;
    *curve = curve_;
    return true;
  }

  std::vector<int8_t> Bytes() {
    std::vector<int8_t> bytes;
    std::sort(ends_.begin(), ends_.end(), [](const End& a, const End& b) { return a.acc < b.acc; });
    for (const End& end : ends_) bytes.resize(static_cast<size_t>(end.acc) + 1, static_cast<int8_t>(end.byte));
    return bytes;
  }

 private:
  struct End {  // of accumulators that have the same byte: the first, the last and any between
    End(int at, int of) : acc(at), byte(of) {}
    int acc;
    int byte;
  };

  int ByteAt(int acc) const { return RoundAway(LineAt(acc, curve_.bias)); }

  // The first accumulator behind `acc` with another byte; the last one has another. The real line says where, but for
  // what float32 rounds away: half of the last bit of a product, and of a sum that lies within int8.
  int NextChange(int acc, int byte, bool rises) const {
    int first = acc + 1, last = last_;
    const double at = (byte + (rises ? 0.5 : -0.5) - curve_.bias) * one_;
    if (at - off_ > acc && at - off_ < last - 1) first = static_cast<int>(at - off_) + 1;
    if (at + off_ > acc && at + off_ < last - 1) last = std::max(first, static_cast<int>(at + off_) + 1);
    while (first < last) {
      const int middle = first + (last - first) / 2;
      if (ByteAt(middle) == byte) {
        first = middle + 1;
      } else {
        last = middle;
      }
    }
    return first;
  }

  float LineAt(int acc, float bias) const {
    return Line(std::max(std::min(2 * acc, bconv_.clamp_max), bconv_.clamp_min), curve_.multiplier, bias);
  }

  // A line of words is off by about half of a 256th of a byte, now here, now there: of many that are all but the same
  // one mostly is right wherever that matters. Sums of more than a thousand bits often have none.
  bool FindWords() {
    const bool clamps = bconv_.clamp_min > 0 || bconv_.clamp_max < 2 * last_;
    if (clamps || last_ < 1) return false;
    const int most = 65535 / last_;
    const double an_accumulator = 256.0 * 2.0 * static_cast<double>(curve_.multiplier);
    for (int gain = most; gain > 0 && gain > most - kGains; --gain) {
      const int base = -(gain * last_ + 1) / 2;
      const double factor = an_accumulator / gain * 32768.0;
      for (const int near : {0, 1, -1}) {
        const double rounded = std::nearbyint(factor) + near;
        if (std::fabs(rounded) > 32767.0) continue;
        curve_.gain = static_cast<uint16_t>(gain);
        curve_.base = static_cast<int16_t>(base);
        curve_.factor = static_cast<int16_t>(rounded);
        if (FindMore()) return true;
      }
    }
    curve_.gain = 0;
    return false;
  }

  bool FindMore() {
    int least = -32768, most = 32767;
    for (size_t i = 0; i < ends_.size(); ++i) {
      const int byte = ends_[i].byte;
      const int word = curve_.gain * ends_[i].acc + curve_.base;
      const int high = (word * curve_.factor + (1 << 14)) >> 15;
      if (byte > -128) least = std::max(least, 256 * byte - high);
      if (byte < 127) most = std::min(most, 256 * byte + 255 - high);
      if (least <= most) continue;
      // Where one line fails the next ones do, mostly: it is asked first.
      std::swap(ends_[i], ends_[failures_++ % std::min<size_t>(kAskedFirst, ends_.size())]);
      return false;
    }
    curve_.more = static_cast<int16_t>(least + (most - least) / 2);
    return true;
  }

  // The kernels send ties to even numbers: a bias next to the right one may move a tie to where it belongs.
  bool FindFloats() {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    for (const float bias :
         {curve_.bias, std::nextafter(curve_.bias, kInfinity), std::nextafter(curve_.bias, -kInfinity)}) {
      bool same = true;
      for (size_t i = 0; i < ends_.size() && same; ++i) {
        const float y = LineAt(ends_[i].acc, bias);
        same = std::fabs(y) < kWithinInt32 && RoundEven(y) == ends_[i].byte;
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
  int last_;               // accumulator
  double one_;             // accumulators that make 1
  double off_;             // as many may a step be off the real line
  std::vector<End> ends_;  // in any order
  size_t failures_ = 0;
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
    for (const int8_t byte : channel.Bytes()) bconv->tables.push_back(mapped != nullptr ? mapped[byte + 128] : byte);
  }
}

std::vector<ByteMap> ByteMapsOf(const std::vector<int8_t>& map) {
  bool all[256];
  std::fill_n(all, 256, true);
  std::vector<ByteMap> maps(map.size() / 256);
  for (size_t c = 0; c < maps.size(); ++c) {
    const int8_t* table = map.data() + 256 * c;
    if (c > 0 && std::equal(table, table + 256, table - 256)) {
      maps[c] = maps[c - 1];
      continue;
    }
    Slope slope;
    if (FindSlope(table, all, true, &slope)) {
      maps[c].slope = slope.slope;
      maps[c].round = slope.round;
      maps[c].or_x = true;
    } else if (!FindLine(table, &maps[c])) {
      maps[c].table = table;
    }
  }
  return maps;
}

}  // namespace bihrnet
