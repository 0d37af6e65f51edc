#include "graph/flexbuffer.h"

#include <cstring>

namespace bihrnet {
namespace {

constexpr unsigned kInt = 1, kUint = 2, kMap = 9, kBool = 26;

bool IsWidth(uint64_t width) { return width == 1 || width == 2 || width == 4 || width == 8; }

std::optional<uint64_t> ReadUint(const uint8_t* data, size_t size, size_t at, size_t width) {
  if (at > size || size - at < width) return std::nullopt;
  uint64_t value = 0;
  std::memcpy(&value, data + at, width);  // FlexBuffers and every target here are little-endian
  return value;
}

}  // namespace

std::optional<FlexMap> FlexMap::Parse(const uint8_t* data, size_t size) {
  // The last byte is the width of the root, the one before it its type, and before these lies the root itself: for a
  // map, how far back its values begin.
  if (data == nullptr || size < 3) return std::nullopt;
  const size_t root_width = data[size - 1];
  const unsigned root_type = data[size - 2];
  if (!IsWidth(root_width) || root_type >> 2 != kMap || size - 2 < root_width) return std::nullopt;
  const size_t root = size - 2 - root_width;
  const auto back = ReadUint(data, size, root, root_width);
  if (!back || *back > root) return std::nullopt;

  FlexMap map;
  map.data_ = data;
  map.size_ = size;
  map.values_ = root - static_cast<size_t>(*back);
  map.width_ = size_t{1} << (root_type & 3);
  // Before the values: where the keys are, the width of their references, the number of values.
  if (map.values_ < 3 * map.width_) return std::nullopt;
  const size_t keys_at = map.values_ - 3 * map.width_;
  const auto keys_back = ReadUint(data, size, keys_at, map.width_);
  const auto key_width = ReadUint(data, size, keys_at + map.width_, map.width_);
  const auto count = ReadUint(data, size, keys_at + 2 * map.width_, map.width_);
  if (!keys_back || !key_width || !count || !IsWidth(*key_width) || *keys_back > keys_at) return std::nullopt;
  map.keys_ = keys_at - static_cast<size_t>(*keys_back);
  map.key_width_ = static_cast<size_t>(*key_width);
  // A value takes its width and a byte for its type.
  if (*count > (size - map.values_) / (map.width_ + 1) || *count > (size - map.keys_) / map.key_width_) {
    return std::nullopt;
  }
  map.count_ = static_cast<size_t>(*count);
  return map;
}

std::optional<int64_t> FlexMap::Int(const char* key) const {
  const size_t length = std::strlen(key) + 1;  // keys are compared with their terminating zero
  for (size_t i = 0; i < count_; ++i) {
    const size_t reference = keys_ + i * key_width_;
    const auto back = ReadUint(data_, size_, reference, key_width_);
    if (!back || *back > reference) continue;
    const size_t name = reference - static_cast<size_t>(*back);
    if (size_ - name < length || std::memcmp(data_ + name, key, length) != 0) continue;
    const unsigned type = data_[values_ + count_ * width_ + i] >> 2;
    const auto raw = ReadUint(data_, size_, values_ + i * width_, width_);
    if (!raw) return std::nullopt;
    if (type == kUint || type == kBool) return static_cast<int64_t>(*raw);
    if (type != kInt) return std::nullopt;
    const int shift = static_cast<int>(64 - 8 * width_);
    return static_cast<int64_t>(*raw << shift) >> shift;
  }
  return std::nullopt;
}

}  // namespace bihrnet
