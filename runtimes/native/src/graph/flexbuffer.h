// The integers of a FlexBuffer map, which is how LCE's operators carry their attributes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

namespace bihrnet {

// A view of a FlexBuffer whose root is a map. Nothing outside [data, data + size) is ever read.
class FlexMap {
 public:
  // Returns nothing where the bytes are no FlexBuffer map. `data` must outlive the result.
  static std::optional<FlexMap> Parse(const uint8_t* data, size_t size);

  // The integer called `key`: signed, unsigned or bool, stored inline. Nothing where there is none.
  std::optional<int64_t> Int(const char* key) const;

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
  size_t values_ = 0;  // offset of the first value
  size_t width_ = 0;   // bytes a value
  size_t count_ = 0;
  size_t keys_ = 0;  // offset of the first key reference
  size_t key_width_ = 0;
};

}  // namespace bihrnet
