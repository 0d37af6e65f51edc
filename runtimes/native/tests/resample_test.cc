// The kernels that make rows of another width, against the formulas in kernels.h.
#include "kernel_rows.h"

namespace bihrnet {

namespace {

void TestRepeat(const Kernels& set, int factor) {
  const int width = Random(1, 50), height = Random(1, 12);
  const int pitch = width + Random(0, 4);
  const int from_height = Random(1, height), from_width = (width + factor - 1) / factor;
  const int from_pitch = from_width + Random(0, 3);
  // The smaller plane ends with its last row's last pixel.
  const Input<float> from(static_cast<size_t>(from_height - 1) * from_pitch + from_width);
  for (size_t i = 0; i < static_cast<size_t>(from_height - 1) * from_pitch + from_width; ++i) from[i] = Any(true);
  std::vector<int> rows(height);
  for (int& row : rows) row = Random(0, from_height - 1);
  const int first = Random(0, height * pitch - 1);
  const int pixels = Random(1, height * pitch - first + 20);
  OutputRows to(1, pixels);
  const Rows before(1, pixels);
  to.Fill(before);
  set.repeat({from.get(), from_pitch, rows.data(), factor, to.pointers[0], first / pitch, first % pitch, pixels, height,
              width, pitch});
  bool same = to.GuardsHold();
  for (int i = 0; i < pixels; ++i) {
    const int y = (first + i) / pitch, x = (first + i) % pitch;
    const bool image = y < height && x < width;
    same = same && SameBits(image ? from[rows[y] * from_pitch + x / factor] : before.pointers[0][i], to.pointers[0][i]);
  }
  if (!same) Fail("repeating pixels " + std::to_string(factor) + " times", set.name);
}

}  // namespace

void TestRepeats(const Kernels& set) {
  for (int factor = 1; factor <= 9; ++factor) {
    for (int i = 0; i < 200; ++i) TestRepeat(set, factor);
  }
}

void TestHalving(const Kernels& set) {
  for (int i = 0; i < 300; ++i) {
    const int pixels = Random(1, 60), rows = Random(1, 5);
    const int from_pitch = 2 * pixels + Random(0, 5), to_pitch = pixels + Random(0, 3);
    const size_t size = static_cast<size_t>(2 * rows - 1) * from_pitch + 2 * pixels;
    const int to_size = (rows - 1) * to_pitch + pixels;
    const Input<float> from(size);
    for (size_t k = 0; k < size; ++k) from[k] = Floats(1)[0];
    OutputRows to(1, to_size);
    const Rows before(1, to_size);
    to.Fill(before);
    set.halve({from.get(), to.pointers[0], pixels, rows, from_pitch, to_pitch});
    bool same = to.GuardsHold();
    for (int p = 0; p < to_size; ++p) {
      const int x = p % to_pitch;
      const float* upper = from.get() + static_cast<size_t>(p / to_pitch) * 2 * from_pitch + 2 * x;
      volatile float sum = 0.0f;  // volatile: each step is rounded on its own
      if (x < pixels) {
        sum = upper[0] + upper[1];
        sum = sum + upper[from_pitch];
        sum = sum + upper[from_pitch + 1];
      }
      same = same && SameBits(x < pixels ? sum * 0.25f : before.pointers[0][p], to.pointers[0][p]);
    }
    if (!same) Fail("halving of " + std::to_string(pixels) + " pixels", set.name);
  }
}

void TestEverySecond(const Kernels& set) {
  for (int i = 0; i < 300; ++i) {
    const int count = Random(1, 70), rows = Random(1, 5);
    const int from_pitch = 2 * count + Random(0, 5), to_pitch = count + Random(0, 3);
    const size_t size = static_cast<size_t>(rows - 1) * from_pitch + 2 * count;
    const Input<uint8_t> from(size);
    for (size_t k = 0; k < size; ++k) from[k] = static_cast<uint8_t>(Random(0, 255));
    const std::vector<uint8_t> before(static_cast<size_t>(rows) * to_pitch, 0xaa);
    std::vector<uint8_t> to = before, expected = before;
    set.every_second({from.get(), to.data(), count, rows, from_pitch, to_pitch});
    for (int row = 0; row < rows; ++row) {
      for (int k = 0; k < count; ++k) expected[row * to_pitch + k] = from[row * from_pitch + 2 * k];
    }
    if (to != expected) Fail("every second of " + std::to_string(count) + " bytes", set.name);
  }
}

}  // namespace bihrnet
