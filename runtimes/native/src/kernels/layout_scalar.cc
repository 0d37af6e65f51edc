#include "impl.h"

namespace bihrnet {

void RowsFromNhwcScalar(const Transpose& args) {
  for (int c = 0; c < args.channels; ++c) {
    float* row = args.rows[c];
    const float* from = args.nhwc + c;
    for (int p = 0; p < args.pixels; ++p, from += args.nhwc_channels) row[p] = *from;
  }
}

void NhwcFromRowsScalar(const Transpose& args) {
  for (int c = 0; c < args.channels; ++c) {
    const float* row = args.rows[c];
    float* to = args.nhwc + c;
    for (int p = 0; p < args.pixels; ++p, to += args.nhwc_channels) *to = row[p];
  }
}

}  // namespace bihrnet
