// What threads share out: the steps of a level, cut into items that may run at the same time.
#pragma once

#include <vector>

#include "compiler/program.h"

namespace bihrnet {

// Most pixels of an item of a convolution of integers: what 16 channels of them take leaves room in a first cache for
// weights.
constexpr int kConvPixels = 256;

// A part of a step: quads and pixels in the step's own geometry; of kLoadWords, rows in place of pixels.
struct Item {
  int step;
  int first_quad;
  int quads;
  int first_pixel;
  int pixels;
  bool pixels_outside;  // the outer loop is over pixels, else over quads
};

// Half of the threads take a level's items from its front, the others from its back. A step's first half lies at the
// front, its second at the back: a core mostly finds what it wrote itself.
struct Schedule {
  std::vector<Item> items;  // level by level, and one more
  std::vector<int> levels;  // by level: its first item; and the end
};

Schedule ScheduleItems(const Program& program, int threads);

}  // namespace bihrnet
