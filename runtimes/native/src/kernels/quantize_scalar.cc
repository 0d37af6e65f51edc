#include "impl.h"

namespace bihrnet {

void QuantizeScalar(const Quantize& args) {
  for (int p = 0; p < args.pixels; ++p) {
    unsigned bits = 0;
    for (int c = 0; c < args.channels; ++c) {
      const float bias = args.bias != nullptr ? args.bias[c] : 0.0f;
      bits |= static_cast<unsigned>(args.rows[c][p] + bias < 0.0f) << c;
    }
    args.nibbles[p] = static_cast<uint8_t>(args.mask[p] & bits);
  }
}

}  // namespace bihrnet
