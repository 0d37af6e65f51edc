#include "impl.h"

namespace bihrnet {

void HalveRowsScalar(const Halve& args) {
  const float* upper = args.from;
  float* to = args.to;
  for (int row = 0; row < args.rows; ++row, upper += 2 * args.from_pitch, to += args.to_pitch) {
    HalveRow(upper, upper + args.from_pitch, to, 0, args.pixels);
  }
}

void RepeatRowsScalar(const Repeat& args) { RepeatEach(args); }

void EverySecondScalar(const Alternate& args) {
  const uint8_t* from = args.from;
  uint8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, from += args.from_pitch, to += args.to_pitch) {
    for (int i = 0; i < args.count; ++i) to[i] = from[2 * i];
  }
}

}  // namespace bihrnet
