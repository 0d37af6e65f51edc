// libFuzzer target: the reader of LCE's options.
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "graph/flexbuffer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // A block of exactly the size, so that a read behind it is seen.
  const auto release = [](uint8_t* block) { std::free(block); };
  const std::unique_ptr<uint8_t, decltype(release)> bytes(static_cast<uint8_t*>(std::malloc(size)), release);
  if (size) std::memcpy(bytes.get(), data, size);
  const std::optional<bihrnet::FlexMap> map = bihrnet::FlexMap::Parse(bytes.get(), size);
  if (!map) return 0;
  for (const char* key : {"channels_in", "dilation_height_factor", "dilation_width_factor", "fused_activation_function",
                          "pad_values", "padding", "stride_height", "stride_width", "filter_height", "", "a", "zzz"}) {
    map->Int(key);
  }
  return 0;
}
