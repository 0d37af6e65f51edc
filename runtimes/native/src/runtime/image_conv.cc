// The executor's work for the convolution before one of integers.
#include "runtime/executor.h"

namespace bihrnet {

// The words of one row of its result.
void Executor::ImageConvRow(const Step& step, int y, int16_t* words) const {
  alignas(64) float nhwc[ImageConv::kRunPixels * kConvChannels];
  const LoadWords& load = step.words;
  const ImageConv& conv = load.conv;
  const auto* data = reinterpret_cast<const float*>(inputs_[static_cast<size_t>(step.tensor)]);
  const auto depth = static_cast<size_t>(conv.depth);
  const size_t row = static_cast<size_t>(conv.width) * depth;
  const int top = y * conv.stride_height - conv.pad_top;
  const auto [first_row, last_row] = TapsInside(top, conv.rows, conv.dilation_height, conv.height);
  FloatConvRow args;
  args.nhwc = nhwc;
  args.weight_row = static_cast<size_t>(conv.taps) * depth * kConvChannels;
  args.row_step = static_cast<size_t>(conv.dilation_height) * row;
  args.tap_step = static_cast<size_t>(conv.dilation_width) * depth;
  args.step = static_cast<size_t>(conv.stride_width) * depth;
  args.rows = last_row - first_row;
  Words round;
  round.nhwc = nhwc;
  round.low = load.low;
  round.high = load.high;
  round.nhwc_pitch = kConvChannels;
  round.words_pitch = PixelWords(step.channels);
  for (int channel = 0; channel < step.channels; channel += kConvChannels) {
    const auto c = static_cast<size_t>(channel);
    args.bias = &conv.bias[c];
    round.alpha = load.alpha.empty() ? nullptr : &load.alpha[c];
    round.channels = std::min(kConvChannels, step.channels - channel);
    for (const ImageConv::Run& run : conv.runs) {
      const bool any = args.rows > 0 && run.taps > 0;
      const auto tap = static_cast<size_t>(run.first_tap);
      args.image = data;
      if (any) {
        const int left = run.x * conv.stride_width - conv.pad_left + run.first_tap * conv.dilation_width;
        args.image +=
            static_cast<size_t>(top + first_row * conv.dilation_height) * row + static_cast<size_t>(left) * depth;
      }
      args.weights = conv.weights.data() + c * static_cast<size_t>(conv.rows * conv.taps) * depth +
                     static_cast<size_t>(first_row) * args.weight_row + tap * depth * kConvChannels;
      // Taps side by side are one.
      const bool joined = conv.dilation_width == 1;
      args.taps = joined ? 1 : run.taps;
      args.depth = joined ? run.taps * conv.depth : conv.depth;
      args.pixels = round.pixels = run.pixels;
      kernels_.float_conv(args);
      round.words = words + static_cast<size_t>(run.x) * static_cast<size_t>(round.words_pitch) + c;
      kernels_.words_from_nhwc(round);
    }
  }
}

}  // namespace bihrnet
