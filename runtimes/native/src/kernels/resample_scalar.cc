#include "impl.h"

namespace bihrnet {

void HalveRowScalar(const Halve& args) {
  const float* upper = args.upper;
  const float* lower = args.lower;
  for (int i = 0; i < args.pixels; ++i) {
    args.row[i] = (upper[2 * i] + upper[2 * i + 1] + lower[2 * i] + lower[2 * i + 1]) * 0.25f;
  }
}

void RepeatRowsScalar(const Repeat& args) {
  ForEachRow(args, [&](const float* from, int x, float* to, int count) {
    for (int i = 0; i < count; ++i) to[i] = from[(x + i) / args.factor];
  });
}

void EverySecondScalar(const Alternate& args) {
  const uint8_t* from = args.from;
  uint8_t* to = args.to;
  for (int row = 0; row < args.rows; ++row, from += args.from_pitch, to += args.to_pitch) {
    for (int i = 0; i < args.count; ++i) to[i] = from[2 * i];
  }
}

}  // namespace bihrnet
